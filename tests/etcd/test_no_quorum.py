"""Managers that are too few: what they answer, how soon, and how one of them goes on alone."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from etcd_cluster import until
from managers_bed import STARTS_S, Cluster, Manager, said, service, set_role, tasks_of, written

from meshnet import ends
from meshnet.model.wellknown import CONTROL_PORT
from meshnet_control.api import control_pb2 as pb
from meshnet_control.store import files
from meshnet_control.store.store import (
    NO_LEADER,
    Change,
    Put,
    Store,
    StoreNoLeaderError,
)

pytestmark = [pytest.mark.etcd, pytest.mark.timeout(240)]

PATIENCE_S = 5.0
"""For which a person waits."""


async def refused(manager: Manager) -> float:
    """Seconds that a write takes to be refused for want of a leader."""
    began = time.monotonic()
    with pytest.raises(StoreNoLeaderError):
        await manager.store.commit([Put(service("refused"))], {})
    return time.monotonic() - began


async def heard(store: Store, into: list[str]) -> None:
    """Names of services as a watch tells of them; what it missed is told as one."""
    changes: Sequence[Change]
    async for changes in store.watch(store.revision):
        into += [c.message.spec.name for c in changes if isinstance(c.message, pb.Service)]


async def test_reads_are_answered_and_writes_refused_in_the_time_a_person_waits(
    cluster: Cluster, record_property
):
    one = cluster.managers[0]
    two, three = await cluster.another("m1"), await cluster.another("m2")
    kept = service("kept")
    await written(two, kept)
    told: list[str] = []
    watching = asyncio.create_task(heard(two.store, told))
    try:
        await asyncio.gather(*(each.end(signal.SIGKILL) for each in (one, three)))
        began = time.monotonic()
        assert await two.store.get(pb.Service, kept.id) is not None
        read_s = time.monotonic() - began
        first_s = await refused(two)
        at_once_s = await refused(two)
        began = time.monotonic()
        assert await two.store.list(pb.Node)
        again_s = time.monotonic() - began
        said = f"read {read_s:.1f} s, write {first_s:.1f} s; then {at_once_s:.2f}, {again_s:.2f} s"
        record_property("no_quorum", said)
        print(said)  # noqa: T201
        assert max(read_s, first_s) < PATIENCE_S
        assert max(at_once_s, again_s) < 0.5
        assert NO_LEADER in two.store.trouble

        # it begins again, alone: whoever asks meanwhile hears it in time, too
        await two.end(signal.SIGKILL)
        await two.start()
        began = time.monotonic()
        with pytest.raises(StoreNoLeaderError):
            await two.store.list(pb.Service)
        alone_s = time.monotonic() - began
        record_property("begins_alone_s", round(alone_s, 1))
        print(f"begins alone: said after {alone_s:.1f} s")  # noqa: T201
        assert alone_s < PATIENCE_S + 3.0  # process and etcd start, on a busy machine of tests
        assert await refused(two) < 0.5
        await until(lambda: two.link.error == NO_LEADER, STARTS_S)

        # one more is enough; who listened all the time hears what is written then
        await three.start()
        for each in (two, three):
            await each.serves()
        await until(lambda: not two.link.error, STARTS_S)
        await written(three, service("again"))
        await until(lambda: "again" in told, STARTS_S)
    finally:
        await ends.ended(watching)


async def only_one(manager: Manager) -> bool:
    return set((await said(manager)).values()) == {(True, "reachable")}


async def is_at(manager: Manager, addr: str) -> bool:
    node = await manager.store.get(pb.Node, manager.who.node_id)
    return node is not None and node.manager_status.addr == addr


async def force(manager: Manager) -> float:
    began = time.monotonic()
    who = manager.who
    await manager.link.force_new_cluster(who.advertise_addr, who.listen_addr)
    return time.monotonic() - began


async def test_the_survivor_goes_on_alone_with_all_state_and_the_others_find_out(
    cluster: Cluster, record_property
):
    one = cluster.managers[0]
    two, three = await cluster.another("m1"), await cluster.another("m2")
    kept = service("kept", 2)
    await written(two, kept)
    await until(lambda: has_tasks(two, kept.id, 2), STARTS_S)
    (before,) = await two.store.list(pb.Cluster)
    index = two.store.revision
    tasks = {t.id for t in await two.store.list(pb.Task)}
    told: list[str] = []
    watching = asyncio.create_task(heard(two.store, told))
    try:
        await asyncio.gather(*(each.end(signal.SIGKILL) for each in (one, three)))
        await refused(two)
        await two.end(signal.SIGKILL)  # and its host was started again, too
        await two.start()
        await until(lambda: two.link.error == NO_LEADER, STARTS_S)

        took_s = await force(two)
        record_property("force_new_cluster_s", round(took_s, 1))
        print(f"goes on alone after {took_s:.1f} s")  # noqa: T201
        assert not two.link.error
        assert two.store.revision >= index
        (after,) = await two.store.list(pb.Cluster)
        for field in ("ca_certificate", "ca_key", "join_tokens", "gossip_keys", "spec"):
            assert getattr(after, field) == getattr(before, field)
        assert tasks <= {t.id for t in await two.store.list(pb.Task)}
        alone = service("alone")
        await written(two, alone)
        await until(lambda: has_tasks(two, alone.id, 1), STARTS_S)
        await until(lambda: "alone" in told, STARTS_S)  # who listened before hears on
        # the lost ones are nodes still, and nobody's managers
        await until(lambda: only_one(two), STARTS_S)
        nodes = {n.id: n for n in await two.store.list(pb.Node)}
        assert {one.who.node_id, three.who.node_id} < nodes.keys()
        assert nodes[one.who.node_id].spec.role == "manager"

        # once more is harmless, on one manager alone
        await force(two)
        assert await two.store.get(pb.Service, alone.id) is not None
    finally:
        await ends.ended(watching)

    # the others come back together: most of the old managers, and yet they are nobody
    await set_role(two, three.who.node_id, "worker")
    all_of_them = tuple(each.who.advertise_addr for each in (one, two, three))
    for each in (one, three):
        each.who = replace(each.who, managers=all_of_them)  # as their meshnetd has written it
    await asyncio.gather(one.start(), three.start())
    await until(lambda: "is not to be a manager" in three.link.error, STARTS_S)
    assert not (three.path / "state/store.key").exists()
    assert not (three.path / "state/etcd").exists()
    # who is to be a manager still becomes one anew
    await until(lambda: both(two, one), STARTS_S)
    await one.serves()
    assert await one.store.get(pb.Service, alone.id) is not None
    for log in (one.log(), three.log()):
        assert "this manager leads\n" not in log.rpartition("opening the store")[2]


async def both(two: Manager, one: Manager) -> bool:
    return await said(two) == {
        two.who.node_id: (True, "reachable"),
        one.who.node_id: (False, "reachable"),
    }


async def has_tasks(manager: Manager, service_id: str, number: int) -> bool:
    return len(await tasks_of(manager, service_id)) == number


@pytest.mark.parametrize("after_s", [0.05, 0.7, 1.6])
async def test_a_crash_leaves_a_manager_as_it_was_or_alone(cluster: Cluster, after_s: float):
    one = cluster.managers[0]
    two = await cluster.another("m1")
    kept = service("kept")
    await written(two, kept)
    index = two.store.revision
    await one.end(signal.SIGKILL)
    await refused(two)
    forcing = asyncio.create_task(force(two))
    await asyncio.sleep(after_s)  # any moment will do
    await two.end(signal.SIGKILL)
    forcing.cancel()
    await asyncio.gather(forcing, return_exceptions=True)
    await two.start()
    await until(lambda: settled(two), STARTS_S)
    if two.link.error:
        await force(two)
    await two.serves()
    assert not (two.path / "state/etcd-salvaged").exists()
    assert two.store.revision >= index
    assert await two.store.get(pb.Service, kept.id) is not None
    await until(lambda: only_one(two), STARTS_S)
    await written(two, service("alone"))


async def settled(manager: Manager) -> bool:
    return manager.link.error == NO_LEADER or bool(await said(manager))


async def test_the_survivor_goes_on_at_another_address_and_others_join_it_there(cluster: Cluster):
    one = cluster.managers[0]
    two = await cluster.another("m1")
    kept = service("kept")
    await written(two, kept)
    await one.end(signal.SIGKILL)
    cluster.managers.reverse()  # the first one is asked to let others in
    await refused(two)
    addr = f"{cluster.net[200]}:{CONTROL_PORT}"
    await two.link.force_new_cluster(addr, addr)
    two.who = replace(two.who, advertise_addr=addr, listen_addr=addr)
    await until(lambda: only_one(two), STARTS_S)
    await until(lambda: is_at(two, addr), STARTS_S)
    three = await cluster.another("m2", known=(addr,))
    assert await three.store.get(pb.Service, kept.id) is not None
    await until(lambda: both(two, three), STARTS_S)


async def test_a_single_manager_is_forced_in_vain(cluster: Cluster):
    one = cluster.managers[0]
    kept = service("kept")
    await written(one, kept)
    index = one.store.revision
    await force(one)
    assert (one.path / "state/store.db").exists()
    assert one.store.revision >= index
    assert await one.store.get(pb.Service, kept.id) is not None
    await written(one, service("more"))


async def test_a_locked_cluster_goes_on_alone_unlocked_and_is_locked_at_its_next_start(
    cluster: Cluster,
):
    one = cluster.managers[0]
    two = await cluster.another("m1")
    key = bytes(range(32))
    (found,) = await one.store.list(pb.Cluster)
    found.unlock_key = key
    await one.store.commit([Put(found)], {(pb.Cluster, found.id): found.version.index})
    ring = two.path / "state" / files.STORE_KEY
    await until(lambda: b'"locked"' in ring.read_bytes(), STARTS_S)
    kept = service("kept")
    await written(two, kept)
    await one.end(signal.SIGKILL)
    await refused(two)
    await force(two)
    assert await two.store.get(pb.Service, kept.id) is not None
    await two.end(signal.SIGKILL)
    await two.start()
    await until(lambda: two.link.locked, STARTS_S)
    await two.link.unlock(key)
    assert await two.store.get(pb.Service, kept.id) is not None


async def test_managers_that_were_there_all_the_time_yield_to_the_one_that_went_on_without_them(
    cluster: Cluster,
):
    one = cluster.managers[0]
    two, three = await cluster.another("m1"), await cluster.another("m2")
    kept = service("kept")
    await written(two, kept)
    await until(lambda: everybody(three, 3), STARTS_S)
    await force(three)
    await written(three, service("alone"))
    for each in (one, two):  # they end, and whoever keeps them starts them again
        assert each.process is not None
        assert await asyncio.wait_for(each.process.wait(), STARTS_S) == 1
        assert not (each.path / "state/etcd").exists()
        each.who = replace(each.who, managers=(three.who.advertise_addr,))
        await each.start()
    await until(lambda: everybody(three, 3), STARTS_S)
    for each in (one, two):
        await each.serves()
        names = {s.spec.name for s in await each.store.list(pb.Service)}
        assert names == {"kept", "alone"}


async def everybody(manager: Manager, number: int) -> bool:
    return [how for _, how in (await said(manager)).values()] == ["reachable"] * number
