"""Three managers of one cluster, each a process with an etcd of its own, on loopback addresses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
from etcd_cluster import until
from managers_bed import (
    STARTS_S,
    Cluster,
    Manager,
    are,
    said,
    service,
    set_role,
    tasks_of,
    written,
)

from meshnet import ends
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc, manager_pb2_grpc
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.identity import ca, rotation
from meshnet_control.identity.channel import call_ends, channel
from meshnet_control.identity.identity import Identity
from meshnet_control.manager import archive
from meshnet_control.node.dispatcher_client import DispatcherClient
from meshnet_control.store import files, keyring
from meshnet_control.store.keyring import StoreSealedError
from meshnet_control.store.store import NO_LEADER, Put

pytestmark = [pytest.mark.etcd, pytest.mark.timeout(240)]


async def test_managers_join_lead_die_and_go(cluster: Cluster, record_property):
    one = cluster.managers[0]
    before = service("before", 2)
    await written(one, before)
    await until(lambda: _count(one, before.id, 2))
    index = one.store.revision
    objects = {n.id for n in await one.store.list(pb.Network)}

    two = await cluster.another("m1")
    three = await cluster.another("m2")
    assert not (one.path / "state/store.db").exists()
    assert {n.id for n in await three.store.list(pb.Network)} == objects
    await until(are(three, (one, True, "reachable"), (two, False, "reachable"),
                    (three, False, "reachable")), STARTS_S)  # fmt: skip
    assert two.store.revision > index
    assert await _count(two, before.id, 2)

    # what is written at one is read at each, at once; the leader makes its tasks
    after = service("after")
    await written(two, after)
    assert await three.store.get(pb.Service, after.id) is not None
    await until(lambda: _count(three, after.id, 1))

    # a worker turns to who leads, and to the next one when that dies
    who = await cluster.member("w", "worker")
    agent = Agent(replace(who, managers=(three.who.advertise_addr, one.who.advertise_addr)))
    working = asyncio.create_task(agent.client.run())
    try:
        await until(lambda: _ready(two, who.node_id), STARTS_S)
        await until(lambda: agent.managers()[:1] == [one.who.advertise_addr])
        running = {t.id for t in await two.store.list(pb.Task)}

        began = time.monotonic()
        following = asyncio.create_task(_goes_on(agent, one))
        await one.end(signal.SIGKILL)
        took_s = await written(two, service("next"))
        record_property("write_after_the_leaders_death_s", round(took_s, 2))
        print(f"writes again {took_s:.2f} s after the leader's death")  # noqa: T201
        assert took_s < 8.0  # measured: 1 to 2.5 s; a machine of tests may be busy
        followed_s = await following - began
        record_property("nodes_after_the_leaders_death_s", round(followed_s, 2))
        print(f"a node at the next leader {followed_s:.2f} s after the leader's death")  # noqa: T201
        assert followed_s < took_s + 4.0
        led = await until(lambda: _leader(two), STARTS_S)
        assert led in {two.who.node_id, three.who.node_id}
        next_leader, other = (two, three) if led == two.who.node_id else (three, two)
        await until(are(other, (one, False, "unreachable"), (next_leader, True, "reachable"),
                        (other, False, "reachable")), STARTS_S)  # fmt: skip
        await until(lambda: agent.managers()[:1] == [next_leader.who.advertise_addr], STARTS_S)
        assert await _ready(two, who.node_id)
        assert running <= {t.id for t in await two.store.list(pb.Task)}
    finally:
        await ends.ended(working)

    # it comes back, and follows
    await one.start()
    await one.serves()
    assert await one.store.get(pb.Service, after.id) is not None
    await until(are(one, (one, False, "reachable"), (next_leader, True, "reachable"),
                    (other, False, "reachable")), STARTS_S)  # fmt: skip

    # who leads is to go: it hands over first, and is let out by who leads then
    await set_role(other, next_leader.who.node_id, "worker")
    await until(lambda: _without(other, next_leader), STARTS_S)
    assert next_leader.process is not None
    assert await asyncio.wait_for(next_leader.process.wait(), STARTS_S) == 1
    assert not (next_leader.path / "state/etcd").exists()
    await written(one, service("with two"))

    # and back to one manager
    await set_role(one, other.who.node_id, "worker")
    await until(are(one, (one, True, "reachable")), STARTS_S)
    alone = service("alone")
    await written(one, alone)
    await until(lambda: _count(one, alone.id, 1))


async def _goes_on(agent: Agent, without: Manager) -> float:
    """When another manager has answered its stream, monotonic seconds."""
    async with asyncio.timeout(STARTS_S):
        while not agent.client.connected or agent.client.remote == without.who.advertise_addr:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return time.monotonic()


async def _count(manager: Manager, service_id: str, number: int) -> bool:
    return len(await tasks_of(manager, service_id)) == number


async def _ready(manager: Manager, node_id: str) -> bool:
    node = await manager.store.get(pb.Node, node_id)
    return node is not None and node.status.state == "ready"


async def _leader(manager: Manager) -> str:
    """Who is said to lead and is reachable."""
    leads = [n for n, (led, how) in (await said(manager)).items() if led and how == "reachable"]
    dead = manager.who.managers[0] if manager.who.managers else ""
    nodes = {n.manager_status.addr: n.id for n in await manager.store.list(pb.Node)}
    return leads[0] if len(leads) == 1 and leads[0] != nodes.get(dead) else ""


async def _without(manager: Manager, gone: Manager) -> bool:
    statuses = await said(manager)
    return gone.who.node_id not in statuses and any(led for led, _ in statuses.values())


class Agent:
    """A node's session."""

    def __init__(self, who: Identity) -> None:
        self._told: list[NodeState] = []
        description = pb.NodeDescription(hostname="w")
        self.client = DispatcherClient(who, description, self._told.append, alongside=self._talks)

    async def _talks(self, link: grpc.aio.Channel) -> None:
        """Whatever log it is asked for has one line."""
        with call_ends():
            await self._talk(link)

    async def _talk(self, link: grpc.aio.Channel) -> None:
        stub = control_pb2_grpc.LogBrokerStub(link)
        asked = stub.Listen(pb.ListenRequest())
        while isinstance(found := await asked.read(), pb.LogSubscription):
            if found.close:
                continue
            said = stub.Publish()
            line = pb.LogLine(stream=1, timestamp="2026-11-26T04:00:00.000000000Z",
                              data=b"hello from the task\n")  # fmt: skip
            await said.write(pb.LogBatch(subscription_id=found.id, lines=[line]))
            await said.write(pb.LogBatch(subscription_id=found.id, last=True))
            await said.done_writing()

    def managers(self) -> list[str]:
        return [each.addr for each in self._told[-1].settings.managers] if self._told else []


