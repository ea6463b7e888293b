"""Managers that are cut off from each other: is the store one store, and what is each told?

``MESHNET_PARTITIONS_S`` has it last longer than the seeded run of a tier, ``MESHNET_SEED`` be
another one.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from itertools import permutations

import pytest
from etcd_cluster import until
from etcd_hosts import EtcdHosts
from registers import Recorder

from meshnet_control.api.control_pb2 import Task
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.quorum import ELECTION_S
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import NO_LEADER, Put, StoreError, StoreNoLeaderError

SECONDS = float(os.environ.get("MESHNET_PARTITIONS_S", "25"))
SEED = int(os.environ.get("MESHNET_SEED", "1"))
pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.timeout(SECONDS + 130)]


@pytest.fixture
async def hosts(tmp_path):
    """Name: hosts. Scope: function. Three members on hosts of their own."""
    async with EtcdHosts(tmp_path, 3) as made:
        yield made


async def opened(hosts: EtcdHosts) -> list[EtcdStore]:
    return [await EtcdStore.open(client, Sealer([bytes(32)])) for client in hosts.clients]


async def trouble(chance: random.Random, hosts: EtcdHosts) -> dict[str, int]:
    """Cuts of every kind, alone and beside kills and pauses; how often each."""
    until_s = time.monotonic() + SECONDS
    done: dict[str, int] = {}
    while time.monotonic() < until_s:
        await asyncio.sleep(chance.uniform(0.2, 1.0))
        leader = await hosts.leader()
        one, two, three = chance.sample(range(3), 3)
        cuts = {
            "the leader": hosts.around(leader),
            "one": hosts.around(one),
            "two from each other": {(one, two), (two, one)},
            "one way": {(one, two)},
            "the leader is not heard": {(leader, n) for n in range(3) if n != leader},
            "the leader hears nobody": {(n, leader) for n in range(3) if n != leader},
            "in a ring": {(one, two), (two, three), (three, one)},
            "all": set(permutations(range(3), 2)),
        }
        name = chance.choice(list(cuts))
        done[name] = done.get(name, 0) + 1
        await hosts.cut(cuts[name])
        victim = hosts.members[chance.randrange(3)]
        what = chance.choice([signal.SIGKILL, signal.SIGSTOP, None, None])
        if what is not None:
            hosts.signal(victim, what)
        await asyncio.sleep(chance.choice([0.3, 1.0, 4.0]))
        if what is signal.SIGSTOP and chance.random() < 0.5:  # it wakes up while others are cut off
            hosts.signal(victim, signal.SIGCONT)
            await asyncio.sleep(chance.uniform(0, 1.0))
        await hosts.heal()
        hosts.signal(victim, signal.SIGCONT)
    return done


async def test_one_store(hosts: EtcdHosts):
    recorder = Recorder(SEED)
    stores = await opened(hosts)
    clients = [asyncio.create_task(recorder.client(store)) for store in stores for _ in range(2)]
    try:
        done = await trouble(random.Random(SEED), hosts)
    finally:
        recorder.over.set()
        await asyncio.gather(*clients)
    print(done, len(recorder.commits), recorder.unknown, recorder.refused)  # noqa: T201
    await recorder.judge(stores)
    assert len(recorder.commits) > 40
    assert recorder.refused
    for store in stores:
        await store.close()


@pytest.mark.parametrize("way", ["both ways", "it is not heard", "it hears nobody"])
async def test_a_leader_that_is_cut_off(hosts: EtcdHosts, way: str):
    stores = await opened(hosts)
    leader = await hosts.leader()
    mine, other = stores[leader], stores[(leader + 1) % 3]
    await mine.commit([Put(Task(id="a"))])
    await other.list(Task)
    out = {(leader, n) for n in range(3) if n != leader}
    back = {(b, a) for a, b in out}
    await hosts.cut({"both ways": out | back, "it is not heard": out, "it hears nobody": back}[way])
    began = time.monotonic()
    with pytest.raises(StoreNoLeaderError, match=NO_LEADER):
        await mine.commit([Put(Task(id="b"))])
    assert time.monotonic() - began < ELECTION_S + 2
    began = time.monotonic()
    for _ in range(10):
        with pytest.raises(StoreNoLeaderError) as refused:
            await mine.commit([Put(Task(id="c"))])
        assert not refused.value.uncertain
        assert "a" in {task.id for task in await mine.list(Task)}  # what was last known
        assert NO_LEADER in mine.trouble
    assert time.monotonic() - began < 0.5

    async def written() -> bool:
        try:
            await other.commit([Put(Task(id="d"))])
        except StoreError:
            return False
        return True

    await until(written, 5)
    await hosts.heal()
    await until(mine.caught_up, 10)
    assert {"a", "d"} <= {task.id for task in await mine.list(Task)} <= {"a", "b", "d"}
    await mine.commit([Put(Task(id="e"))])
    for store in stores:
        await store.close()


async def test_a_manager_that_hears_but_is_not_heard_says_so_though_nobody_asks(hosts: EtcdHosts):
    stores = await opened(hosts)
    one = (await hosts.leader() + 1) % 3
    await hosts.cut({(one, n) for n in range(3) if n != one})
    await until(lambda: NO_LEADER in stores[one].trouble, 15)
    await hosts.heal()
    await until(lambda: not stores[one].trouble, 10)
    for store in stores:
        await store.close()


async def test_without_a_majority_nobody_writes_and_everybody_reads(hosts: EtcdHosts):
    stores = await opened(hosts)
    await stores[0].commit([Put(Task(id="a"))])
    for store in stores:
        await store.list(Task)
    await hosts.cut(permutations(range(3), 2))

    async def refused(store: EtcdStore) -> None:
        with pytest.raises(StoreNoLeaderError):
            await store.commit([Put(Task(id="b"))])
        began = time.monotonic()
        assert "a" in {task.id for task in await store.list(Task)}
        with pytest.raises(StoreNoLeaderError):
            await store.commit([Put(Task(id="c"))])
        assert time.monotonic() - began < 0.3

    await asyncio.gather(*map(refused, stores))
    await hosts.heal()
    await until(lambda: not any(store.trouble for store in stores), 10)
    for store in stores:
        await store.commit([Put(Task(id="d"))])
        await store.close()
