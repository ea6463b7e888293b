"""Managers that are frozen, cut off and elected at random: whoever thinks it leads, one history.

Each manager that leads counts: it reads the counter and writes the next number, without naming a
version. An old leader that wakes up would write an old number over a newer one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from virtual_run import run

from meshnet import ends
from meshnet_control.api.control_pb2 import Task
from meshnet_control.etcd.fake import FakeEtcd, FakeMember
from meshnet_control.manager.leadership import EtcdLeadership
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import Put, StoreError

MANAGERS = 3
SECONDS = 60.0
WRITE_S = 0.05


class Swarm:
    """Managers on one etcd, and a bystander who saw everything that was written."""

    def __init__(self, seed: int) -> None:
        self.etcd = FakeEtcd()
        self.random = random.Random(seed)
        self.members: list[FakeMember] = []
        self.led: set[str] = set()
        self.refused = 0
        self.thought = 0
        """The most managers that thought at one moment that they lead."""
        self._leaders: list[EtcdLeadership] = []
        self._stack = AsyncExitStack()

    async def begin(self) -> None:
        for number in range(1, MANAGERS + 1):
            member = self.etcd.member(number)
            member.latency_s = 0.002 * number
            store = await EtcdStore.open(member, Sealer([bytes(32)]))
            self._stack.push_async_callback(store.close)
            leadership = EtcdLeadership(member, store, f"n{number}")
            self._spawn(leadership.run())
            self._spawn(self._count(leadership, f"n{number}"))
            self.members.append(member)
            self._leaders.append(leadership)
        self._bystander = await EtcdStore.open(self.etcd.member(99), Sealer([bytes(32)]))
        self._stack.push_async_callback(self._bystander.close)
        self._watch = self._bystander.watch(0)

    async def end(self) -> None:
        await self._stack.aclose()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._stack.push_async_callback(ends.ended, task)

    async def _count(self, leadership: EtcdLeadership, name: str) -> None:
        while True:
            store = (await leadership.term()).store
            thinking = sum(each._term is not None for each in self._leaders)
            self.thought = max(self.thought, thinking)
            try:
                now = await store.get(Task, "counter")
                slot = now.slot if now is not None else 0
                await asyncio.sleep(WRITE_S)  # it decides; much happens meanwhile
                await store.commit([Put(Task(id="counter", slot=slot + 1, node_id=name))])
                self.led.add(name)
            except StoreError:
                self.refused += 1
                await asyncio.sleep(WRITE_S)

    async def trouble(self) -> None:
        """A minute in which everything happens."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SECONDS
        while loop.time() < until:
            await asyncio.sleep(self.random.uniform(0.2, 3.0))
            victim = self.random.choice(self.members)
            what = self.random.randrange(5)
            if what == 0:  # a manager hangs
                victim.freeze()
                loop.call_later(self.random.uniform(0.1, 8.0), victim.thaw)
            elif what == 1:  # cut off from the others
                victim.cut_off()
                loop.call_later(self.random.uniform(0.1, 5.0), victim.join)
            elif what == 2:  # an election
                self.etcd.elect(0)
                winner = self.random.randint(1, MANAGERS)
                loop.call_later(self.random.uniform(0.0, 2.0), self.etcd.elect, winner)
            elif what == 3:  # answers get lost
                victim.lost.extend([True] * self.random.randint(1, 3))
            else:
                self.etcd.elect(self.random.randint(1, MANAGERS))

    async def history(self) -> list[tuple[int, str]]:
        """Number and writer of everything that was written, in the store's order."""
        await self._bystander.close()
        written = []
        async for batch in self._watch:
            for change in batch:
                assert isinstance(change.message, Task)
                written.append((change.message.slot, change.message.node_id))
        return written


async def play(seed: int) -> Swarm:
    swarm = Swarm(seed)
    await swarm.begin()
    try:
        await swarm.trouble()
        numbers = [number for number, _ in await swarm.history()]
    finally:
        await swarm.end()
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 100
    return swarm


@pytest.mark.parametrize("seed", range(8))
def test_the_store_shows_one_history(seed: int) -> None:
    swarm = run(play(seed))
    assert len(swarm.led) > 1


def test_two_did_think_that_they_lead() -> None:
    """Else the tests above prove nothing."""
    swarms = [run(play(seed)) for seed in range(20, 23)]
    assert max(swarm.thought for swarm in swarms) > 1
    assert sum(swarm.refused for swarm in swarms) > 0
