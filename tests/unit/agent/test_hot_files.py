"""Secrets and configs of containers that run follow a hot update of their object."""

from __future__ import annotations

import os
from typing import Any

import pytest
from agent_node import NodeUnderTest, make_task

from meshnet_control.agent.step import Action, Seen, TaskView, step
from meshnet_control.agent.task_dir import TASKS, TaskDir
from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.errors import EngineError

RUNNING, SHUTDOWN = pb.TASK_STATE_RUNNING, pb.TASK_STATE_SHUTDOWN


def with_secret(number: int = 1, **more: Any) -> pb.Task:
    task = make_task(number, wired=False, **more)
    ref = task.spec.container_spec.secrets.add(secret_id="i", secret_name="key")  # noqa: S106
    ref.file.CopyFrom(pb.FileTarget(name="key", uid="33", gid="34", mode=0o440))
    return task


def secret(data: bytes, **more: Any) -> list[pb.SecretAssignment]:
    return [pb.SecretAssignment(id="i", data=data, **more)]


def directory(node: NodeUnderTest, task: pb.Task) -> TaskDir:
    return TaskDir(node.run_dir / TASKS / task.id)


def file(node: NodeUnderTest, task: pb.Task) -> bytes:
    return (directory(node, task).path / "files" / "0").read_bytes()


async def begun(node: NodeUnderTest, task: pb.Task) -> None:
    node.assign(task, secrets=secret(b"old"))
    await node.reaches(task, RUNNING)


@pytest.mark.parametrize("data", [b"new", b"x", b"much longer than before"])
def test_a_hot_update_is_in_the_file_with_its_owner_and_mode_and_then_signalled(play, data):
    async def scene(node):
        one = with_secret()
        await begun(node, one)
        path = directory(node, one).path / "files" / "0"
        before = path.stat()
        node.assign(one, secrets=secret(data, hot=True, signal="SIGHUP"))
        await node.until(lambda: node.kept(one).signals == ["SIGHUP"] or not node.kept(one).running)
        after = path.stat()
        assert file(node, one) == data
        same = ("st_ino", "st_mode", "st_uid", "st_gid")  # bind-mounted: the inode is the file
        assert [getattr(after, n) for n in same] == [getattr(before, n) for n in same]
        assert directory(node, one).signals == []

    play(scene)


def test_another_update_leaves_what_runs_alone_and_is_what_new_tasks_get(play):
    async def scene(node):
        one, two = with_secret(1), with_secret(2)
        await begun(node, one)
        node.assign(one, two, secrets=secret(b"new"))
        await node.reaches(two, RUNNING)
        assert (file(node, one), file(node, two)) == (b"old", b"new")
        assert node.calls("kill") == []

    play(scene)


def test_what_is_hot_of_one_secret_is_not_of_another(play):
    async def scene(node):
        one = with_secret()
        ref = one.spec.container_spec.secrets.add(secret_id="k", secret_name="other")  # noqa: S106
        ref.file.name = "other"
        other = pb.SecretAssignment(id="k", data=b"old")
        node.assign(one, secrets=[*secret(b"old"), other])
        await node.reaches(one, RUNNING)
        other.data = b"new"
        node.assign(one, secrets=[*secret(b"new", hot=True), other])
        await node.until(lambda: file(node, one) == b"new")
        assert (directory(node, one).path / "files" / "1").read_bytes() == b"old"

    play(scene)


def test_without_a_signal_nobody_is_signalled_and_nobody_twice(play):
    async def scene(node):
        one = with_secret()
        await begun(node, one)
        for _ in range(3):
            node.assign(one, secrets=secret(b"new", hot=True))
            await node.turn()
        assert file(node, one) == b"new"
        assert node.calls("kill") == []

    play(scene)


def test_a_signal_that_the_engine_did_not_take_is_sent_by_the_next_life(play):
    async def scene(node):
        one = with_secret()
        await begun(node, one)
        node.engine.refusals["kill"] = EngineError("not now", 500)
        hot = secret(b"new", hot=True, signal="SIGUSR1")
        node.assign(one, secrets=hot)
        await node.until(lambda: node.calls("kill"))
        await node.end()
        assert file(node, one) == b"new"
        assert node.kept(one).signals == []
        node.engine.refusals.clear()
        await node.begin()
        node.assign(one, secrets=hot)
        await node.until(lambda: node.kept(one).signals == ["SIGUSR1"])

    play(scene)


def test_what_was_said_while_the_daemon_was_away_is_done_when_it_is_back(play):
    async def scene(node):
        one = with_secret()
        await begun(node, one)
        await node.end()
        await node.begin()
        node.assign(one, secrets=secret(b"new", hot=True))
        await node.until(lambda: file(node, one) == b"new")

    play(scene)


def test_a_template_follows_the_secret_that_it_has_in_it(play):
    async def scene(node):
        one = with_secret()
        page = one.spec.container_spec.configs.add(config_id="j", config_name="page")
        page.file.name = "/page"
        configs = [pb.ConfigAssignment(id="j", data=b'<{{secret "key"}}>', templated=True)]
        node.assign(one, secrets=secret(b"old"), configs=configs)
        await node.reaches(one, RUNNING)
        node.assign(one, secrets=secret(b"new", hot=True), configs=configs)
        await node.until(lambda: file(node, one) == b"new")
        assert (directory(node, one).path / "files" / "1").read_bytes() == b"<new>"

    play(scene)


def test_what_cannot_be_rewritten_leaves_the_task_as_it_is(play, caplog):
    async def scene(node):
        one = with_secret()
        await begun(node, one)
        os.unlink(directory(node, one).path / "files" / "0")  # noqa: PTH108 - short
        node.assign(one, secrets=secret(b"new", hot=True))
        await node.turn()
        assert node.last(one).state == RUNNING
        one.desired_state = SHUTDOWN
        node.assign(one)
        await node.reaches(one, SHUTDOWN)

    play(scene)
    assert "its files stay as they are" in caplog.text


@pytest.mark.parametrize(
    ("seen", "rewritten"),
    [
        (Seen("c"), True),  # made, and not started yet
        (Seen("c", running=True, started=True), True),
        (Seen("c", started=True), False),
        (Seen("c", error="no such program"), False),
    ],
)
def test_files_are_rewritten_while_a_program_may_still_read_them(seen, rewritten):
    view = TaskView(RUNNING, pb.TASK_STATE_READY, container=seen, wired=False, outdated=True)
    assert (step(view, 0.0).action is Action.REWRITE) is rewritten
    ending = TaskView(SHUTDOWN, RUNNING, container=seen, outdated=True, opened=True)
    assert step(ending, 0.0).action is not Action.REWRITE
