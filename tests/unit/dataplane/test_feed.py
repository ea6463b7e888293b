"""DataPlane: who waits for what, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from plane_bed import (
    DIR,
    NET,
    OTHER,
    Host,
    assignments,
    cluster,
    turn,
)
from virtual_time import Inline

from meshnet.errors import KernelError
from meshnet.model.ids import TaskId
from meshnet.model.snapshot import Sandbox
from meshnet.overlay.desired import netns_name
from meshnet.reconcile import Reconciler
from meshnet_control.dataplane.fake import FakeKernel, GossipRoom, Led
from meshnet_control.dataplane.liveness import PATIENCE_S


def test_ready_when_the_kernel_holds_what_the_task_needs():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        await turn()
        waiting = asyncio.ensure_future(a.plane.ready(TaskId("a0".ljust(25, "0"))))
        await turn()
        assert not waiting.done(), "there is no such sandbox yet"
        a.kernel.unreadable = KernelError("dump", "host", 16)
        task = a.task("a")
        await turn()
        assert not waiting.done()
        assert a.plane.trouble(task) == "dump host: Device or resource busy"
        a.kernel.unreadable = None
        await waiting
        assert a.kernel.world.keys() == {None, a.netns("a")}
        assert a.plane.trouble(task) == ""

    cluster(1, scene)


class Noted(FakeKernel):
    """Says when its rounds are."""

    def __init__(self, name: str, rounds: list[str], *, chooses: bool) -> None:
        super().__init__()
        self.name, self.chooses, self._rounds = name, chooses, rounds

    def observe(self, desired: Mapping[str | None, Led]) -> Mapping[str | None, Led]:
        self._rounds.append(self.name)
        return super().observe(desired)


def test_who_is_withdrawn_is_not_chosen_any_more_before_anything_else_is_looked_at():
    async def scene(_: GossipRoom, a: Host) -> None:
        rounds: list[str] = []
        reached, chosen = (
            Reconciler(Noted(name, rounds, chooses=name == "chosen"), Inline())
            for name in ("reached", "chosen")
        )
        running = [asyncio.ensure_future(each.run()) for each in (reached, chosen)]
        a.start(reconcilers=(reached, chosen))
        a.task("a")
        await turn()
        rounds.clear()
        a.task("b")
        await turn()
        assert rounds == ["reached", "chosen"], "the way there comes first"
        rounds.clear()
        a.task("b", ready=False)
        await turn()
        assert rounds == ["chosen", "reached"]
        rounds.clear()
        a.task("b")
        await turn()
        assert rounds == ["reached", "chosen"]
        for each in running:
            each.cancel()

    cluster(1, scene)


def test_one_broken_namespace_keeps_only_its_own_task_waiting_and_says_why():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        a.kernel.broken = {(a.netns("a"), "eth0"), (None, "mn-ingress")}
        broken, whole = a.task("a"), a.task("b")
        waiting = asyncio.ensure_future(a.plane.ready(broken))
        async with asyncio.timeout(60):
            await a.plane.ready(whole)
        assert a.plane.trouble(whole) == ""
        assert a.plane.trouble(broken) == f"change {a.netns('a')}: Input/output error"
        await asyncio.sleep(5)
        assert not waiting.done()
        a.kernel.broken = set()
        await waiting

    cluster(1, scene)


def test_a_task_waits_for_its_networks_and_not_for_other_tasks_on_them():
    async def scene(_: GossipRoom, a: Host) -> None:
        overlay = str(DIR / netns_name(NET))
        a.start()
        task, other = a.task("a"), a.task("b", network=OTHER)
        a.kernel.world[overlay] = frozenset()  # a leftover, which cannot be removed
        a.kernel.broken = {(overlay, "vx0")}
        await turn()
        assert not a.plane._is_ready(task)
        assert a.plane._is_ready(other)
        a.kernel.broken = {(overlay, "vstranger")}
        await asyncio.sleep(1)
        assert a.plane._is_ready(task)

    cluster(1, scene)


def test_a_container_that_came_back_elsewhere_is_not_ready_yet():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        task = a.task("a")
        await a.plane.ready(task)
        moved = Sandbox(task, "/run/docker/netns/new", a.plane._sandboxes[task].networks, None)
        a.plane.sandbox_added(moved)
        assert not a.plane._is_ready(task)
        await a.plane.ready(task)
        assert moved.netns in a.kernel.world

    cluster(1, scene)


def test_empty_removes_everything_and_nothing_comes_after():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        a.task("a")
        await turn()
        assert a.kernel.world
        revision = a.plane.snapshot.revision
        a.plane.assignments(assignments(2))  # a rebuild is on its way
        emptied = asyncio.ensure_future(a.plane.empty())
        await turn()
        b.task("a")
        a.task("b")
        a.plane.adopted()
        await emptied
        await turn()
        assert a.kernel.world == {None: frozenset()}
        assert a.plane.snapshot.revision == revision + 1
        assert a.plane.snapshot.networks == {}
        assert "ep/" + "b0".ljust(25, "0") not in a.gossip.writes

    cluster(2, scene)


def test_no_snapshot_after_close():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        a.task("a")
        await turn()
        world, snapshots = dict(a.kernel.world), list(a.snapshots)
        a.plane.assignments(assignments(1))
        await a.plane.close()
        a.task("b")
        a.plane.gossip_changed()
        await asyncio.sleep(PATIENCE_S + 1)
        assert (a.kernel.world, a.snapshots) == (world, snapshots)
        assert a.probe.closed

    cluster(1, scene)
