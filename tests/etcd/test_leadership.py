"""Who leads, on real etcds: one at a time, soon another, and none that was is heard."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack

import pytest
from etcd_cluster import EtcdCluster, until

from meshnet import ends
from meshnet_control.api.control_pb2 import Task
from meshnet_control.manager.leadership import KEY, TTL_S, EtcdLeadership
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import NotLeadingError, Put

pytestmark = pytest.mark.etcd


class Managers:
    """One beside each etcd."""

    def __init__(self, cluster: EtcdCluster) -> None:
        self.cluster = cluster
        self.stores: list[EtcdStore] = []
        self.leaderships: list[EtcdLeadership] = []
        self.running: list[asyncio.Task[None]] = []
        self.told: list[list[str]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Managers:
        for n, client in enumerate(self.cluster.clients):
            store = await EtcdStore.open(client, Sealer([bytes(32)]))
            self._stack.push_async_callback(store.close)
            told: list[str] = []
            leadership = EtcdLeadership(client, store, f"n{n}", told.append)
            run = asyncio.create_task(leadership.run())
            self._stack.push_async_callback(ends.ended, run)
            self.stores.append(store)
            self.leaderships.append(leadership)
            self.running.append(run)
            self.told.append(told)
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self.cluster.members:
            self.cluster.signal(each, signal.SIGCONT)
        await self._stack.aclose()

    async def settled(self) -> int:
        """Who leads, once all agree that it is who is beside etcd's leader; its number."""

        async def agreed() -> bool:
            return self.leader() == f"n{await self.cluster.leader()}"

        await until(agreed)
        return int(self.leader()[1:])

    def leader(self) -> str:
        """Who leads by the word of all that are there; empty: they do not agree."""
        words = {
            each.leader
            for each, run in zip(self.leaderships, self.running, strict=True)
            if not run.done()
        }
        return words.pop() if len(words) == 1 else ""


@pytest.fixture
async def managers(three: EtcdCluster):
    async with Managers(three) as made:
        yield made


async def test_one_leads_and_everybody_knows(managers: Managers):
    number = await managers.settled()
    term = await managers.leaderships[number].term()
    assert await term.store.commit([Put(Task(id="a"))]) == 1
    assert [each._term is not None for each in managers.leaderships].count(True) == 1
    assert all(told[-1] == f"n{number}" for told in managers.told)


async def test_a_leader_that_dies_with_its_etcd_is_followed_soon(managers: Managers):
    number = await managers.settled()
    leaderships = managers.leaderships
    others = [each for n, each in enumerate(leaderships) if n != number]
    await leaderships[number].term()
    managers.cluster.signal(managers.cluster.members[number], signal.SIGSTOP)  # nobody restarts it
    began = time.monotonic()
    managers.running[number].cancel()
    _, left = await asyncio.wait(
        [asyncio.create_task(each.term()) for each in others], return_when="FIRST_COMPLETED"
    )
    took_s = time.monotonic() - began
    for each in left:
        each.cancel()
    assert took_s < TTL_S + 2
    store = next(each for each in others if each._term is not None)._term
    assert store is not None
    await store.store.commit([Put(Task(id="a"))])
    print(f"another leads after {took_s:.2f} s, writes {time.monotonic() - began:.2f} s")  # noqa: T201


async def test_a_leader_that_hangs_beside_its_etcd_loses_its_lease(managers: Managers):
    number = await managers.settled()
    term = await managers.leaderships[number].term()
    managers.running[number].cancel()  # its lease is not kept alive; its etcd goes on
    await until(lambda: managers.leader() not in {"", f"n{number}"}, TTL_S + 6)
    with pytest.raises(NotLeadingError):
        await term.store.commit([Put(Task(id="a"))])


async def test_who_resigns_is_followed_at_once(managers: Managers):
    number = await managers.settled()
    await managers.leaderships[number].term()
    began = time.monotonic()
    await ends.ended(managers.running[number])
    await managers.leaderships[number].resign()
    await until(lambda: managers.leader() not in {"", f"n{number}"})
    assert time.monotonic() - began < 1.5


async def test_a_term_ends_when_etcd_is_out_of_reach(managers: Managers):
    number = await managers.settled()
    term = await managers.leaderships[number].term()
    for n, each in enumerate(managers.cluster.members):
        if n != number:
            managers.cluster.signal(each, signal.SIGSTOP)
    await asyncio.wait_for(term.over.wait(), TTL_S + 4)


async def test_the_same_manager_started_again_leads_without_waiting(one: EtcdCluster):
    client = one.clients[0]
    store = await EtcdStore.open(client, Sealer([bytes(32)]))
    first = EtcdLeadership(client, store, "n")
    running = asyncio.create_task(first.run())
    await first.term()
    await ends.ended(running)
    again = EtcdLeadership(client, store, "n")
    began = time.monotonic()
    running = asyncio.create_task(again.run())
    await again.term()
    assert time.monotonic() - began < 1.0
    assert (await client.range(KEY)).kvs[0].version == 2
    await ends.ended(running)
    await store.close()
