"""Clients of three managers, and etcds that are killed and frozen: is the store one store?

What every client called and was answered is recorded and checked afterwards (support/linearizable).
"""

from __future__ import annotations

import asyncio
import math
import random
import signal
import time
from itertools import count

import pytest
from etcd_cluster import EtcdCluster, until
from linearizable import Operation, linearizable

from meshnet_control.api.control_pb2 import Task
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.migrate import digest, everything
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import OutOfSequenceError, Put, StoreUnavailableError

pytestmark = [pytest.mark.etcd, pytest.mark.timeout(150)]

DEEDS = [
    (signal.SIGKILL, "leader", 0.0),
    (signal.SIGKILL, "leader and another", 0.0),
    (signal.SIGSTOP, "leader", 1.8),
    (signal.SIGSTOP, "other", 0.5),
    (signal.SIGSTOP, "both others", 4.5),
]
"""What happens to whom; what is frozen stays so for some seconds."""
CLIENTS = 2
"""Of each manager."""
REGISTERS = ("a", "b", "c")


class Recorder:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.values = count(1)
        self.histories: dict[str, list[Operation]] = {name: [] for name in REGISTERS}
        self.over = asyncio.Event()
        self.commits: list[int] = []
        self.unknown = 0
        self.refused = 0

    async def client(self, store: EtcdStore) -> None:
        known = dict.fromkeys(REGISTERS, 0)
        while not self.over.is_set():
            name = self.random.choice(REGISTERS)
            if self.random.random() < 0.4:
                await self.read(store, name, known)
            else:
                await self.write(store, name, known)
            await asyncio.sleep(self.random.uniform(0, 0.02))

    async def read(self, store: EtcdStore, name: str, known: dict[str, int]) -> None:
        called = time.monotonic()
        if not await store.caught_up():
            await asyncio.sleep(0.1)
            return  # it says itself that what it has may be old
        found = await store.get(Task, name)
        version, value = (found.version.index, found.slot) if found is not None else (0, 0)
        known[name] = version
        self.add(name, Operation(called, time.monotonic(), None, None, version, value))

    async def write(self, store: EtcdStore, name: str, known: dict[str, int]) -> None:
        value, called = next(self.values), time.monotonic()
        expects = known[name] if self.random.random() < 0.6 else None
        expect = None if expects is None else {(Task, name): expects}
        try:
            version = await store.commit([Put(Task(id=name, slot=value))], expect)
        except OutOfSequenceError:
            self.add(name, Operation(called, time.monotonic(), expects, value, 0))
        except StoreUnavailableError as error:
            self.refused += 1
            if error.uncertain:
                self.unknown += 1
                self.add(name, Operation(called, math.inf, expects, value, 0))
            await asyncio.sleep(0.1)
        else:
            known[name] = version
            self.commits.append(version)
            self.add(name, Operation(called, time.monotonic(), expects, value, version))

    def add(self, name: str, operation: Operation) -> None:
        self.histories[name].append(operation)

    async def trouble(self, cluster: EtcdCluster) -> None:
        """Members are killed (and started again by their supervisors) and frozen, also most."""
        deeds = DEEDS * 2
        self.random.shuffle(deeds)
        for what, victims, seconds in deeds:
            await asyncio.sleep(self.random.uniform(0.3, 1.0))
            leader = cluster.members[await cluster.leader()]
            others = [each for each in cluster.members if each is not leader]
            chosen = {
                "leader": [leader],
                "other": self.random.sample(others, 1),
                "both others": others,
                "leader and another": [leader, *self.random.sample(others, 1)],
            }[victims]
            for each in chosen:
                cluster.signal(each, what)
            if what is signal.SIGSTOP:
                await asyncio.sleep(seconds)
                for each in chosen:
                    cluster.signal(each, signal.SIGCONT)


async def test_one_store(three: EtcdCluster, record_property):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    recorder = Recorder(seed)
    stores = [await EtcdStore.open(client, Sealer([bytes(32)])) for client in three.clients]
    clients = [
        asyncio.create_task(recorder.client(store)) for store in stores for _ in range(CLIENTS)
    ]
    try:
        await recorder.trouble(three)
    finally:
        recorder.over.set()
        await asyncio.gather(*clients)
    for store in stores:
        await until(store.caught_up, 20)
    assert len({digest(await everything(store)) for store in stores}) == 1
    assert len({store.revision for store in stores}) == 1
    assert len(set(recorder.commits)) == len(recorder.commits) > 200
    assert recorder.refused  # there was no quorum for a while
    for name, history in recorder.histories.items():
        assert linearizable(history), name
    record_property("operations", sum(map(len, recorder.histories.values())))
    record_property("unknown", recorder.unknown)
    print(len(recorder.commits), recorder.unknown, recorder.refused)  # noqa: T201
    for store in stores:
        await store.close()
