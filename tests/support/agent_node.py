"""A node's agent on an engine and a data plane in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from meshnet.model.snapshot import Gwbridge
from meshnet_control.agent.agent import Agent
from meshnet_control.agent.attached_record import ATTACHED
from meshnet_control.agent.fake import FakeDataPlane
from meshnet_control.agent.process_watch import PROC
from meshnet_control.agent.task_dir import TASKS, TaskDir
from meshnet_control.agent.task_memory import TaskMemory
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.engine.fake import FakeEngine, Kept

NODE = "n" * 25
IMAGE = "polite:latest"
DEAF = "deaf:latest"
BRIDGE = Gwbridge("docker_gwbridge", IPv4Network("172.18.0.0/16"), IPv4Address("172.18.0.1"))


class NodeUnderTest:
    """One node: its engine and files outlive its agent."""

    def __init__(self, root: Path) -> None:
        self.engine = FakeEngine()
        self.engine.add_image(IMAGE)
        self.engine.add_image(DEAF, stops_with=None)
        self.run_dir, self.state_dir = root / "run", root / "state"
        self.proc, self.bridge = PROC, BRIDGE
        self.wires = FakeDataPlane()
        self.wall: Callable[[], float] = time.time
        self.said: dict[str, list[pb.TaskStatus]] = {}
        self.running_when_final: dict[str, bool] = {}
        self.agent: Agent
        self._run: asyncio.Task[None] | None = None

    # ---- its life ----

    async def begin(self) -> None:
        """meshnetd starts: nothing of an earlier process is known to it."""
        self.wires, self.said = FakeDataPlane(), {}
        self.agent = Agent(
            self.engine,
            self.wires,
            self.note,
            node_id=NODE,
            hostname="h1",
            run_dir=self.run_dir,
            state_dir=self.state_dir,
            gwbridge=self.bridge,
            proc=self.proc,
            wall=lambda: self.wall(),  # noqa: PLW0108 - a test may replace it
        )
        self._run = asyncio.create_task(self.agent.run())
        await self.turn()

    async def end(self) -> None:
        """meshnetd dies; whatever ended its agent before is raised."""
        assert self._run is not None
        if not self._run.done():
            self._run.cancel()
        await asyncio.wait({self._run})
        if not self._run.cancelled():
            self._run.result()

    def power_cut(self) -> None:
        """The host goes down and comes up: no process, no run directory."""
        for path in self.run_dir.glob(f"{TASKS}/*"):
            TaskDir(path).remove()
        (self.run_dir / ATTACHED).unlink(missing_ok=True)
        self.engine.go()
        self.engine.come()

    @property
    def alive(self) -> bool:
        """The agent runs."""
        return self._run is not None and not self._run.done()

    # ---- what happens ----

    def assign(self, *tasks: pb.Task, **more: Any) -> None:
        """The managers' word."""
        self.agent.assign(NodeState.of(pb.Assignments(full=True, tasks=tasks, **more)))

    def note(self, task: str, status: pb.TaskStatus) -> None:
        """What the agent reports."""
        self.said.setdefault(task, []).append(status)
        if status.state > pb.TASK_STATE_RUNNING:
            mine = [each for each in self.engine.kept.values() if task in each.labels.values()]
            self.running_when_final[task] = any(each.running for each in mine)

    async def turn(self, times: int = 60) -> None:
        """Everything that can happen now does."""
        for _ in range(times):
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], Any], at_most_s: float = 120.0) -> None:
        """Until it holds; time goes on meanwhile.

        Raises:
            TimeoutError: it does not.
        """
        async with asyncio.timeout(at_most_s):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.01)

    async def reaches(self, task: pb.Task, state: int) -> pb.TaskStatus:
        """Until the task's state is reported."""
        try:
            await self.until(lambda: task.id in self.said and self.last(task).state == state)
        except TimeoutError:
            raise AssertionError(self.said.get(task.id)) from None
        return self.last(task)

    def last(self, task: pb.Task) -> pb.TaskStatus:
        """What was reported of it last."""
        return self.said[task.id][-1]

    def states(self, task: pb.Task) -> list[int]:
        """What was reported of it."""
        return [status.state for status in self.said.get(task.id, [])]

    def kept(self, task: pb.Task) -> Kept:
        """Its container."""
        return self.engine.of_task(task.id)

    def calls(self, name: str) -> list[str]:
        """What the engine was asked for by that call."""
        return [what for call, what in self.engine.calls if call == name]

    def memory(self, task: pb.Task) -> TaskMemory:
        """What is remembered of it."""
        return TaskMemory(self.state_dir / TASKS / task.id)

    async def running(self, *tasks: pb.Task) -> None:
        """Assigns tasks and waits until they run."""
        self.assign(*tasks)
        for task in tasks:
            await self.reaches(task, pb.TASK_STATE_RUNNING)
            await self.turn()


Scene = Callable[[NodeUnderTest], Coroutine[Any, Any, None]]


def make_task(number: int = 1, *, wired: bool = True, image: str = IMAGE, **spec: Any) -> pb.Task:
    """A task of service ``web`` on this node."""
    made = pb.Task(
        id=f"t{number:024d}",
        service_id="s" * 25,
        service_name="web",
        slot=number,
        node_id=NODE,
        desired_state=pb.TASK_STATE_RUNNING,
    )
    made.spec.container_spec.CopyFrom(pb.ContainerSpec(image=image, **spec))
    if wired:
        attachment = made.networks_attachments.add(addresses=[f"10.0.1.{number + 2}/24"])
        attachment.network.id = "w" * 25
        attachment.network.driver_state.name = "overlay"
    return made
