"""A silent daemon is not a dead host: what stays reachable, and what is chosen."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address

import msgpack
from plane_bed import (
    NET,
    Host,
    assignments,
    cluster,
    drain,
    node,
    serving,
    turn,
)

from meshnet.errors import KernelError
from meshnet.gossip.engine import UNREACHED_KEY
from meshnet.gossip.members import State
from meshnet.kernel import host_probe
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane.fake import GossipRoom
from meshnet_control.dataplane.liveness import PATIENCE_S


def test_what_runs_beside_a_dead_daemon_is_chosen_while_its_host_answers():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        await serving(a, b)
        both = a.leads_to("a")
        rows = a.plane.snapshot.remote_macs(NET)
        assert (len(both), len(rows)) == (2, 1)
        await b.end()
        room.judge(node(1), State.SUSPECT)
        await turn()
        assert a.probe.asked == {node(1)}, "asked as soon as it is doubtful"
        a.probe.answer(node(1), answering=True)
        room.judge(node(1), State.DEAD)
        await turn()
        assert a.leads_to("a") == both
        a.probe.answer(node(1), answering=False)
        await turn()
        assert len(a.leads_to("a")) == 1
        assert a.plane.snapshot.remote_macs(NET) == rows, "reachable for as long as it is known"
        b.start(adopted=False)
        await turn()
        assert a.probe.asked == set()
        assert a.leads_to("a") == both, "what it said before holds until it has found its tasks"
        b.plane.adopted()
        await turn()
        assert len(a.leads_to("a")) == 1, "they were gone"
        assert a.plane.snapshot.remote_macs(NET) == {}

    cluster(2, scene)


def test_a_suspect_whose_host_is_silent_is_chosen_only_where_nobody_else_is():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        task = (await serving(a, b))[0]
        both = a.leads_to("a")
        room.judge(node(1), State.SUSPECT)
        await turn()
        assert a.leads_to("a") == both, "its host was not asked yet"
        a.probe.answer(node(1), answering=False)
        await turn()
        own = a.leads_to("a")
        assert len(own) == 1
        draining = drain(a, task)
        await asyncio.sleep(1)
        assert a.leads_to("a") == both - own, "nobody else is there"
        assert draining.done(), "who is doubted acknowledges as ever"
        a.task("a")
        await turn()
        assert a.leads_to("a") == own
        room.judge(node(1), State.ALIVE)
        await turn()
        assert a.leads_to("a") == both, "the suspicion was false"

    cluster(2, scene)


def test_a_daemon_that_starts_beside_a_dead_one_keeps_the_way_to_what_runs_there():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        await serving(a, b)
        both, rows = a.leads_to("a"), a.plane.snapshot.remote_macs(NET)
        await b.end()
        room.judge(node(1), State.DEAD)
        await a.end()
        a.start(adopted=False)
        a.task("a")
        a.plane.adopted()
        a.probe.answer(node(1), answering=True)
        await asyncio.sleep(2 * PATIENCE_S)
        assert a.plane.snapshot.complete
        assert a.leads_to("a") == both
        assert a.plane.snapshot.remote_macs(NET) == rows
        a.probe.answer(node(1), answering=False)
        await turn()
        assert len(a.leads_to("a")) == 1
        assert a.plane.snapshot.remote_macs(NET) == rows

    cluster(2, scene)


def test_what_is_beyond_a_cut_is_reachable_and_not_chosen_from_here():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        task = (await serving(a, b))[0]
        rows = a.plane.snapshot.remote_macs(NET)
        room.members[node(1)] = replace(room.members[node(1)], direct=False)
        room.tell()
        await turn()
        assert len(a.leads_to("a")) == 1
        assert a.plane.snapshot.remote_macs(NET) == rows
        b.kernel.unreadable = KernelError("dump", "host", 16)
        draining = drain(a, task)
        await asyncio.sleep(1)
        assert not draining.done(), "it may send, and says so through others"
        b.kernel.unreadable = None
        await draining
        room.members[node(1)] = replace(room.members[node(1)], direct=True)
        b.gossip.set_record(UNREACHED_KEY, msgpack.packb([node(0)]))
        a.task("a")
        await turn()
        assert len(a.leads_to("a")) == 1, "it does not reach us"
        b.gossip.set_record(UNREACHED_KEY, None)
        await turn()
        assert len(a.leads_to("a")) == 2

    cluster(2, scene)


def test_a_daemon_that_restarts_costs_its_host_nothing_unless_the_host_goes():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        await serving(a, b)
        await b.end()
        room.judge(node(1), State.RESTARTING)
        await turn()
        assert len(a.leads_to("a")) == 2
        assert a.probe.asked == {node(1)}
        a.probe.answer(node(1), answering=False)
        await turn()
        assert len(a.leads_to("a")) == 1

    cluster(2, scene)


class Way:
    """The way to every other host: there is an answer at once, or none in time."""

    def __init__(self) -> None:
        self.open = True

    async def ask(self, _: IPv4Address, __: int) -> bool:
        if not self.open:
            await asyncio.sleep(host_probe.TIMEOUT_S)
        return self.open


def test_a_host_that_goes_off_in_order_is_not_chosen_from_then_on_until_its_daemon_speaks():
    """By each node itself: no manager says anything here."""

    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        way = Way()
        a.start(ask=way.ask)
        b.start()
        for host in (a, b):
            host.task("a")
        await turn()
        await b.end()
        room.judge(node(1), State.RESTARTING)
        await asyncio.sleep(30)
        assert len(a.leads_to("a")) == 2, "its host answers"
        way.open = False
        await asyncio.sleep(1.3)
        assert len(a.leads_to("a")) == 1
        await asyncio.sleep(10)
        way.open = True
        await asyncio.sleep(300)
        assert len(a.leads_to("a")) == 1, "it boots: what ran there does not"
        b.start(adopted=False)
        b.plane.nothing_ran()
        await asyncio.sleep(30)
        assert len(a.leads_to("a")) == 1, "its daemon looks at what the engine has left"
        assert not b.plane.snapshot.complete
        b.plane.adopted()
        b.task("a")
        await asyncio.sleep(1)
        assert len(a.leads_to("a")) == 2

    cluster(2, scene)


def test_a_link_that_goes_and_comes_beside_a_dead_daemon_costs_a_moment():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        way = Way()
        a.start(ask=way.ask)
        b.start()
        for host in (a, b):
            host.task("a")
        await turn()
        await b.end()
        room.judge(node(1), State.DEAD)
        way.open = False
        await asyncio.sleep(2.0)
        assert len(a.leads_to("a")) == 1
        way.open = True
        await asyncio.sleep(0.7)
        assert len(a.leads_to("a")) == 2

    cluster(2, scene)


def test_a_node_that_left_is_not_chosen_and_not_asked():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        await serving(a, b)
        room.judge(node(1), State.LEFT)
        await turn()
        assert len(a.leads_to("a")) == 1
        assert a.probe.asked == set()

    cluster(2, scene)


def test_a_node_that_the_managers_remove_takes_its_rows_with_it():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        await serving(a, b)
        room.judge(node(1), State.DEAD)
        await turn()
        assert a.plane.snapshot.remote_macs(NET)
        a.plane.assignments(NodeState.of(assignments(1)))
        await turn()
        assert not a.plane.snapshot.remote_macs(NET)
        assert a.probe.asked == set()

    cluster(2, scene)


def test_a_node_that_the_managers_call_down_stays_reachable_and_is_not_chosen_or_waited_for():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        task = (await serving(a, b))[0]
        rows = a.plane.snapshot.remote_macs(NET)
        said = assignments(2)
        said.nodes[1].down = True
        await b.end()
        room.judge(node(1), State.DEAD)
        a.plane.assignments(NodeState.of(said))
        await turn()
        assert len(a.leads_to("a")) == 1
        assert a.plane.snapshot.remote_macs(NET) == rows
        assert a.probe.asked == set()
        await drain(a, task)

    cluster(2, scene)
