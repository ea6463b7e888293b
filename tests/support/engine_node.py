"""An agent on a real engine (`tests/docker/conftest.py`), its data plane one that records."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from meshnet_control.agent.agent import Agent
from meshnet_control.agent.fake import FakeDataPlane
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.engine.client import EngineClient

NODE = "n" * 25
NET = "w" * 25


class HasUrl(Protocol):
    """An engine."""

    @property
    def url(self) -> str:
        """``unix:///run/docker.sock``."""
        ...


class Node:
    """An agent and what it said."""

    def __init__(self, wires: Any, client: EngineClient) -> None:
        self.agent: Agent
        self.wires, self.client = wires, client
        self.said: dict[str, list[pb.TaskStatus]] = {}
        self.ends: dict[str, Callable[[], Any]] = {}
        """Task -> what is asked when it is said to have ended."""
        self.ended: dict[str, Any] = {}

    def report(self, task: str, status: pb.TaskStatus) -> None:
        """What the agent reports."""
        if status.state > pb.TASK_STATE_RUNNING and task in self.ends:
            self.ended[task] = self.ends[task]()
        self.said.setdefault(task, []).append(status)

    def state(self, task: str) -> Any:
        """What was reported of a task last."""
        return self.said[task][-1].state if task in self.said else None

    def states(self, task: str) -> list[int]:
        """What was reported of a task."""
        return [status.state for status in self.said[task]]

    async def until(self, condition: Callable[[], Any], what: str, seconds: float = 20.0) -> None:
        """Until it holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            last = {task: str(s[-1]) for task, s in self.said.items()}
            assert time.monotonic() < deadline, f"{what}: {last}"
            await asyncio.sleep(0.005)

    async def reaches(self, task: str, state: int) -> pb.TaskStatus:
        """Until a task's state is reported."""
        await self.until(lambda: self.state(task) == state, pb.TaskState.Name(state))
        return self.said[task][-1]


@asynccontextmanager
async def node(engine: HasUrl, run_dir: Path) -> AsyncIterator[Node]:
    """A node whose agent runs."""
    client = EngineClient(engine.url)
    wires = FakeDataPlane()
    made = Node(wires, client)
    made.agent = Agent(
        client,
        wires,
        made.report,
        node_id=NODE,
        hostname="h1",
        run_dir=run_dir,
        state_dir=run_dir / "state",
        gwbridge=await client.gwbridge(),
    )
    running = asyncio.create_task(made.agent.run())
    try:
        yield made
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await client.close()


def task(number: int = 1, args: Sequence[str] = ("sleep", "1000"), **spec: Any) -> pb.Task:
    """A task on an overlay."""
    made = pb.Task(
        id=f"t{number:024d}",
        service_id="s" * 25,
        service_name="web",
        slot=number,
        node_id=NODE,
        desired_state=pb.TASK_STATE_RUNNING,
    )
    fields = {"image": "busybox:latest", "args": list(args)} | spec
    made.spec.container_spec.CopyFrom(pb.ContainerSpec(**fields))
    attachment = made.networks_attachments.add(addresses=[f"10.0.1.{number + 2}/24"])
    attachment.network.id = NET
    attachment.network.spec.name = "net"
    attachment.network.driver_state.name = "overlay"
    attachment.network.ipam_options.configs.add(subnet="10.0.1.0/24")
    return made


def assigned(*tasks: pb.Task, **more: Any) -> NodeState:
    """All that the managers assign."""
    return NodeState.of(pb.Assignments(full=True, tasks=tasks, **more))
