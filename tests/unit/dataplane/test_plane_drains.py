"""Draining: a task is stopped when no kernel chooses it any more."""

from __future__ import annotations

import asyncio

import pytest
from plane_bed import (
    GRACE_S,
    OTHER,
    Host,
    cluster,
    drain,
    node,
    serving,
    turn,
)

from meshnet.errors import KernelError
from meshnet.gossip.members import State
from meshnet_control.dataplane.fake import GossipRoom


def test_drained_when_every_kernel_has_let_go():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        task = (await serving(a, b))[0]
        b.kernel.unreadable = KernelError("dump", "host", 16)
        draining = drain(a, task)
        await asyncio.sleep(5)
        assert len(b.leads_to("a")) == 2
        assert not draining.done(), "told by gossip, not yet in the kernel"
        b.kernel.unreadable = None
        await asyncio.sleep(7)  # the sixth pause is 6.4 s at most
        assert len(b.leads_to("a")) == 1
        assert draining.done()

    cluster(2, scene)


def test_a_hundred_answers_are_not_a_hundred_looks_at_all_nodes():
    async def scene(_: GossipRoom, a: Host, *others: Host) -> None:
        task = (await serving(a, *others))[0]
        for other in others:
            other.kernel.unreadable = KernelError("dump", "host", 16)
        before = a.gossip.asks
        draining = drain(a, task)
        for other in reversed(others):
            await turn()
            assert not draining.done()
            other.kernel.unreadable = None
            other.reconciler.poke("test")
            await asyncio.sleep(1)
        await turn()
        assert draining.done()
        assert a.gossip.asks - before <= 4

    cluster(9, scene)


def test_a_round_that_is_not_complete_acknowledges_nothing():
    async def scene(room: GossipRoom, a: Host, b: Host, c: Host) -> None:
        a.start()
        b.start()
        c.start(adopted=False)
        task = a.task("a")
        await turn()
        assert not b.plane.snapshot.complete
        draining = drain(a, task)
        await turn()
        assert node(0) not in room.applied.get(node(2), {})
        assert not draining.done()
        c.plane.adopted()
        await turn()
        assert draining.done()

    cluster(3, scene)


@pytest.mark.parametrize("within_s", [0.5, 30.0])
def test_the_wait_ends_with_the_time_that_the_task_has(within_s):
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        task = a.task("a")
        await turn()
        b.kernel.unreadable = KernelError("dump", "host", 16)
        await drain(a, task, within_s)

    assert cluster(2, scene) == pytest.approx(within_s)


def test_only_hosts_that_are_there_are_waited_for():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        task = a.task("a")
        await turn()
        await b.end()
        room.judge(node(1), State.DEAD)
        await turn()
        a.probe.answer(node(1), answering=True)
        draining = drain(a, task)
        await asyncio.sleep(5)
        assert not draining.done(), "its kernel may still send"
        a.probe.answer(node(1), answering=False)
        await turn()
        assert draining.done()

    assert cluster(2, scene) == pytest.approx(5)


@pytest.mark.parametrize("clock_s", [100.0, -10.0])
def test_what_was_acknowledged_to_an_earlier_process_is_no_answer(clock_s):
    """Also when the clock went back meanwhile."""

    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.clock_s = 50.0
        a.start()
        b.start()
        for ready in (True, False) * 5:
            a.task("a", ready=ready)
        await turn()
        await a.end()
        b.kernel.unreadable = KernelError("dump", "host", 16)
        a.clock_s += clock_s
        a.start(adopted=False)
        task = a.task("a")
        a.plane.adopted()
        await turn()
        draining = drain(a, task)
        await asyncio.sleep(5)
        assert not draining.done()
        b.kernel.unreadable = None
        await draining

    cluster(2, scene)


def test_a_wait_asks_whom_it_waits_for_and_nobody_when_it_is_over():
    async def scene(_: GossipRoom, a: Host, b: Host, c: Host) -> None:
        tasks = await serving(a, b, c)
        c.kernel.unreadable = KernelError("dump", "host", 16)
        draining = drain(a, tasks[0], 2.0)
        await turn()
        assert a.gossip.asked == {node(2)}
        more = a.task("x")
        another = drain(a, more, 30.0)
        await draining
        assert a.gossip.asked == {node(2)}, "the other one waits on"
        c.kernel.unreadable = None
        await another
        assert a.gossip.asked == set()

    cluster(3, scene)


def test_what_fails_elsewhere_holds_no_acknowledgement():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        task = a.task("a")
        b.kernel.broken = {(b.netns("x"), "")}
        b.task("a")
        b.task("x", network=OTHER)
        await turn()
        assert b.reconciler.failures
        draining = drain(a, task)
        await turn()
        assert draining.done(), "no container there can choose it"
        again = a.task("b")
        await turn()
        b.kernel.broken = {(b.netns("a"), "")}
        draining = drain(a, again)
        await asyncio.sleep(1)
        assert not draining.done(), "one that can could not be changed"
        b.kernel.broken = set()
        await draining

    cluster(2, scene)


def test_events_while_rounds_fail_pile_nothing_up():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        await turn()
        a.kernel.unreadable = KernelError("dump", "host", 16)
        a.task("a")
        await turn()
        before = len(asyncio.all_tasks())
        for each in range(500):
            b.task("a", ready=bool(each % 2))
            await turn(3)
        assert len(asyncio.all_tasks()) <= before
        a.kernel.unreadable = None

    cluster(2, scene)


def test_of_a_host_that_goes_off_nothing_is_chosen_before_its_daemon_ends_and_while_it_is_away():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        await serving(a, b)
        b.task("b")
        await turn()
        a.kernel.unreadable = KernelError("dump", "host", 16)
        withdrawing = asyncio.ensure_future(b.plane.withdraw(GRACE_S))
        await asyncio.sleep(5)
        assert len(a.leads_to("a")) == 3
        assert not withdrawing.done()
        a.kernel.unreadable = None
        await withdrawing
        for host in (a, b):
            assert len(host.leads_to("a")) == 1
        b.task("b")
        await turn()
        assert len(a.leads_to("a")) == 1, "its agent still finds it healthy"
        await b.end()
        room.judge(node(1), State.RESTARTING)
        a.probe.answer(node(1), answering=True)
        await turn()
        assert len(a.leads_to("a")) == 1, "its host answers, its containers end"
        b.start()
        b.task("a")
        await turn()
        assert len(a.leads_to("a")) == 2

    cluster(2, scene)


def test_a_host_that_goes_off_waits_for_nobody_for_longer_than_it_has(caplog):
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        await serving(a, b)
        a.kernel.unreadable = KernelError("dump", "host", 16)
        await b.plane.withdraw(3.0)

    assert cluster(2, scene) == pytest.approx(3.0)
    assert "h0 may still choose" in caplog.text
