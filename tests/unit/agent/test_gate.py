"""A task's gate: when it opens, what keeps it shut, what a death at it leaves."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys

import pytest

from meshnet_control.agent.task_dir import TaskDir
from meshnet_control.agent.task_memory import TaskMemory
from meshnet_control.api import control_pb2 as pb

RUNNING = pb.TASK_STATE_RUNNING


def test_the_gate_opens_when_the_network_is_ready_and_not_before(play, task):
    async def scene(node):
        node.wires.gate.clear()
        one = task()
        node.assign(one)
        await node.until(lambda: one.id in node.wires.sandboxes)
        await asyncio.sleep(60.0)
        assert node.kept(one).lines == b""
        assert node.last(one).state == pb.TASK_STATE_STARTING
        assert not node.memory(one).opened
        node.wires.gate.set()
        await node.reaches(one, RUNNING)
        assert node.kept(one).lines == b"\n"

    play(scene)


def test_what_keeps_a_task_from_starting_is_told_and_taken_back(play, task):
    async def scene(node):
        node.wires.gate.clear()
        one, two = task(1), task(2)
        node.wires.troubles[one.id] = "overlay: no such device"
        node.assign(one, two)
        await node.until(lambda: one.id in node.said and node.last(one).err)
        status = node.last(one)
        assert (status.state, status.message) == (pb.TASK_STATE_STARTING, "starting")
        assert status.err == "overlay: no such device"
        assert not node.last(two).err
        said = len(node.said[one.id])
        await asyncio.sleep(60.0)
        assert len(node.said[one.id]) == said  # once
        node.wires.troubles.clear()
        await node.until(lambda: not node.last(one).err)
        node.wires.gate.set()
        assert (await node.reaches(one, RUNNING)).err == ""

    play(scene)


@pytest.mark.parametrize("marked", [True, False])
def test_a_process_that_died_at_the_gate_leaves_no_task_in_between(play, task, marked):
    """Killed before or after it marked that it opens the gate: the next one opens it."""

    async def scene(node):
        node.wires.gate.clear()
        one = task()
        node.assign(one)
        await node.until(lambda: one.id in node.wires.sandboxes)
        await node.end()
        if marked:
            node.memory(one).mark_opened()
        await node.begin()
        node.assign(one)
        await node.reaches(one, RUNNING)
        assert node.kept(one).lines == b"\n"
        assert len(node.calls("start")) == 1

    play(scene)


def test_descriptors_that_ran_out_open_no_gate_and_end_no_task(play, task, monkeypatch):
    """EMFILE is a reason to try again, and is told."""

    async def scene(node):
        node.wires.gate.clear()
        one = task()
        node.assign(one)
        await node.until(lambda: one.id in node.wires.sandboxes)
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", starved)
            node.wires.gate.set()
            await node.until(lambda: node.last(one).err)
            await asyncio.sleep(30.0)
            assert node.last(one).state == pb.TASK_STATE_STARTING
            assert "Too many open files" in node.last(one).err
            assert node.kept(one).running
        assert node.kept(one).lines == b""
        await node.reaches(one, RUNNING)

    def starved(*_args, **_more):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    play(scene)


STARVED = """
import asyncio, resource, sys
from pathlib import Path
from meshnet_control.agent import gate_fifo
from meshnet_control.agent.task_dir import TaskDir
from meshnet_control.agent.task_memory import TaskMemory
from meshnet_control.agent.worker import Worker

directory, memory = TaskDir(Path(sys.argv[1])), TaskMemory(Path(sys.argv[2]))

async def main():
    for what, call in (
        ("gate", lambda: gate_fifo.knock(directory.gate)),
        ("task", memory.task),
        ("failing", lambda: memory.failing),
    ):
        try:
            print(what, "said", call())
        except OSError as error:
            print(what, error.errno)
    try:
        await gate_fifo.open_gate(directory.gate, lambda: print("opened"))
    except OSError as error:
        print("open", error.errno)
    print("made", directory.made, "started", memory.started)

loop = asyncio.new_event_loop()
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
loop.run_until_complete(main())
"""


def test_a_process_without_descriptors_takes_nothing_for_gone(tmp_path):
    """With RLIMIT_NOFILE at 0: every answer is an error, or the truth."""
    one = pb.Task(id="t1")

    directory, memory = TaskDir(tmp_path / "run"), TaskMemory(tmp_path / "t1")
    directory.make()
    memory.write(one)
    memory.mark_failing("why")
    (tmp_path / "t1" / "started").touch()
    done = subprocess.run(
        [sys.executable, "-c", STARVED, str(directory.path), str(tmp_path / "t1")],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
    )
    starved = errno.EMFILE
    assert done.stdout.splitlines() == [
        f"gate {starved}",
        f"task {starved}",
        f"failing {starved}",
        f"open {starved}",
        "made True started True",
    ]