async def test_all_managers_begin_again_after_a_power_cut(cluster: Cluster):
    one = cluster.managers[0]
    two, three = await cluster.another("m1"), await cluster.another("m2")
    kept = service("kept")
    await written(two, kept)
    revision = two.store.revision
    await asyncio.gather(*(each.end(signal.SIGKILL) for each in (one, two, three)))

    # alone it has no quorum: it says so, and stays for the others
    await two.start()
    await until(lambda: two.link.error == NO_LEADER, STARTS_S)
    assert two.process is not None
    assert two.process.returncode is None
    await three.start()
    for each in (two, three):
        await each.serves()
    assert await three.store.get(pb.Service, kept.id) is not None
    assert three.store.revision >= revision
    await written(three, service("with two of three"))
    await one.start()
    await one.serves()
    await until(lambda: _all_reachable(one, 3), STARTS_S)


async def test_a_backup_of_what_is_in_etcd_restores_one_manager(cluster: Cluster):
    one = cluster.managers[0]
    two = await cluster.another("m1")
    kept = service("kept")
    await written(two, kept)
    index, file = two.store.revision, cluster._path / "backup.tar"
    await two.link.backup(file)
    found = await asyncio.to_thread(archive.restore, file, cluster._path / "fresh")
    assert found.cluster_id == one.who.cluster_id
    restored = await files.opened(cluster._path / "fresh", one.who.cluster_id)
    try:
        assert restored.revision >= index
        for kind in (pb.Service, pb.Node, pb.Cluster, pb.Network):
            theirs = {each.id for each in await two.store.list(kind)}
            assert {each.id for each in await restored.list(kind)} == theirs
        found_service = await restored.get(pb.Service, kept.id)
        assert found_service is not None
        assert found_service.spec == kept.spec
    finally:
        await restored.close()


