"""What the agent needs of the local engine and of the data plane, and nothing more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

from meshnet.model.ids import TaskId
from meshnet.model.snapshot import Endpoint, Sandbox
from meshnet_control.engine.client import Event
from meshnet_control.engine.files import Found


class OthersPorts(Protocol):
    """Ports of this host, protocol and number, that others have (meshnet_control.dataplane)."""

    @property
    def published(self) -> AbstractSet[tuple[str, int]]:
        """By services on every node, or by other containers here."""
        ...

    @property
    def sockets(self) -> AbstractSet[tuple[str, int]]:
        """Ports that processes of this host wait at."""
        ...


class DataPlane(Protocol):
    """What the agent needs of the data plane (meshnet_control.dataplane.feed.DataPlane)."""

    def sandbox_added(self, sandbox: Sandbox) -> None:
        """A container of ours has a network namespace."""
        ...

    def sandbox_removed(self, task: TaskId) -> None:
        """A container of ours is gone."""
        ...

    def endpoint(self, task: TaskId, endpoint: Endpoint | None) -> None:
        """What this node says of one of its endpoints; None: it is gone."""
        ...

    def ports_of_others(self, task: TaskId) -> OthersPorts:
        """Ports of this host that the task cannot have now."""
        ...

    def nothing_ran(self) -> None:
        """No container survived: what the last process said of them is void."""
        ...

    def adopted(self) -> None:
        """Every container that survived a restart is known."""
        ...

    async def ready(self, task: TaskId) -> None:
        """Returns when the kernel holds everything the task's sandbox needs."""
        ...

    def trouble(self, task: TaskId) -> str:
        """Why the task's sandbox is not ready; empty when nothing failed so far."""
        ...

    async def drained(self, task: TaskId, within_s: float, /) -> None:
        """Returns when no node chooses the withdrawn endpoint any more, or after ``within_s``."""
        ...

    def others_serve(self, task: TaskId) -> bool:
        """Another task of its service takes new connections."""
        ...

    async def connections(self, task: TaskId) -> int:
        """How many TCP connections others have open to a task of ours.

        Raises:
            MeshnetError: the kernel does not say.
        """
        ...


class Engine(Protocol):
    """What the agent needs of the local engine (meshnet_control.engine.client.EngineClient).

    Every call raises EngineError when the engine refuses, EngineGoneError when nobody answers.
    """

    async def init_binary(self) -> str:
        """What the engine calls docker-init: a path of its own, or a name.

        Raises:
            EngineError: it does not say.
        """
        ...

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Makes a container; its ID."""
        ...

    async def start(self, container: str) -> None:
        """Starts a container; running already is success."""
        ...

    async def inspect(self, container: str) -> dict[str, Any]:
        """``GET /containers/{id}/json``."""
        ...

    async def file(self, container: str, path: str) -> Found | None:
        """A file of a container, running or not; None: there is none, or no such container."""
        ...

    async def kill(self, container: str, signal: str) -> None:
        """Sends a signal; a container that does not run is success."""
        ...

    async def remove(self, container: str) -> None:
        """Kills and removes a container; gone already is success."""
        ...

    async def containers(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Containers, stopped ones included, with all ``labels`` (``key`` or ``key=value``)."""
        ...

    async def network(self, name: str) -> dict[str, Any] | None:
        """``GET /networks/{id}``; None: there is none of that name or ID."""
        ...

    async def networks(self, label: str) -> list[dict[str, Any]]:
        """Networks with a label (``key`` or ``key=value``)."""
        ...

    async def create_network(self, config: Mapping[str, Any]) -> str:
        """Makes a network; its ID."""
        ...

    async def connect(self, network: str, container: str, endpoint: Mapping[str, Any]) -> None:
        """A container is on one more network, with ``EndpointSettings``."""
        ...

    async def on_network(self, name: str, network: str) -> bool:
        """Some container is on a network, by its name and ID, running or not."""
        ...

    async def remove_network(self, network: str) -> None:
        """Removes a network; gone already is success."""
        ...

    async def last_line(self, container: str) -> str:
        """The last line a container logged; empty when it cannot be read."""
        ...

    async def image(self, reference: str, auth: str = "") -> dict[str, Any]:
        """``GET /images/{name}/json``; an image that is not here is pulled first, with ``auth``."""
        ...

    def events(self) -> AsyncGenerator[Event, None]:
        """Everything that happens to containers, for ever; starts with ``RESYNC``."""
        ...

    async def answers(self, at_most_s: float) -> None:
        """Returns when an engine that went is back, at the latest after that many seconds."""
        ...
