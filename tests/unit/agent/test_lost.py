"""What is lost is a failed task: a task runs once, whatever its host goes through."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

from meshnet import measures
from meshnet_control.agent.agent import remove_task_containers
from meshnet_control.agent.task_dir import TASKS
from meshnet_control.api import control_pb2 as pb

RUNNING, FAILED = pb.TASK_STATE_RUNNING, pb.TASK_STATE_FAILED


def test_a_task_runs_once_whatever_the_host_goes_through(play, task):
    async def scene(node):
        one, two = task(1), task(2, wired=False)
        await node.running(one, two)
        await node.end()
        node.power_cut()
        await node.engine.remove(node.kept(two).id)
        await node.begin()
        node.assign(one, two)
        assert (await node.reaches(one, FAILED)).err == "task: non-zero exit (137)"
        lost = await node.reaches(two, FAILED)
        assert lost.err == f"No such container: web.2.{two.id}"
        assert len(node.calls("create")) == len(node.calls("start")) == 2
        node.assign()
        await node.until(lambda: not node.engine.kept)
        await node.until(lambda: not list(node.state_dir.glob(f"{TASKS}/*")))

    play(scene)


def test_a_task_that_began_and_left_nothing_is_lost(play, task):
    """A new disk: the managers know what the node does not."""

    async def scene(node):
        one = task()
        one.status.state = pb.TASK_STATE_STARTING
        node.assign(one)
        assert (await node.reaches(one, FAILED)).err == f"No such container: web.1.{one.id}"
        assert node.calls("create") == []

    play(scene)


def test_a_memory_that_cannot_be_read_now_is_read_later(play, task, monkeypatch):
    async def scene(node):
        one = task()
        await node.running(one)
        await node.end()
        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_bytes", starved)
            await node.begin()
            node.assign(one)
            await asyncio.sleep(30.0)
            assert node.wires.adoptions == 0
        await node.reaches(one, RUNNING)
        assert len(node.calls("start")) == 1

    def starved(_path):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    play(scene)


def test_what_was_made_and_never_started_is_made_again_after_a_power_cut(play, task):
    async def scene(node):
        one = task()
        one.desired_state = pb.TASK_STATE_READY
        node.assign(one)
        await node.reaches(one, pb.TASK_STATE_READY)
        await node.end()
        node.power_cut()
        await node.begin()
        one.desired_state = RUNNING
        await node.running(one)
        assert len(node.calls("create")) == 2
        assert len(node.calls("start")) == 1

    play(scene)


def test_a_container_that_ran_and_that_nobody_remembers_runs_no_second_time(play, task):
    async def scene(node):
        one = task()
        await node.running(one)
        await node.end()
        node.memory(one).remove()
        await node.begin()
        node.assign(one)
        await node.reaches(one, FAILED)
        assert len(node.calls("start")) == 1
        assert not node.engine.kept

    play(scene)


def test_a_create_whose_answer_was_lost_is_cleared_away(play, task):
    async def scene(node):
        one = task()
        name = f"web.1.{one.id}"
        labels = {"com.docker.swarm.task.id": one.id, "com.docker.swarm.task.name": name}
        config = {"Image": "polite:latest", "Labels": labels}
        made = await node.engine.create(name, config)
        await node.running(one)
        assert node.kept(one).id != made

    play(scene)


def test_a_container_of_an_image_made_of_a_tasks_container_is_its_users(play, task):
    async def scene(node):
        one = task()
        await node.running(one)
        ours = node.kept(one)
        config = {**ours.config, "HostConfig": {}}  # what docker commit hands on, labels and all
        users = await node.engine.create("precious", config)
        await node.engine.start(users)
        await node.end()
        await node.begin()
        node.assign(one)
        await node.reaches(one, RUNNING)
        assert node.calls("remove") == []
        assert node.said[one.id][-1].container_status.container_id == ours.id
        assert await remove_task_containers(node.engine) == 1
        assert list(node.engine.kept) == [users]

    play(scene)


def test_a_container_somebody_starts_again_is_ended(play, task):
    async def scene(node):
        one = task()
        await node.running(one)
        kept = node.kept(one)
        node.engine.end(kept.id, 3)
        await node.reaches(one, FAILED)
        await node.engine.start(kept.id)
        await node.until(lambda: not kept.running)
        assert node.last(one).state == FAILED

    play(scene)


def test_a_daemon_that_starts_after_a_boot_says_so_before_it_looks_at_what_is_left(play, task):
    async def scene(node):
        assert node.wires.empty_starts == 1, "the first start of all"
        one = task()
        await node.running(one)
        await node.end()
        await node.begin()
        assert (node.wires.empty_starts, node.wires.adoptions) == (0, 1), "its container runs"
        await node.end()
        node.power_cut()
        node.engine.go()
        await node.begin()
        assert (node.wires.empty_starts, node.wires.adoptions) == (1, 0)
        node.engine.come()
        await node.until(lambda: node.wires.adoptions)

    play(scene)


def test_starts_and_failures_of_tasks_are_counted_and_those_there_are_told_by_state(play, task):
    def counted(state: str) -> float:
        name = "meshnet_task_states_reached_total"
        return measures.NODE.get_sample_value(name, {"state": state}) or 0.0

    async def scene(node):
        before = counted("running"), counted("failed")
        one, two = task(1), task(2, wired=False)
        await node.running(one, two)
        assert node.agent.states == {"running": 2}
        await node.engine.remove(node.kept(two).id)
        await node.reaches(two, FAILED)
        assert (counted("running"), counted("failed")) == (before[0] + 2, before[1] + 1)
        assert node.agent.states["running"] == 1

    play(scene)
