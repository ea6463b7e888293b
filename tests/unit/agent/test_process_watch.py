"""The end of a container's first process is known from the kernel, and of no other's."""

from __future__ import annotations

import asyncio
import subprocess

import pytest
from agent_node import NodeUnderTest, make_task

from meshnet.model.ids import TaskId
from meshnet_control.agent import process_watch
from meshnet_control.api import control_pb2 as pb

CONTAINER = "c" * 64
FIRST = f"{1:064x}"
"""ID of the first container that the engine in memory makes."""


@pytest.fixture
def program():
    """Name: program. Scope: function. A process of ours; gone when the test is."""
    made = subprocess.Popen(["sleep", "1000"])
    try:
        yield made
    finally:
        made.kill()
        made.wait()


def in_container(proc, pid, container):
    """A proc(5) in which the process is in the container's control group."""
    (proc / str(pid)).mkdir(parents=True, exist_ok=True)
    (proc / str(pid) / "cgroup").write_text(f"0::/docker/{container}\n")


async def test_its_end_is_told_once(program, tmp_path):
    in_container(tmp_path, program.pid, CONTAINER)
    gone = asyncio.Event()
    watched = process_watch.watch(program.pid, CONTAINER, gone.set, tmp_path)
    assert watched is not None
    await asyncio.sleep(0)
    assert not gone.is_set()
    program.kill()
    await asyncio.wait_for(gone.wait(), 10)
    watched.close()


async def test_a_process_of_another_is_not_watched(program, tmp_path):
    in_container(tmp_path, program.pid, "another")
    assert process_watch.watch(program.pid, CONTAINER, lambda: None, tmp_path) is None
    assert process_watch.watch(program.pid, CONTAINER, lambda: None) is None
    assert process_watch.watch(0, CONTAINER, lambda: None) is None


async def test_one_that_has_ended_is_not_watched(program, tmp_path):
    in_container(tmp_path, program.pid, CONTAINER)
    program.kill()
    program.wait()
    assert process_watch.watch(program.pid, CONTAINER, lambda: None, tmp_path) is None


async def test_a_backend_is_withdrawn_when_its_process_is_gone_without_the_engine(
    program, tmp_path
):
    """The engine says nothing for as long as it is away; the task's end is its word."""
    node = NodeUnderTest(tmp_path)
    node.proc = tmp_path / "proc"
    node.engine.pid = program.pid
    await node.begin()
    try:
        one = make_task()
        in_container(node.proc, program.pid, FIRST)
        node.assign(one)
        task_id = TaskId(one.id)
        await node.reaches(one, pb.TASK_STATE_RUNNING)
        assert node.kept(one).id == FIRST
        await node.until(lambda: node.wires.endpoints[task_id].ready)
        node.engine.go(ending=False)
        asked = len(node.calls("inspect"))
        node.engine.resync()
        await node.until(lambda: len(node.calls("inspect")) > asked)  # its worker waits now
        program.kill()
        program.wait()  # the node's time is not that of the process
        await node.until(lambda: task_id not in node.wires.endpoints, at_most_s=5.0)
        assert task_id not in node.wires.sandboxes
        assert node.last(one).state == pb.TASK_STATE_RUNNING
        node.engine.go()
        node.engine.come()
        await node.reaches(one, pb.TASK_STATE_FAILED)
    finally:
        await node.end()
