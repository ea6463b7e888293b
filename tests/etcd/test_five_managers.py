"""Five managers on real etcds that are killed, frozen and cut off: whoever thinks it leads.

Each manager that leads counts, as in tests/sim/test_two_leaders.py: it reads the counter and writes
the next number without naming a version. Beside it clients of every manager make objects. What was
written is read from etcd's own history afterwards, not from a store.

``MESHNET_PARTITIONS_S`` has it last longer than the seeded run of a tier, ``MESHNET_SEED`` be
another one.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from etcd_cluster import until
from etcd_hosts import EtcdHosts

from meshnet import ends
from meshnet_control.api.control_pb2 import Task
from meshnet_control.etcd import client as calls
from meshnet_control.manager.leadership import EtcdLeadership
from meshnet_control.store import etcd_layout as layout
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import Put, StoreError, StoreUnavailableError

SECONDS = float(os.environ.get("MESHNET_PARTITIONS_S", "25"))
SEED = int(os.environ.get("MESHNET_SEED", "1"))
MANAGERS = 5
COUNTER = "counter"
pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.timeout(SECONDS + 130)]


class Swarm:
    """Managers, what they were answered, and who thought what."""

    def __init__(self, hosts: EtcdHosts, stack: AsyncExitStack) -> None:
        self.hosts, self._stack = hosts, stack
        self.sealer = Sealer([bytes(32)])
        self.stores: list[EtcdStore] = []
        self.leaders: list[EtcdLeadership] = []
        self.counted: list[int] = []
        """Numbers whose commit was answered."""
        self.made: set[str] = set()
        self.refused: Counter[str] = Counter()
        self.thought = 0
        """The most managers that thought at one moment that they lead."""
        self.over = asyncio.Event()

    async def begin(self) -> None:
        for n, client in enumerate(self.hosts.clients):
            store = await EtcdStore.open(client, self.sealer)
            self._stack.push_async_callback(store.close)
            leadership = EtcdLeadership(client, store, f"n{n}")
            self.stores.append(store)
            self.leaders.append(leadership)
            self._spawn(leadership.run())
            self._spawn(self._count(leadership))
            self._spawn(self._make(store, f"c{n}"))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._stack.push_async_callback(ends.ended, asyncio.create_task(work))

    async def _count(self, leadership: EtcdLeadership) -> None:
        while not self.over.is_set():
            term = await leadership.term()
            fence = leadership._fence
            assert fence is not None
            thinking = sum(each._term is not None for each in self.leaders)
            self.thought = max(self.thought, thinking)
            try:
                now = await term.store.get(Task, COUNTER)
                slot = now.slot + 1 if now is not None else 1
                await asyncio.sleep(0.02)  # it decides; much happens meanwhile
                name = str(fence.mod_revision)
                await term.store.commit([Put(Task(id=COUNTER, slot=slot, node_id=name))])
                self.counted.append(slot)
            except StoreError as error:
                self.refused[type(error).__name__] += 1
                await asyncio.sleep(0.05)

    async def _make(self, store: EtcdStore, name: str) -> None:
        number = 0
        while not self.over.is_set():
            number += 1
            task = f"{name}-{number}"
            try:
                await store.commit([Put(Task(id=task))], {(Task, task): 0})
                self.made.add(task)
            except StoreUnavailableError:
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.05)

    async def trouble(self, chance: random.Random) -> Counter[str]:
        """Kills, pauses and cuts of any, some at once; how often each."""
        done: Counter[str] = Counter()
        everybody = range(MANAGERS)
        until_s = time.monotonic() + SECONDS
        while time.monotonic() < until_s:
            await asyncio.sleep(chance.uniform(0.5, 1.5))
            leader = await self.hosts.leader()
            one, two = chance.sample(everybody, 2)
            halves = chance.sample(everybody, chance.choice([1, 2]))
            cuts = {
                "nothing": set[tuple[int, int]](),
                "the leader": self.hosts.around(leader),
                "some": self.hosts.around(*halves),
                "two from each other": {(one, two), (two, one)},
                "the leader is not heard": {(leader, n) for n in everybody if n != leader},
            }
            name = chance.choice(list(cuts))
            await self.hosts.cut(cuts[name])
            victims = chance.sample(everybody, chance.choice([0, 1, 2]))
            how = chance.choice([signal.SIGKILL, signal.SIGSTOP])
            for n in victims:
                self.hosts.signal(self.hosts.members[n], how)
            done.update((name, *(how.name for _ in victims)))
            await asyncio.sleep(chance.choice([0.5, 2.0, 5.0]))
            for n in victims:
                self.hosts.signal(self.hosts.members[n], signal.SIGCONT)
            await self.hosts.heal()
        return done

    async def history(self) -> tuple[list[tuple[int, int]], list[int], set[str]]:
        """From etcd itself: numbers with their terms, the heads' numbers, the tasks made."""
        client = self.hosts.clients[0]
        head = (await client.range(layout.HEAD)).kvs[0]
        counted: list[tuple[int, int]] = []
        heads: list[int] = []
        made: set[str] = set()
        end = calls.prefix_end(layout.PREFIX)
        async for events in client.watch(layout.PREFIX, end, 1):
            for event in events:
                if event.kv.key == layout.HEAD:
                    heads.append(layout.head_of(event.kv).index)
                    continue
                found = layout.object_of(event.kv, self.sealer)
                assert isinstance(found, Task)
                if found.id == COUNTER:
                    counted.append((found.slot, int(found.node_id)))
                else:
                    assert found.id not in made
                    made.add(found.id)
            if events and events[-1].kv.mod_revision >= head.mod_revision:
                break
        return counted, heads, made


async def test_one_history(tmp_path):
    async with AsyncExitStack() as stack:
        hosts = await stack.enter_async_context(EtcdHosts(tmp_path, MANAGERS))
        swarm = Swarm(hosts, stack)
        await swarm.begin()
        done = await swarm.trouble(random.Random(SEED))
        for store in swarm.stores:
            await until(store.caught_up, 30)
        before = len(swarm.counted)
        await until(lambda: len(swarm.counted) > before + 3, 20)  # somebody leads
        swarm.over.set()
        await asyncio.gather(*(store.commit([Put(Task(id="last"))]) for store in swarm.stores[:1]))
        counted, heads, made = await swarm.history()
    numbers, terms = [n for n, _ in counted], [term for _, term in counted]
    print(done, swarm.refused, len(numbers), len(made), len(set(terms)), swarm.thought)  # noqa: T201
    assert heads == list(range(1, len(heads) + 1))
    assert numbers == list(range(1, len(numbers) + 1))
    assert terms == sorted(terms)  # no two terms that write interleaved
    assert len(set(terms)) > 1
    assert set(swarm.counted) <= set(numbers)
    assert swarm.made <= made
    assert len(numbers) > 20
