"""A task that is to stop waits for who is connected to it, for a while, and says so."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import KernelError
from meshnet_control.agent import draining
from meshnet_control.agent.step import UNHEALTHY, TaskView
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.service_labels import DRAIN

RUNNING, SHUTDOWN = pb.TASK_STATE_RUNNING, pb.TASK_STATE_SHUTDOWN
HEALTH = {"healthcheck": pb.HealthConfig(test=["CMD-SHELL", "true"])}
STOPPING = TaskView(SHUTDOWN, RUNNING, draining_since=100.0, grace_s=30.0)
SECONDS = st.floats(0, 1e5)


# ---- whether it waits ----


@pytest.mark.parametrize(
    ("labels", "grace_s", "others_serve", "expected"),
    [
        ({}, 30.0, True, 10.0),
        ({}, 4.0, True, 4.0),
        ({}, 0.0, True, 0.0),
        ({}, 30.0, False, 0.0),
        ({DRAIN: "0"}, 30.0, True, 0.0),
        ({DRAIN: "3"}, 30.0, True, 3.0),
        ({DRAIN: "600"}, 4.0, False, 600.0),
        ({DRAIN: "soon"}, 4.0, True, 4.0),
    ],
)
def test_how_long_it_may_wait(labels, grace_s, others_serve, expected):
    assert draining.longest_s(labels, grace_s, others_serve=others_serve) == expected


@given(SECONDS, SECONDS, st.booleans())
def test_without_a_label_never_longer_than_the_grace_period(grace_s, waited, others_serve):
    view = replace(STOPPING, grace_s=grace_s, draining_since=0.0)
    if draining.waits({}, view, waited, others_serve=others_serve):
        assert waited < grace_s
        assert waited < draining.DEFAULT_S
        assert others_serve


@pytest.mark.parametrize(
    "ending",
    [
        {"failing": UNHEALTHY},
        {"forgotten": True},
        {"stopping_since": 90.0},
        {"state": pb.TASK_STATE_ORPHANED},
    ],
    ids=lambda ending: next(iter(ending)),
)
def test_nobody_is_waited_for_by_what_has_failed_or_was_stopped_before(ending):
    assert draining.waits({DRAIN: "60"}, STOPPING, 101.0, others_serve=True)
    assert not draining.waits({DRAIN: "60"}, replace(STOPPING, **ending), 101.0, others_serve=True)


def test_what_is_said_of_it_is_shown_whole():
    assert draining.words(1) == "draining, 1 connection left"
    assert draining.words(3) == "draining, 3 connections left"
    assert len(draining.words(99)) <= 30


# ---- on a node ----


def stop(node, task, connections):
    node.wires.open[task.id] = connections
    task.desired_state = SHUTDOWN
    node.assign(task)


def test_the_stop_signal_waits_for_the_last_connection(play, task):
    async def scene(node):
        one = task()
        await node.running(one)
        node.wires.acknowledged.clear()
        stop(node, one, 3)
        await asyncio.sleep(5.0)
        assert node.last(one).err == "", "it is chosen still"
        node.wires.acknowledged.set()
        await asyncio.sleep(1.0)
        said = node.last(one)
        assert (said.state, said.err, said.message) == (
            RUNNING, "draining, 3 connections left", "draining, 3 connections left",
        )  # fmt: skip
        assert not node.wires.endpoints[one.id].ready
        node.wires.open[one.id] = 1
        await asyncio.sleep(3.0)
        assert node.last(one).err == "draining, 1 connection left"
        assert node.kept(one).signals == []
        node.wires.open[one.id] = 0
        await asyncio.sleep(1.0)
        assert node.kept(one).signals == ["SIGTERM"]
        said = await node.reaches(one, SHUTDOWN)
        assert (said.err, said.message) == ("", "shutdown")

    node = play(scene)
    assert not any(node.running_when_final.values())


@pytest.mark.parametrize(
    ("label", "grace_s", "waits_s"), [(None, 60, 10), (None, 4, 4), ("20", 4, 20), ("0", 60, 0)]
)
def test_a_connection_that_stays_is_waited_for_no_longer(play, task, label, grace_s, waits_s):
    async def scene(node):
        one = task(image="deaf:latest", stop_grace_period=grace_s * 10**9)
        if label is not None:
            one.service_labels[DRAIN] = label
        await node.running(one)
        stop(node, one, 1)
        if waits_s:
            await asyncio.sleep(waits_s - 1)
            assert node.kept(one).signals == []
            await asyncio.sleep(2)
        await node.turn()
        assert node.kept(one).signals == ["SIGTERM"]
        assert node.last(one).err == "", "it waits no longer"
        await asyncio.sleep(grace_s - 2)
        assert node.kept(one).signals == ["SIGTERM"], "the grace period begins with the signal"
        await node.reaches(one, SHUTDOWN)
        assert node.kept(one).signals == ["SIGTERM", "SIGKILL"]

    play(scene)


def test_counts_that_change_all_the_time_are_told_now_and_then(play, task):
    async def scene(node):
        one = task()
        one.service_labels[DRAIN] = "20"
        await node.running(one)
        stop(node, one, 1)
        for connections in range(2, 40):
            await asyncio.sleep(0.5)
            node.wires.open[one.id] = connections
        told = [said.err for said in node.said[one.id] if said.err]
        assert 5 <= len(told) <= 11

    play(scene)


@pytest.mark.parametrize("reason", ["nobody else serves", "nothing can be counted"])
def test_it_is_stopped_at_once_where_waiting_is_of_no_use(play, task, reason):
    async def scene(node):
        one = task()
        await node.running(one)
        if reason == "nobody else serves":
            node.wires.alone = True
        else:
            node.wires.uncountable = KernelError("list", "conntrack", 1)
        stop(node, one, 3)
        await node.turn()
        assert node.kept(one).signals == ["SIGTERM"]

    play(scene)


def test_a_service_that_ends_while_it_drains_is_waited_for_no_longer(play, task):
    async def scene(node):
        one = task()
        await node.running(one)
        stop(node, one, 3)
        await asyncio.sleep(2.0)
        assert node.kept(one).signals == []
        node.wires.alone = True
        await asyncio.sleep(1.0)
        assert node.kept(one).signals == ["SIGTERM"]

    play(scene)


def test_turning_unhealthy_while_it_drains_is_no_failure(play, task):
    async def scene(node):
        one = task(image="deaf:latest", **HEALTH)
        node.assign(one)
        await node.until(lambda: node.kept(one).running if node.engine.kept else False)
        node.engine.health(node.kept(one).id, "healthy")
        await node.reaches(one, RUNNING)
        await node.turn()
        stop(node, one, 2)
        await asyncio.sleep(2.0)
        node.engine.health(node.kept(one).id, "unhealthy")
        await asyncio.sleep(4.0)
        assert node.kept(one).signals == [], "it drains on"
        await node.until(lambda: node.kept(one).signals)
        await asyncio.sleep(9.0)
        assert node.last(one).state == RUNNING, "its container runs"
        await node.until(lambda: node.last(one).state > RUNNING)
        assert (node.last(one).state, node.last(one).err) == (SHUTDOWN, "")

    node = play(scene)
    assert not any(node.running_when_final.values())


def test_an_unhealthy_task_is_stopped_whoever_is_connected(play, task):
    async def scene(node):
        one = task(**HEALTH)
        one.service_labels[DRAIN] = "60"
        node.assign(one)
        await node.until(lambda: node.kept(one).running if node.engine.kept else False)
        node.engine.health(node.kept(one).id, "healthy")
        await node.reaches(one, RUNNING)
        await node.turn()
        node.wires.open[one.id] = 5
        node.engine.health(node.kept(one).id, "unhealthy")
        await node.turn()
        assert node.kept(one).signals == ["SIGTERM"]

    play(scene)


def test_looking_at_the_engine_meanwhile_makes_it_no_longer(play, task):
    async def scene(node):
        one = task(image="deaf:latest")
        await node.running(one)
        stop(node, one, 1)
        for _ in range(4):
            await asyncio.sleep(2.0)
            assert node.kept(one).signals == []
            node.engine.resync()
        await asyncio.sleep(3.0)
        assert node.kept(one).signals == ["SIGTERM"]

    play(scene)


def test_a_node_that_leaves_waits_for_nobody(play, task):
    async def scene(node):
        one = task()
        one.service_labels[DRAIN] = "600"
        await node.running(one)
        stop(node, one, 1)
        await asyncio.sleep(5.0)
        leaving = asyncio.ensure_future(node.agent.stop_all())
        await asyncio.sleep(2.0)
        assert leaving.done()
        assert not node.engine.kept

    play(scene)


def test_a_process_that_starts_while_it_drains_drains_it_again(play, task):
    async def scene(node):
        one = task()
        one.service_labels[DRAIN] = "30"
        await node.running(one)
        stop(node, one, 2)
        await asyncio.sleep(2.0)
        await node.end()
        await node.begin()
        node.assign(one)
        node.wires.open[one.id] = 2
        await asyncio.sleep(10.0)
        assert not node.wires.endpoints[one.id].ready
        assert node.kept(one).signals == []
        assert node.last(one).err == "draining, 2 connections left"
        node.wires.open[one.id] = 0
        await node.reaches(one, SHUTDOWN)

    play(scene)


@pytest.mark.parametrize(("set_by_s", "left_s"), [(0, 12), (-3600, 15), (3600, 0)])
def test_a_process_that_starts_meanwhile_waits_for_what_is_left(play, task, set_by_s, left_s):
    """Seconds that its host was without a process count; a clock that was put back counts none."""

    async def scene(node):
        clock = asyncio.get_running_loop().time
        node.wall = lambda: 1.7e9 + clock()
        one = task(image="deaf:latest")
        one.service_labels[DRAIN] = "15"
        await node.running(one)
        stop(node, one, 2)
        await asyncio.sleep(1.0)
        await node.end()
        node.wall = lambda: 1.7e9 + clock() + set_by_s
        await asyncio.sleep(2.0)
        await node.begin()
        node.wires.open[one.id] = 2
        began = clock()
        node.assign(one)
        await node.until(lambda: node.kept(one).signals)
        assert clock() - began == pytest.approx(left_s, abs=1.0)
        if left_s:
            assert any(said.err == "draining, 2 connections left" for said in node.said[one.id])

    play(scene)


def test_what_was_told_to_stop_is_chosen_by_nobody_when_a_process_starts(play, task):
    async def scene(node):
        one = task(image="deaf:latest", stop_grace_period=60 * 10**9)
        await node.running(one)
        stop(node, one, 0)
        await node.until(lambda: node.kept(one).signals)
        await node.end()
        await node.begin()
        node.assign(one)
        node.wires.open[one.id] = 2
        await asyncio.sleep(5.0)
        assert {ready for _, ready in node.wires.log if ready != "drained"} == {False}
        assert one.id not in node.said, "it waits for nobody a second time"

    play(scene)
