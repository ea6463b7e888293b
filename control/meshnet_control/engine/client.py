"""The client of the local Docker Engine; the Docker SDK is imported here and nowhere else.

Every call runs in a bounded pool of threads, so that many tasks start at once and the loop never
blocks. Errors of the SDK become ours once, with the engine's own words.

Be aware: nothing here blocks for a container's grace period: a stop is ``kill`` with the stop
signal, and the end comes as an event. ``events`` reconnects for ever; after every (re)connection it
says ``RESYNC``, because what happened in between was missed. That the engine went and that it is
back is logged here, once each; who waits for it uses ``answers``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final, TypeVar

import docker
import docker.errors
import requests

from meshnet.errors import ControlError
from meshnet.model.snapshot import Gwbridge
from meshnet_control.api import control_pb2 as pb

_log = logging.getLogger(__name__)

GWBRIDGE: Final = "docker_gwbridge"
OURS: Final = "meshnet"
"""Label of what we made in the engine."""
TASK_LABEL: Final = "com.docker.swarm.task.id"
NODE_LABEL: Final = "com.docker.swarm.node.id"
RESYNC: Final = "resync"
"""Action of the event that says: events may have been missed, look again."""

_WORKERS: Final = 16
_RECONNECT_S: Final = 0.2
_TIMEOUT_S: Final = 60
_GWBRIDGE_OPTIONS: Final = {
    "com.docker.network.bridge.name": GWBRIDGE,
    "com.docker.network.bridge.enable_icc": "false",
    "com.docker.network.bridge.enable_ip_masquerade": "true",
}
"""Source: moby daemon/cluster/executor/container and a recorded ``docker network inspect``."""

T = TypeVar("T")


class EngineError(ControlError):
    """The engine refused; ``message`` is what it said."""


class EngineNotFoundError(EngineError):
    """No such container, network or image."""


class EngineConflictError(EngineError):
    """The name is taken, or the container is not in a state that allows it."""


class EngineGoneError(EngineError):
    """Nobody answers on the engine's socket."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a container."""

    action: str
    """``die``, ``start``, ``destroy``, ``health_status: healthy`` … or ``RESYNC``."""
    container: str = ""
    """Container ID, 64 hex digits."""
    task: str = ""
    """Task ID from the container's label, empty when it is not a task."""
    exit_code: int = 0
    """Of a ``die``."""


