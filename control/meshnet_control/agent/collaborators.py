"""What the agent needs of the local engine and of the data plane, and nothing more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol

from meshnet.model.ids import TaskId
from meshnet.model.snapshot import Endpoint, Sandbox
from meshnet_control.engine.client import Event


class Engine(Protocol):
    """The local engine: ``EngineClient``, or ``FakeEngine`` in tests; both say what each does."""

    async def create(self, name: str, config: Mapping[str, Any]) -> str: ...  # noqa: D102
    async def start(self, container: str) -> None: ...  # noqa: D102
    async def inspect(self, container: str) -> dict[str, Any]: ...  # noqa: D102
    async def kill(self, container: str, signal: str) -> None: ...  # noqa: D102
    async def remove(self, container: str) -> None: ...  # noqa: D102
    async def containers(self, labels: Sequence[str]) -> list[dict[str, Any]]: ...  # noqa: D102
    async def image(self, reference: str) -> dict[str, Any]: ...  # noqa: D102
    async def last_line(self, container: str) -> str: ...  # noqa: D102
    def events(self) -> AsyncGenerator[Event, None]: ...  # noqa: D102
    async def answers(self, at_most_s: float) -> None: ...  # noqa: D102


class DataPlane(Protocol):
    """What the agent needs of the data plane (meshnet_control.dataplane.DataPlane)."""

    def sandbox_added(self, sandbox: Sandbox) -> None:
        """A container of ours has a network namespace."""
        ...

    def sandbox_removed(self, task: TaskId) -> None:
        """A container of ours is gone."""
        ...

    def endpoint(self, task: TaskId, endpoint: Endpoint | None) -> None:
        """What this node says of one of its endpoints; None: it is gone."""
        ...

    def adopted(self) -> None:
        """Every container that survived a restart is known."""
        ...

    async def ready(self, task: TaskId) -> None:
        """Returns when the kernel holds everything the task's sandbox needs."""
        ...

    def trouble(self, task: TaskId) -> str:
        """Why ``ready`` does not return: one sentence; empty without a known reason."""
        ...

    async def drained(self, task: TaskId, within_s: float, /) -> None:
        """Returns when every node knows that the endpoint is no backend any more.

        Waits no longer than ``within_s``.
        """
        ...
