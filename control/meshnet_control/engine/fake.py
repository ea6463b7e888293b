"""An engine in memory, held to the same contract as the real one.

For tests, and for looking at what the agent decides without a machine. Programs run until they are
told to end: ``end`` by themselves, ``kill`` by a signal. What an image's program does about its
stop signal is said when the image is added. Every program reads the FIFOs mounted into it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import weakref
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from meshnet_control.engine.errors import (
    EngineConflictError,
    EngineGoneError,
    EngineNotFoundError,
)
from meshnet_control.engine.events import RESYNC, Event
from meshnet_control.engine.files import Found
from meshnet_control.engine.labels import TASK_LABEL

_NEVER: Final = "0001-01-01T00:00:00Z"
_KILLED: Final = 137


@dataclass
class Kept:
    """A container of the fake."""

    id: str
    name: str
    config: Mapping[str, Any]
    running: bool = False
    started_at: str = _NEVER
    exit_code: int = 0
    health: str = ""
    pid: int = 0
    log: str = ""
    signals: list[str] = field(default_factory=list)
    fifos: list[int] = field(default_factory=list)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """That it was connected to, by name."""

    @property
    def lines(self) -> bytes:
        """What has been written to it so far and not been asked for."""
        return b"".join(_read(fifo) for fifo in self.fifos)

    @property
    def mode(self) -> str:
        """The network that it was made with."""
        return str((self.config.get("HostConfig") or {}).get("NetworkMode") or "default")

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self.config.get("Labels") or {})


class FakeEngine:
    """An engine (``meshnet_control.agent.collaborators.Engine``)."""

    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}
        weakref.finalize(self, _stop_all, self.kept)
        self.made_networks: list[dict[str, Any]] = []
        """Networks beside the engine's own."""
        self.calls: list[tuple[str, str]] = []
        """(call, container's name or image), in order."""
        self.files: dict[str, dict[str, Found]] = {}
        """Image -> its files by path."""
        self.refusals: dict[str, Exception] = {}
        """Call -> what it raises."""
        self.listing = asyncio.Event()
        """``containers`` answers once it is set; it is."""
        self.listing.set()
        self.init = "docker-init"
        self.pid = 0
        """Process ID that the next container to start gets."""
        self._up = asyncio.Event()
        self._up.set()
        self._images: dict[str, int | None] = {}
        self._ids, self._starts = itertools.count(1), itertools.count(1)
        self._followers: set[asyncio.Queue[Event]] = set()

    # ---- what a test tells it ----

    def add_image(self, reference: str, *, stops_with: int | None = 0) -> None:
        """Has an image; its program ends with that code at a signal, None: only at SIGKILL."""
        self._images[reference] = stops_with

    def of_task(self, task: str) -> Kept:
        """The one container of a task."""
        [found] = [each for each in self.kept.values() if each.labels.get(TASK_LABEL) == task]
        return found

    def end(self, container: str, code: int) -> None:
        """The program ends by itself."""
        self._end(self.kept[container], code)

    def health(self, container: str, status: str) -> None:
        """The health check comes to a result."""
        kept = self.kept[container]
        kept.health = status
        self._say(f"health_status: {status}", kept)

    def go(self, *, ending: bool = True) -> None:
        """The engine's process ends; nobody hears of what happens from then on.

        Args:
            ending: its containers end with it.
        """
        self._up.clear()
        for kept in self.kept.values():
            if kept.running and ending:
                _stop(kept, _KILLED)

    def come(self) -> None:
        """It is back."""
        self._up.set()
        self.resync()

    def resync(self) -> None:
        """Events may have been missed."""
        for queue in self._followers:
            queue.put_nowait(Event(RESYNC))

    # ---- what the agent asks of it ----

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Makes a container."""
        await self._asked("create", name)
        if config["Image"] not in self._images:
            raise _missing("image", config["Image"])
        if any(kept.name == name for kept in self.kept.values()):
            raise EngineConflictError(f"the name {name} is in use", HTTPStatus.CONFLICT)
        made = Kept(f"{next(self._ids):064x}", name, config)
        self.kept[made.id] = made
        return made.id

    async def start(self, container: str) -> None:
        """Starts a container; running already is success."""
        kept = self._named(container)
        await self._asked("start", kept.name)
        if kept.running:
            return
        kept.started_at = f"2001-01-01T00:00:00.{next(self._starts):09}Z"
        kept.running, kept.pid = True, self.pid or 1
        for mount in (kept.config.get("HostConfig") or {}).get("Mounts") or ():
            if (fifo := _reader(str(mount.get("Source")))) is not None:
                kept.fifos.append(fifo)
        test = (kept.config.get("Healthcheck") or {}).get("Test") or ["NONE"]
        kept.health = "" if test[0] == "NONE" else "starting"
        self._say("start", kept)

    async def inspect(self, container: str) -> dict[str, Any]:
        """``GET /containers/{id}/json``, what of it the agent reads."""
        kept = self._named(container)
        await self._asked("inspect", kept.name)
        state: dict[str, Any] = {
            "Running": kept.running,
            "StartedAt": kept.started_at,
            "ExitCode": kept.exit_code,
            "Error": "",
            "Pid": kept.pid,
        }
        if kept.health:
            state["Health"] = {"Status": kept.health}
        return {
            "Id": kept.id,
            "Name": f"/{kept.name}",
            "State": state,
            "Config": {
                "Entrypoint": kept.config.get("Entrypoint"),
                "Hostname": kept.config.get("Hostname") or kept.id[:12],
                "Labels": kept.labels,
                "StopSignal": kept.config.get("StopSignal"),
            },
            "NetworkSettings": {
                "SandboxKey": f"/run/docker/netns/{kept.id[-12:]}" if kept.running else ""
            },
        }

    async def file(self, container: str, path: str) -> Found | None:
        """A file of a container; one of an image that was not told of files has every file."""
        kept = self.kept.get(container)
        await self._asked("file", path)
        if kept is None:
            return None
        files = self.files.get(kept.config["Image"])
        return Found(executable=True) if files is None else files.get(path)

    async def kill(self, container: str, signal: str) -> None:
        """Sends a signal; a container that does not run is success."""
        kept = self.kept.get(container)
        await self._asked("kill", kept.name if kept is not None else container)
        if kept is None or not kept.running:
            return
        kept.signals.append(signal)
        code = _KILLED if signal == "SIGKILL" else self._images[kept.config["Image"]]
        if code is not None:
            self._end(kept, code)

    async def remove(self, container: str) -> None:
        """Kills and removes a container; gone already is success."""
        kept = self.kept.get(container)
        await self._asked("remove", kept.name if kept is not None else container)
        if kept is None:
            return
        if kept.running:
            self._end(kept, _KILLED)
        del self.kept[container]
        self._say("destroy", kept)

    async def containers(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Containers with all ``labels`` (``key`` or ``key=value``)."""
        await self._asked("containers", "")
        await self.listing.wait()
        return [
            {
                "Id": kept.id,
                "Names": [f"/{kept.name}"],
                "Labels": kept.labels,
                "Command": " ".join(
                    word for key in ("Entrypoint", "Cmd") for word in kept.config.get(key) or ()
                ),
            }
            for kept in self.kept.values()
            if all(_has(kept.labels, label) for label in labels)
        ]

    async def network(self, name: str) -> dict[str, Any] | None:
        """``GET /networks/{id}``; None: there is none of that name or ID."""
        await self._asked("network", name)
        return next((n for n in self.made_networks if name in {n["Id"], n["Name"]}), None)

    async def networks(self, label: str) -> list[dict[str, Any]]:
        """Networks with a label (``key`` or ``key=value``)."""
        await self._asked("networks", label)
        return [n for n in self.made_networks if _has(n.get("Labels") or {}, label)]

    async def create_network(self, config: Mapping[str, Any]) -> str:
        """Makes a network."""
        await self._asked("create_network", config["Name"])
        if await self.network(config["Name"]) is not None:
            words = f"network with name {config['Name']} already exists"
            raise EngineConflictError(words, HTTPStatus.CONFLICT)
        made = {**config, "Id": f"{next(self._ids):064x}"}
        self.made_networks.append(made)
        return str(made["Id"])

    async def connect(self, network: str, container: str, endpoint: Mapping[str, Any]) -> None:
        """A container is on one more network."""
        await self._asked("connect", network)
        kept, found = self._named(container), await self.network(network)
        if found is None:
            raise _missing("network", network)
        kept.networks[found["Name"]] = dict(endpoint)

    async def on_network(self, name: str, network: str) -> bool:
        """Some container is on a network, running or not."""
        await self._asked("on_network", name)
        return any({name, network} & {kept.mode, *kept.networks} for kept in self.kept.values())

    async def remove_network(self, network: str) -> None:
        """Removes a network; gone already is success."""
        await self._asked("remove_network", network)
        self.made_networks = [
            each for each in self.made_networks if network not in {each["Id"], each["Name"]}
        ]

    async def last_line(self, container: str) -> str:
        """The last line a container logged."""
        return self._named(container).log

    async def init_binary(self) -> str:
        """What it calls docker-init."""
        await self._asked("init_binary", "")
        return self.init

    async def image(self, reference: str, auth: str = "") -> dict[str, Any]:
        """``GET /images/{name}/json``; no registry is asked."""
        await self._asked("image", reference)
        if reference not in self._images:
            raise _missing("image", reference)
        return {"Id": f"sha256:{reference}", "Config": {"Cmd": ["sleep", "1000"]}}

    async def events(self) -> AsyncGenerator[Event, None]:
        """Everything that happens to containers, for ever; starts with ``RESYNC``."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        await self._up.wait()
        queue.put_nowait(Event(RESYNC))
        self._followers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._followers.discard(queue)

    async def answers(self, at_most_s: float) -> None:
        """Returns when it is back, at the latest after that many seconds."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._up.wait()
        except TimeoutError:
            return

    # ---- inside ----

    async def _asked(self, call: str, what: str) -> None:
        await asyncio.sleep(0)
        self.calls.append((call, what))
        if not self._up.is_set():
            raise EngineGoneError("Cannot connect to the Docker daemon", 503)
        if call in self.refusals:
            raise self.refusals[call]

    def _named(self, container: str) -> Kept:
        kept = self.kept.get(container)
        if kept is None:
            raise _missing("container", container)
        return kept

    def _end(self, kept: Kept, code: int) -> None:
        _stop(kept, code)
        self._say("die", kept, code)

    def _say(self, action: str, kept: Kept, code: int = 0) -> None:
        event = Event(action, kept.id, kept.labels.get(TASK_LABEL, ""), code)
        for queue in self._followers:
            queue.put_nowait(event)


def _stop_all(there: Mapping[str, Kept]) -> None:
    """Of an engine that is forgotten: its programs hold descriptors of this process."""
    for kept in there.values():
        _stop(kept, 137)


def _stop(kept: Kept, code: int) -> None:
    kept.running, kept.exit_code, kept.pid = False, code, 0
    # moby says so of every health check that it no longer makes (CloseMonitorChannel).
    kept.health = "unhealthy" if kept.health else ""
    for fifo in kept.fifos:
        os.close(fifo)
    kept.fifos.clear()


def _reader(source: str) -> int | None:
    return os.open(source, os.O_RDONLY | os.O_NONBLOCK) if Path(source).is_fifo() else None


def _read(fifo: int) -> bytes:
    try:
        return os.read(fifo, 1024)
    except BlockingIOError:
        return b""


def _missing(what: str, name: str) -> EngineNotFoundError:
    return EngineNotFoundError(f"No such {what}: {name}", HTTPStatus.NOT_FOUND)


def _has(labels: Mapping[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)
