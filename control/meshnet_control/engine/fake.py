"""An engine in memory with the manners of the real one, for tests of what stands on it.

Same methods, same errors as ``EngineClient`` as far as the agent uses it; both are held to one
contract (tests/docker/test_engine_contract.py). Containers run until they are killed or ``ended``.

Be aware: no processes and no namespaces: ``Pid`` is 0. Only SIGKILL and a stop signal end a
container; ``deaf`` ones ignore the latter.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from meshnet_control.engine.errors import EngineConflictError, EngineNotFoundError
from meshnet_control.engine.events import RESYNC, TASK_LABEL, Event

_NEVER = "0001-01-01T00:00:00Z"
_ONCE = "2024-01-01T00:00:00Z"
_KILLED = 137


@dataclass
class FakeContainer:
    """One container."""

    id: str
    name: str
    config: Mapping[str, Any]
    running: bool = False
    started_at: str = _NEVER
    exit_code: int = 0
    health: str = ""
    deaf: bool = False

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self.config.get("Labels") or {})


@dataclass
class FakeEngine:
    """The engine of one host.

    Attributes:
        images: reference to what ``inspect`` says of it.
        containers_by_id: all there are.
        starts: IDs in the order in which they were started.
    """

    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    containers_by_id: dict[str, FakeContainer] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    _listeners: list[asyncio.Queue[Event]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    # ---- as EngineClient ----

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """See ``EngineClient.create``."""
        if any(each.name == name for each in self.containers_by_id.values()):
            words = f'Conflict. The container name "/{name}" is already in use'
            raise EngineConflictError(words, HTTPStatus.CONFLICT)
        made = FakeContainer(f"{next(self._numbers):064x}", name, dict(config))
        self.containers_by_id[made.id] = made
        return made.id

    async def start(self, container: str) -> None:
        """See ``EngineClient.start``."""
        found = self._find(container)
        if not found.running:
            found.running, found.started_at, found.exit_code = True, _ONCE, 0
            self.starts.append(found.id)
            self._say(found, "start")

    async def inspect(self, container: str) -> dict[str, Any]:
        """See ``EngineClient.inspect``."""
        found = self._find(container)
        state: dict[str, Any] = {
            "Running": found.running,
            "StartedAt": found.started_at,
            "ExitCode": found.exit_code,
            "Error": "",
            "Pid": 0,
        }
        if found.health:
            state["Health"] = {"Status": found.health}
        return {
            "Id": found.id,
            "Name": f"/{found.name}",
            "State": state,
            "Config": {
                "Hostname": found.config.get("Hostname") or found.id[:12],
                "Labels": found.labels,
                "StopSignal": found.config.get("StopSignal") or "",
            },
            "NetworkSettings": {"SandboxKey": f"/var/run/docker/netns/{found.id[-12:]}"},
        }

    async def kill(self, container: str, signal: str) -> None:
        """See ``EngineClient.kill``."""
        found = self.containers_by_id.get(container)
        if found is not None and found.running and (signal == "SIGKILL" or not found.deaf):
            self.ended(container, _KILLED if signal == "SIGKILL" else 0)

    async def remove(self, container: str) -> None:
        """See ``EngineClient.remove``."""
        found = self.containers_by_id.get(container)
        if found is not None:
            if found.running:
                self.ended(container, _KILLED)
            del self.containers_by_id[container]
            self._say(found, "destroy")

    async def containers(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """See ``EngineClient.containers``."""
        return [
            {"Id": each.id, "Labels": each.labels}
            for each in self.containers_by_id.values()
            if all(_has(each.labels, label) for label in labels)
        ]

    async def image(self, reference: str) -> dict[str, Any]:
        """See ``EngineClient.image``."""
        if reference not in self.images:
            raise EngineNotFoundError(f"No such image: {reference}", HTTPStatus.NOT_FOUND)
        return self.images[reference]

    async def last_line(self, container: str) -> str:
        """See ``EngineClient.last_line``."""
        self._find(container)
        return ""

    async def events(self) -> AsyncGenerator[Event, None]:
        """See ``EngineClient.events``."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        queue.put_nowait(Event(RESYNC))
        self._listeners.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)

    async def answers(self, at_most_s: float) -> None:
        """See ``EngineClient.answers``: it always does."""

    # ---- what happens to containers ----

    def ended(self, container: str, exit_code: int, *, said: bool = True) -> None:
        """A container's program ends; ``said`` False: while nobody listened."""
        found = self._find(container)
        found.running, found.exit_code = False, exit_code
        if said:
            self._say(found, "die", exit_code)

    def turned(self, container: str, health: str) -> None:
        """A health check has a verdict: ``healthy`` or ``unhealthy``."""
        found = self._find(container)
        found.health = health
        self._say(found, f"health_status: {health}")

    def _find(self, container: str) -> FakeContainer:
        found = self.containers_by_id.get(container)
        if found is None:
            raise EngineNotFoundError(f"No such container: {container}", HTTPStatus.NOT_FOUND)
        return found

    def _say(self, found: FakeContainer, action: str, exit_code: int = 0) -> None:
        event = Event(action, found.id, found.labels.get(TASK_LABEL, ""), exit_code)
        for queue in self._listeners:
            queue.put_nowait(event)


def _has(labels: Mapping[str, str], wanted: str) -> bool:
    key, given, value = wanted.partition("=")
    return key in labels and (not given or labels[key] == value)
