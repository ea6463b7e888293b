"""Scenes on one node, on a clock of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from agent_node import NodeUnderTest, Scene, make_task
from virtual_time import Inline, VirtualLoop

from meshnet_control.agent.task_dir import TASKS, TaskDir
from meshnet_control.api import control_pb2 as pb


@pytest.fixture
def play(tmp_path: Path) -> Iterable[Callable[[Scene], NodeUnderTest]]:
    """Name: play. Scope: function. Plays a scene on a node, on a clock of its own."""

    def played(scene: Scene) -> NodeUnderTest:
        loop = VirtualLoop()
        # The default executor must not be threads: this clock does not wait for them.
        loop._default_executor = Inline()  # type: ignore[attr-defined]

        async def whole() -> NodeUnderTest:
            node = NodeUnderTest(tmp_path)
            await node.begin()
            try:
                await scene(node)
                assert node.alive
            finally:
                await node.end()
            return node

        try:
            return loop.run_until_complete(whole())
        finally:
            loop.close()

    yield played
    for path in tmp_path.glob(f"*/{TASKS}/*"):
        TaskDir(path).remove()


@pytest.fixture
def task() -> Callable[..., pb.Task]:
    """Name: task. Scope: function. Makes tasks (``make_task``)."""
    return make_task