async def test_managers_of_a_locked_cluster_are_locked_each(cluster: Cluster):
    one = cluster.managers[0]
    two = await cluster.another("m1")
    key = bytes(range(32))
    (found,) = await one.store.list(pb.Cluster)
    found.unlock_key = key
    await one.store.commit([Put(found)], {(pb.Cluster, found.id): found.version.index})
    await until(lambda: all(_locked(each) for each in (one, two)), STARTS_S)
    three = await cluster.another("m2")
    assert _locked(three)
    for each in (two, three):
        await each.end(signal.SIGKILL)
    for each in (two, three):
        await each.start()
    await until(lambda: two.link.locked and three.link.locked, STARTS_S)
    await asyncio.gather(*(each.link.unlock(key) for each in (two, three)))
    for each in (two, three):
        await each.serves()


async def test_a_manager_that_follows_reads_logs_where_the_nodes_are(cluster: Cluster):
    one = cluster.managers[0]
    two = await cluster.another("m1")
    who = await cluster.member("w", "worker")
    agent = Agent(replace(who, managers=(two.who.advertise_addr, one.who.advertise_addr)))
    working = asyncio.create_task(agent.client.run())
    try:
        await until(lambda: _ready(two, who.node_id), STARTS_S)
        talks = service("talks")
        await written(two, talks)
        await until(lambda: _runs_on(two, talks.id, who.node_id), STARTS_S)
        asked = mpb.LogRequest(service=talks.id, options=pb.LogOptions(stdout=True, tail="all"))
        await until(lambda: _reads(one, asked, b"hello from the task"), STARTS_S)
        await until(lambda: _reads(two, asked, b"hello from the task"), STARTS_S)
    finally:
        await ends.ended(working)
    async with channel(one.who.advertise_addr, who.certs) as link:
        call = manager_pb2_grpc.LogsStub(link).Read(asked)
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED


async def _reads(manager: Manager, asked: mpb.LogRequest, wanted: bytes) -> bool:
    return wanted in b"".join([data async for data in manager.link.logs.read(asked)])


async def _runs_on(manager: Manager, service_id: str, node_id: str) -> bool:
    """The service has a task on a node, which is said to run as the node would say it."""
    for task in await tasks_of(manager, service_id):
        if task.node_id != node_id:
            continue
        task.status.state = pb.TASK_STATE_RUNNING
        task.status.container_status.container_id = "c" * 64
        await manager.store.commit([Put(task)], {(pb.Task, task.id): task.version.index})
        return True
    return False


async def test_managers_trust_a_new_root_one_after_the_other(cluster: Cluster):
    one = cluster.managers[0]
    two = await cluster.another("m1")
    (found,) = await one.store.list(pb.Cluster)
    new = ca.new_root(found.id, time.time())
    rotation.begin(found, *new)
    await one.store.commit([Put(found)], {(pb.Cluster, found.id): found.version.index})
    await until(lambda: all(_trusts(each, new[0]) for each in (one, two)), STARTS_S)
    await until(lambda: all("etcd starts anew" in each.log() for each in (one, two)), STARTS_S)
    await written(two, service("meanwhile"))

    # whoever has a certificate of the new root is a peer like any other
    root, key, crossed = rotation.signer(found)
    assert root == new[0]
    cluster.signs = (root, key, crossed)
    three = await cluster.another("m2")
    await until(lambda: _all_reachable(three, 3), STARTS_S)


