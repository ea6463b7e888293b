"""A leader whose decisions take their time, while services come one after the other."""

from __future__ import annotations

import asyncio
import random

import pytest
from virtual_run import run

from meshnet import ends
from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.etcd.fake import FakeEtcd
from meshnet_control.manager.leader import Manager
from meshnet_control.orchestrate.plan import Decision, Plan, decide
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import Put


def service(name: str) -> pb.Service:
    made = pb.Service(id=name, spec_version=1)
    made.spec.name = name
    made.spec.mode.replicated.replicas = 1
    return made


class Paced:
    """Decides as ever, and is busy with it for so long."""

    def __init__(self, takes_s: float) -> None:
        self._takes_s = takes_s
        self.began: list[float] = []
        self.ended: list[float] = []

    async def deciding(self, plan: Plan, now: float, rng: Rng) -> Decision:
        clock = asyncio.get_running_loop().time
        self.began.append(clock())
        await asyncio.sleep(self._takes_s)
        self.ended.append(clock())
        return decide(plan, now, rng)

    def pauses(self) -> list[float]:
        """From the end of each decision to the next."""
        return [b - e for b, e in zip(self.began[1:], self.ended, strict=False)]


async def come(paced: Paced, services: int, every_s: float) -> None:
    """So many, one after the other, until all have a task."""
    store = await EtcdStore.open(FakeEtcd().member(1), Sealer([bytes(32)]))
    clock = asyncio.get_running_loop().time
    manager = Manager(store, random.Random(1), clock, deciding=paced.deciding)
    leading = asyncio.create_task(manager.run())
    try:
        changes = store.watch(store.revision)
        for number in range(services):
            await store.commit([Put(service(f"s{number:03}"))])
            await asyncio.sleep(every_s)
        async with asyncio.timeout(60):
            async for _ in changes:
                if len(await store.list(pb.Task)) == services:
                    break
    finally:
        await ends.ended(leading)
        await store.close()


def test_what_comes_while_a_decision_is_made_and_as_long_again_is_decided_on_together() -> None:
    paced = Paced(0.03)
    run(come(paced, 100, 0.01))
    assert len(paced.began) <= 100 * 0.01 / 0.06 + 3, "half of the time is everybody else's"


@pytest.mark.parametrize(("takes_s", "most_s"), [(0.03, 0.03), (0.4, 0.05)])
def test_nobody_waits_longer_for_more_to_come(takes_s: float, most_s: float) -> None:
    paced = Paced(takes_s)
    run(come(paced, 30, 0.01))
    assert max(paced.pauses()) <= most_s + 0.02


def test_a_whole_portion_is_not_waited_with() -> None:
    paced = Paced(0.4)
    run(come(paced, 200, 0.001))
    assert min(paced.pauses()) < 0.01
