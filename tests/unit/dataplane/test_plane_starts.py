"""What a daemon that starts leaves alone until it knows as much as the one before."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from plane_bed import (
    Host,
    cluster,
    node,
    serving,
    turn,
)

from meshnet.gossip.members import State
from meshnet.model.ids import TaskId
from meshnet_control.dataplane.fake import GossipRoom
from meshnet_control.dataplane.liveness import PATIENCE_S


def test_complete_when_own_containers_are_found_and_all_others_spoke():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start(adopted=False)
        b.start(adopted=False)
        await turn()
        assert not a.plane.snapshot.complete
        a.plane.adopted()
        await turn()
        assert not a.plane.snapshot.complete, "the other has not spoken"
        b.plane.adopted()
        await turn()
        assert a.plane.snapshot.complete
        assert b.plane.snapshot.complete

    assert cluster(2, scene) == 0


def test_complete_without_a_host_that_is_silent_and_not_without_one_that_answers():
    async def scene(room: GossipRoom, a: Host, *_: Host) -> None:
        room.enter(node(1))
        room.judge(node(1), State.DEAD)
        a.start()
        await turn()
        assert a.probe.asked == {node(1), node(2)}, "one is dead, of one nobody heard"
        a.probe.answer(node(1), answering=False)
        await turn()
        assert not a.plane.snapshot.complete
        a.probe.answer(node(2), answering=True)
        await turn()
        assert not a.plane.snapshot.complete
        a.probe.answer(node(2), answering=False)
        await turn()
        assert a.plane.snapshot.complete

    assert cluster(3, scene) == 0


def test_patience_with_a_daemon_that_does_not_start_ends_and_complete_stays():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start(adopted=False)
        await asyncio.sleep(PATIENCE_S - 0.1)
        assert not a.plane.snapshot.complete
        await asyncio.sleep(0.2)
        assert a.plane.snapshot.complete
        room.enter(node(1), b.plane.gossip_changed)
        await turn()
        assert a.plane.snapshot.complete

    cluster(2, scene)


def test_alone_nobody_is_waited_for():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        await turn()
        assert a.plane.snapshot.complete

    assert cluster(1, scene) == 0


def test_a_restart_leaves_the_kernel_as_it_is_until_it_knows_as_much_as_before():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        await serving(a, b)
        before = a.leads_to("a")
        assert len(before) == 2
        await a.end()
        await b.end()
        a.start(adopted=False)
        b.start(adopted=False)
        a.task("a")
        a.plane.adopted()
        await turn()
        assert a.leads_to("a") == before
        b.task("a")
        b.plane.adopted()
        await turn()
        assert a.leads_to("a") == before
        assert a.plane.snapshot.complete

    cluster(2, scene)


def test_a_daemon_speaks_for_its_node_when_it_has_found_all_its_tasks():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        a.task("a")
        b.task("a")
        b.task("b")
        await turn()
        before = a.leads_to("a")
        assert len(before) == 3
        await b.end()
        b.start(adopted=False)
        b.task("a")
        await turn()
        assert a.leads_to("a") == before, "the second is not found yet"
        b.plane.adopted()
        await turn()
        assert len(a.leads_to("a")) == 2

    cluster(2, scene)


def test_a_task_whose_address_was_given_to_another_since_is_not_chosen_and_says_so(caplog):
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        mine = a.task("a")
        at = a.plane.snapshot.endpoints.get(mine) or a.plane.own.endpoints[mine]
        b.task("a")
        other = TaskId("later".ljust(25, "0"))
        b.plane.endpoint(other, replace(at, task=other, node=node(1), made=5))
        await turn()
        for host in (a, b):
            assert host.plane.snapshot.endpoints[mine].addresses == {}
            assert host.plane.snapshot.endpoints[other].addresses == at.addresses
        assert len(a.leads_to("a")) == 2, "the one that has it now, and the third"
        assert "is not this task's any more" in a.plane.trouble(mine)
        assert caplog.text.count("is not this task's any more") == 1
        b.plane.endpoint(other, None)
        await turn()
        assert a.plane.snapshot.endpoints[mine].addresses == at.addresses
        assert a.plane.trouble(mine) == ""

    cluster(2, scene)
