"""A data plane in memory: notes what it is told, and wires when it may.

For tests, and for looking at what the agent decides without a kernel.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from meshnet.errors import MeshnetError
from meshnet.model.ids import TaskId
from meshnet.model.snapshot import Endpoint, Sandbox


@dataclass
class FakePorts:
    """Ports of the host that are others'."""

    published: frozenset[tuple[str, int]] = frozenset()
    sockets: frozenset[tuple[str, int]] = frozenset()


class FakeDataPlane:
    """A data plane of one node (``meshnet_control.agent.collaborators.DataPlane``)."""

    def __init__(self) -> None:
        self.sandboxes: dict[TaskId, Sandbox] = {}
        self.endpoints: dict[TaskId, Endpoint] = {}
        self.log: list[tuple[str, bool | str | None]] = []
        """(task, what was said of it): ready or not, None: withdrawn, ``drained``."""
        self.gate = asyncio.Event()
        """Sandboxes are wired once it is set; it is."""
        self.gate.set()
        self.acknowledged = asyncio.Event()
        """Every node knows of withdrawals once it is set; it is."""
        self.acknowledged.set()
        self.open: dict[TaskId, int] = {}
        """Task -> connections that others have to it."""
        self.uncountable: MeshnetError | None = None
        """Why connections cannot be counted."""
        self.alone = False
        """No other task of any service serves."""
        self.troubles: dict[TaskId, str] = {}
        self.ports = FakePorts()
        self.empty_starts = 0
        self.adoptions = 0

    def sandbox_added(self, sandbox: Sandbox) -> None:
        """A container of ours has a network namespace."""
        self.sandboxes[sandbox.task] = sandbox

    def sandbox_removed(self, task: TaskId) -> None:
        """A container of ours is gone."""
        self.sandboxes.pop(task, None)

    def endpoint(self, task: TaskId, endpoint: Endpoint | None) -> None:
        """What this node says of one of its endpoints; None: it is gone."""
        self.log.append((task, None if endpoint is None else endpoint.ready))
        if endpoint is None:
            self.endpoints.pop(task, None)
        else:
            self.endpoints[task] = endpoint

    def ports_of_others(self, task: TaskId) -> FakePorts:
        """As told."""
        return self.ports

    def nothing_ran(self) -> None:
        """No container survived: what the last process said of them is void."""
        self.empty_starts += 1

    def adopted(self) -> None:
        """Every container that survived a restart is known."""
        self.adoptions += 1

    async def ready(self, task: TaskId) -> None:
        """Returns when the gate is open.

        Raises:
            KeyError: nobody said that the task has a sandbox.
        """
        if task not in self.sandboxes:
            raise KeyError(task)
        await self.gate.wait()

    def trouble(self, task: TaskId) -> str:
        """As told."""
        return self.troubles.get(task, "")

    async def drained(self, task: TaskId, within_s: float, /) -> None:
        """Returns when the withdrawal is acknowledged, or after ``within_s``."""
        try:
            async with asyncio.timeout(within_s):
                await self.acknowledged.wait()
        except TimeoutError:
            pass
        self.log.append((task, "drained"))

    def others_serve(self, task: TaskId) -> bool:
        """As told, of all alike."""
        return not self.alone

    async def connections(self, task: TaskId) -> int:
        """As told."""
        if self.uncountable is not None:
            raise self.uncountable
        return self.open.get(task, 0)
