"""Clients that write and read a few registers of a store, and what each was answered."""

from __future__ import annotations

import asyncio
import math
import random
import time
from itertools import count

from etcd_cluster import until
from linearizable import Operation, linearizable

from meshnet_control.api.control_pb2 import Task
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.migrate import digest, everything
from meshnet_control.store.store import OutOfSequenceError, Put, StoreUnavailableError

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

    async def judge(self, stores: list[EtcdStore]) -> None:
        """Whether it was one store, once all is well again."""
        for store in stores:
            await until(store.caught_up, 20)
        assert len({digest(await everything(store)) for store in stores}) == 1
        assert len({store.revision for store in stores}) == 1
        assert len(set(self.commits)) == len(self.commits)
        for name, history in self.histories.items():
            assert linearizable(history), name
