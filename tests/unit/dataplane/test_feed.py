"""DataPlane: who waits for what, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

from plane_bed import (
    DIR,
    NET,
    OTHER,
    SERVICE,
    Host,
    assignments,
    cluster,
    turn,
)
from virtual_time import Inline

from meshnet.errors import KernelError
from meshnet.model.ids import NodeId, TaskId
from meshnet.model.snapshot import Sandbox
from meshnet.overlay.desired import netns_name, veth_name
from meshnet.reconcile import Reconciler
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.named import named
from meshnet_control.cluster.node_state import NodeState, merge
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

    def observe(
        self, desired: Mapping[str | None, Led], since: object = None
    ) -> Mapping[str | None, Led]:
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


class Held(Executor):
    """Work that is done when it is let go."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        self.waiting.append(lambda: done.set_result(fn(*args, **kwargs)))
        return done

    def let_go(self) -> int:
        """Do it; how much it was."""
        held, self.waiting = self.waiting, []
        for work in held:
            work()
        return len(held)


def test_only_a_round_that_chooses_nobody_new_goes_before_others():
    async def scene(_: GossipRoom, a: Host) -> None:
        in_turn, first = Held(), Held()
        choosing = Reconciler(FakeKernel(), in_turn, first=first)
        running = asyncio.ensure_future(choosing.run())
        a.start(reconcilers=[choosing])
        for label in "abc":
            a.task(label)
        await turn()
        assert (in_turn.let_go(), first.let_go()) == (1, 0), "what is new needs a way"
        await turn()
        a.task("a", ready=False)
        await turn()
        assert (in_turn.let_go(), first.let_go()) == (0, 1)
        await turn()
        choosing.poke("somebody flushed the rules")
        await asyncio.sleep(1)
        assert (in_turn.let_go(), first.let_go()) == (0, 1)
        await turn()
        a.task("d")
        await turn()
        a.task("e")
        await turn()
        a.task("b", ready=False)
        await turn()
        assert (in_turn.let_go(), first.let_go()) == (1, 0)
        await turn()
        assert (in_turn.let_go(), first.let_go()) == (1, 0), "it brings e all the same"
        running.cancel()

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
        assert not a.plane.is_ready(task)
        assert a.plane.is_ready(other)
        a.kernel.broken = {(overlay, "vstranger")}
        await asyncio.sleep(1)
        assert a.plane.is_ready(task)

    cluster(1, scene)


def test_a_container_is_off_a_network_once_its_end_there_is_gone():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        overlay = str(DIR / netns_name(NET))
        task = a.task("a")
        await a.plane.ready(task)
        a.kernel.world[overlay] = frozenset()
        a.kernel.broken = {(overlay, veth_name(task))}
        a.plane.sandbox_added(replace(a.plane.own.sandboxes[task], networks=()))
        await turn()
        assert not a.plane.is_ready(task)
        a.kernel.broken = set()
        await a.plane.ready(task)

    cluster(1, scene)


def test_a_container_that_came_back_elsewhere_is_not_ready_yet():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        task = a.task("a")
        await a.plane.ready(task)
        moved = Sandbox(task, "/run/docker/netns/new", a.plane.own.sandboxes[task].networks, None)
        a.plane.sandbox_added(moved)
        assert not a.plane.is_ready(task)
        await a.plane.ready(task)
        assert moved.netns in a.kernel.world

    cluster(1, scene)


def test_what_several_messages_were_of_before_a_snapshot_is_made_is_looked_at_once():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        await turn()
        revision, state = a.plane.snapshot.revision, merge(NodeState.of(pb.Assignments()), a.told())
        for message in (
            pb.Assignments(services=[pb.ServiceView(id="new", name="api")]),
            pb.Assignments(removed_services=[SERVICE]),
            pb.Assignments(nodes=[pb.NodeView(id="n9", addr="192.0.2.9")]),
        ):
            state = merge(state, message)
            a.plane.assignments(state, named(message))
        await turn()
        assert a.plane.snapshot.revision == revision + 1
        assert {each.name for each in a.plane.snapshot.services.values()} == {"api"}
        assert NodeId("n9") in a.plane.snapshot.nodes
        a.plane.assignments(merge(state, a.told()))
        await turn()
        assert {each.name for each in a.plane.snapshot.services.values()} == {"api", "web"}
        a.plane.assignments(merge(NodeState.of(pb.Assignments()), a.told()))
        await turn()
        assert {each.name for each in a.plane.snapshot.services.values()} == {"web"}

    cluster(1, scene)


def test_empty_removes_everything_and_nothing_comes_after():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        a.task("a")
        await turn()
        assert a.kernel.world
        revision = a.plane.snapshot.revision
        a.plane.assignments(NodeState.of(assignments(2)))  # a rebuild is on its way
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
        assert f"{NET} ep/" + "b0".ljust(25, "0") not in a.gossip.writes

    cluster(2, scene)


def test_records_that_are_told_one_by_one_are_taken_without_a_look_at_the_others():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        b.task("a")
        await turn()
        assert len(a.plane.snapshot.endpoints) == 1
        room.listeners.clear()
        looks = a.gossip.looks
        b.task("b")
        (place,) = (place for place in room.records if " ep/b" in place[1])
        a.plane.gossip_changed({place: room.records[place]}, members=False)
        await turn()
        assert len(a.plane.snapshot.endpoints) == 2
        a.plane.gossip_changed({place: None}, members=False)
        await turn()
        assert len(a.plane.snapshot.endpoints) == 1
        assert a.gossip.looks == looks

    cluster(2, scene)


def test_no_snapshot_after_close():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        a.task("a")
        await turn()
        world, snapshots = dict(a.kernel.world), list(a.snapshots)
        a.plane.assignments(NodeState.of(assignments(1)))
        await a.plane.close()
        a.task("b")
        a.plane.gossip_changed()
        await asyncio.sleep(PATIENCE_S + 1)
        assert (a.kernel.world, a.snapshots) == (world, snapshots)
        assert a.probe.closed

    cluster(1, scene)