def _trusts(manager: Manager, root: bytes) -> bool:
    return root in (manager.path / "state" / files.ETCD_TLS / "roots.pem").read_bytes()


def _locked(manager: Manager) -> bool:
    try:
        keyring.load(manager.path / "state" / files.STORE_KEY)
    except StoreSealedError:
        return True
    return False


async def test_a_manager_that_is_no_manager_for_the_others_is_refused(cluster: Cluster):
    one = cluster.managers[0]
    addr = cluster.addr()
    who = await cluster.member("w", "manager", addr)
    await set_role(one, who.node_id, "worker")
    stranger = Manager(cluster._path / "stranger", replace(who, advertise_addr=addr,
                       listen_addr=addr))  # fmt: skip
    cluster.managers.append(stranger)
    await stranger.start()
    await until(lambda: "is not to be a manager" in stranger.link.error, STARTS_S)
    assert not (stranger.path / "state/store.key").exists()
    assert (one.path / "state/store.db").exists()  # nobody joined: nothing has moved


async def _all_reachable(manager: Manager, number: int) -> bool:
    statuses = list((await said(manager)).values())
    return len(statuses) == number and all(how == "reachable" for _, how in statuses)


async def test_a_manager_whose_data_are_damaged_says_so_and_comes_anew_without_them(
    cluster: Cluster,
):
    one = cluster.managers[0]
    two, three = await cluster.another("m1"), await cluster.another("m2")
    everybody = ((one, True, "reachable"), (two, False, "reachable"), (three, False, "reachable"))
    await until(are(one, *everybody), STARTS_S)
    await written(one, service("before"))
    await three.end(signal.SIGKILL)
    data = three.path / "state/etcd"
    log = next(data.glob("member/wal/*.wal"))
    content = log.read_bytes()
    log.write_bytes(content.replace(three.who.node_id.encode(), b"x" * len(three.who.node_id), 1))
    await three.start()
    error = await until(lambda: three.link.error, STARTS_S)
    assert "crc mismatch" in error
    assert f"remove {data}" in error
    meanwhile = service("meanwhile")
    await written(two, meanwhile)
    await three.end()
    shutil.rmtree(data)
    await three.start()
    await three.serves()
    assert await three.store.get(pb.Service, meanwhile.id) is not None
    await until(are(one, *everybody), STARTS_S)
    await written(three, service("after"))


async def test_a_manager_whose_data_are_removed_while_it_runs_comes_anew(cluster: Cluster):
    one = cluster.managers[0]
    two, three = await cluster.another("m1"), await cluster.another("m2")
    everybody = ((one, True, "reachable"), (two, False, "reachable"), (three, False, "reachable"))
    await until(are(one, *everybody), STARTS_S)
    data = three.path / "state/etcd"
    assert three.process is not None
    first = await until(lambda: etcd_of(data))
    os.kill(first, signal.SIGKILL)  # the next one has seen its log
    second = await until(lambda: etcd_of(data, first), STARTS_S)
    (data / "member").rename(three.path / "gone")
    with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
        os.kill(second, signal.SIGKILL)
    assert await asyncio.wait_for(three.process.wait(), STARTS_S) == 1
    assert (three.path / "state/store.key").exists()
    meanwhile = service("meanwhile")
    await written(two, meanwhile)
    await three.start()
    await three.serves()
    assert await three.store.get(pb.Service, meanwhile.id) is not None
    await until(are(one, *everybody), STARTS_S)


def etcd_of(data: Path, before: int = 0) -> int:
    """The process of etcd there; 0: none, or the one before."""
    given = f"--data-dir={data}".encode()
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if given in each.read_bytes().split(b"\0") and int(each.parent.name) != before:
                return int(each.parent.name)
    return 0