class EngineClient:
    """A client of the local engine.

    Args:
        url: ``unix:///run/docker.sock``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="engine")
        self._lock = threading.Lock()
        self._client: Any = None
        self._streams: set[Any] = set()
        self._closed = False
        self._gone = False
        self._waiting: set[Callable[[], object]] = set()

    # ---- containers ----

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Makes a container.

        Args:
            name: its name.
            config: body of ``POST /containers/create``.

        Returns:
            Its ID.
        """
        made = await self._call(lambda api: api.create_container_from_config(dict(config), name))
        return str(made["Id"])

    async def start(self, container: str) -> None:
        """Starts a container; running already is success."""
        await self._call(lambda api: api.start(container))

    async def inspect(self, container: str) -> dict[str, Any]:
        """``GET /containers/{id}/json``."""
        found: dict[str, Any] = await self._call(lambda api: api.inspect_container(container))
        return found

    async def kill(self, container: str, signal: str) -> None:
        """Sends a signal; a container that does not run is success."""
        with contextlib.suppress(EngineNotFoundError, EngineConflictError):
            await self._call(lambda api: api.kill(container, signal))

    async def remove(self, container: str) -> None:
        """Kills and removes a container and its anonymous volumes; gone already is success."""
        with contextlib.suppress(EngineNotFoundError, EngineConflictError):
            # 409: its removal is already in progress.
            await self._call(lambda api: api.remove_container(container, v=True, force=True))

    async def containers(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Containers, stopped ones included, with all ``labels`` (``key`` or ``key=value``)."""
        found: list[dict[str, Any]] = await self._call(
            lambda api: api.containers(all=True, filters={"label": list(labels)})
        )
        return found

    async def last_line(self, container: str) -> str:
        """The last line a container logged; empty when its log driver cannot be read."""
        try:
            text: bytes = await self._call(lambda api: api.logs(container, tail=1, stream=False))
        except EngineError:
            return ""
        return text.decode(errors="replace").strip()

    # ---- images ----

    async def image(self, reference: str) -> dict[str, Any]:
        """``GET /images/{name}/json``; an image that is not here is pulled first.

        Raises:
            EngineNotFoundError: neither here nor in its registry, in the engine's words.
        """
        try:
            return await self._image(reference)
        except EngineNotFoundError:
            try:
                await asyncio.to_thread(self._now, lambda api: _pull(api, reference))
                return await self._image(reference)
            except EngineGoneError:
                raise
            except EngineError as error:
                words = f"No such image: {reference}"  # what creating a container would say
                missing = EngineNotFoundError(words, HTTPStatus.NOT_FOUND)
                missing.add_note(str(error))
                raise missing from error

    async def _image(self, reference: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._call(lambda api: api.inspect_image(reference))
        return found

    # ---- the node ----

    async def describe(self, hostname: str) -> pb.NodeDescription:
        """What this host is and has, for the managers.

        Args:
            hostname: name of the host.
        """
        info = await self._call(lambda api: api.info())
        plugins = [
            pb.EnginePlugin(type=kind, name=name)
            for kind in ("Log", "Network", "Volume")
            for name in sorted((info.get("Plugins") or {}).get(kind) or ())
        ]
        labels = dict(label.partition("=")[::2] for label in info.get("Labels") or ())
        return pb.NodeDescription(
            hostname=hostname,
            platform=pb.Platform(
                architecture=info.get("Architecture", ""), os=info.get("OSType", "")
            ),
            resources=pb.NodeResources(
                nano_cpus=int(info.get("NCPU", 0)) * 10**9,
                memory_bytes=int(info.get("MemTotal", 0)),
            ),
            engine=pb.EngineDescription(
                engine_version=info.get("ServerVersion", ""), labels=labels, plugins=plugins
            ),
        )

    async def gwbridge(self) -> Gwbridge:
        """docker_gwbridge, made exactly as Swarm makes it when it is not there yet."""
        return gwbridge_of(await self.gwbridge_network())

    async def gwbridge_network(self, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The engine's network docker_gwbridge; made when it is not there.

        Args:
            like: what it looked like before (its ``inspect``); None: as Swarm makes it.
        """
        asked = like or {"Options": _GWBRIDGE_OPTIONS, "Labels": {OURS: "1"}}
        with contextlib.suppress(EngineNotFoundError):
            return await self._network(GWBRIDGE)
        with contextlib.suppress(EngineConflictError):  # the engine was faster
            await self._call(
                lambda api: api.create_network(
                    GWBRIDGE,
                    "bridge",
                    options=dict(asked.get("Options") or {}),
                    labels=dict(asked.get("Labels") or {}),
                    ipam=asked.get("IPAM"),
                    check_duplicate=True,
                )
            )
        return await self._network(GWBRIDGE)

    async def _network(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._call(lambda api: api.inspect_network(name))
        return found

    async def remove_network(self, network: str) -> None:
        """Removes a network; gone already is success."""
        with contextlib.suppress(EngineNotFoundError):
            await self._call(lambda api: api.remove_network(network))

    async def remove_gwbridge(self) -> bool:
        """Removes docker_gwbridge if we made it; whether it was there to remove."""
        with contextlib.suppress(EngineNotFoundError):
            network = await self._call(lambda api: api.inspect_network(GWBRIDGE))
            if (network.get("Labels") or {}).get(OURS) == "1":
                await self._call(lambda api: api.remove_network(GWBRIDGE))
                return True
        return False

    # ---- events ----

    async def events(self) -> AsyncGenerator[Event, None]:
        """Everything that happens to containers, for ever; starts with ``RESYNC``."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Event] = asyncio.Queue()
        stop = threading.Event()

        def say(event: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                loop.call_soon_threadsafe(queue.put_nowait, event)

        def follow() -> None:
            while not stop.is_set() and not self._closed:
                with contextlib.suppress(EngineError):
                    self._follow(say, stop)
                stop.wait(_RECONNECT_S)

        thread = threading.Thread(target=follow, name="engine-events", daemon=True)
        thread.start()
        try:
            while True:
                yield await queue.get()
        finally:
            stop.set()
            self._close_streams()

    def _follow(self, say: Callable[[Event], None], stop: threading.Event) -> None:
        def read(api: Any) -> None:  # noqa: ANN401 - docker.APIClient has no types
            stream = api.events(decode=True, filters={"type": ["container"]})
            self._streams.add(stream)
            try:
                self._note(gone=False)
                say(Event(RESYNC))
                for raw in stream:
                    if stop.is_set():
                        return
                    actor = raw.get("Actor") or {}
                    attributes = actor.get("Attributes") or {}
                    code = attributes.get("exitCode", "0")
                    task = attributes.get(TASK_LABEL, "")
                    say(Event(raw["Action"], actor.get("ID", ""), task, int(code)))
                if not stop.is_set():  # an engine's stream has no end of its own
                    raise requests.exceptions.ConnectionError("the event stream ended")
            finally:
                self._streams.discard(stream)
                stream.close()

        self._now(read)

    async def answers(self, at_most_s: float) -> None:
        """Returns when an engine that went is back, at the latest after that many seconds.

        ``events`` must be followed meanwhile: it is what finds out.
        """
        loop, back = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(back.set)

        with self._lock:
            if not self._gone:
                return
            self._waiting.add(tell)
        try:
            async with asyncio.timeout(at_most_s):
                await back.wait()
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._waiting.discard(tell)

    # ---- inside ----

    async def close(self) -> None:
        """Closes connections and stops the event stream."""
        self._closed = True
        self._close_streams()
        await asyncio.to_thread(self._pool.shutdown, wait=True)
        if self._client is not None:
            self._client.close()

    def _close_streams(self) -> None:
        for stream in list(self._streams):
            with contextlib.suppress(docker.errors.DockerException, OSError, AttributeError):
                stream.close()

    async def _call(self, work: Callable[[Any], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._now, work)

    def _now(self, work: Callable[[Any], T]) -> T:
        """Runs ``work`` with the client in this thread; the SDK's errors become ours."""
        try:
            done = work(self._connected())
        except docker.errors.NotFound as error:
            raise EngineNotFoundError(_words(error), HTTPStatus.NOT_FOUND) from error
        except docker.errors.APIError as error:
            status = error.status_code or HTTPStatus.INTERNAL_SERVER_ERROR
            kind = EngineConflictError if status == HTTPStatus.CONFLICT else EngineError
            raise kind(_words(error), status) from error
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            self._note(gone=True)
            raise EngineGoneError(self._silence(), HTTPStatus.SERVICE_UNAVAILABLE) from error
        self._note(gone=False)
        return done

    def _silence(self) -> str:
        return f"Cannot connect to the Docker daemon at {self.url}. Is the docker daemon running?"

    def _note(self, *, gone: bool) -> None:
        """Say once that the engine went or is back; from any thread."""
        with self._lock:
            if gone == self._gone or self._closed:
                return
            self._gone = gone
            told = [] if gone else list(self._waiting)
        if gone:
            _log.warning("%s", self._silence())
        else:
            _log.info("the Docker daemon at %s answers again", self.url)
        for tell in told:
            tell()

    def _connected(self) -> Any:  # noqa: ANN401 - docker.APIClient has no types
        with self._lock:
            if self._client is None:
                self._client = docker.APIClient(
                    self.url, version="auto", timeout=_TIMEOUT_S, max_pool_size=_WORKERS * 2
                )
            return self._client


def _pull(api: Any, reference: str) -> None:  # noqa: ANN401 - docker.APIClient has no types
    for progress in api.pull(reference, stream=True, decode=True):
        if "error" in progress:
            raise EngineError(str(progress["error"]), HTTPStatus.NOT_FOUND)


def _words(error: Any) -> str:  # noqa: ANN401 - docker.errors has no types
    return str(error.explanation or error)


def gwbridge_of(network: Mapping[str, Any]) -> Gwbridge:
    """What a Snapshot says of docker_gwbridge; ``network``: its ``inspect``. Pure."""
    config = network["IPAM"]["Config"][0]
    subnet = IPv4Network(config["Subnet"])
    name = (network.get("Options") or {}).get("com.docker.network.bridge.name", GWBRIDGE)
    gateway = str(config.get("Gateway") or subnet[1]).partition("/")[0]
    return Gwbridge(name=name, subnet=subnet, gateway=IPv4Address(gateway))
