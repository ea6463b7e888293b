"""The one client of the local Docker Engine: containers, images, networks, events, anything else.

Errors come in the engine's own words (``errors.py``); how it is asked, and whether it answers, is
``connection.py``.

Be aware: nothing here blocks for a container's grace period: a stop is ``kill`` with the stop
signal, and the end comes as an event. ``events`` reconnects for ever; after every (re)connection it
says ``RESYNC``, because what happened in between was missed. Images are pulled with the credentials
that came with their service (``--with-registry-auth``), or with none: never with root's own.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

from meshnet import drops, ends
from meshnet.errors import ControlError, WireError
from meshnet.model.snapshot import Gwbridge
from meshnet_control.api import control_pb2 as pb
from meshnet_control.convert.engine_json import from_engine
from meshnet_control.engine.connection import Answer, Connection, Request
from meshnet_control.engine.errors import (
    EngineConflictError,
    EngineError,
    EngineGoneError,
    EngineNotFoundError,
)
from meshnet_control.engine.events import RESYNC, Event, Inbox, parse
from meshnet_control.engine.files import STAT_HEADER, Found, found_in
from meshnet_control.engine.labels import NODE_LABEL, OURS, TASK_LABEL
from meshnet_control.engine.lacking import lacking, newer_parts

__all__ = [  # what users of the client need with it
    "GWBRIDGE", "NODE_LABEL", "OURS", "RESYNC", "TASK_LABEL",
    "EngineClient", "EngineConflictError", "EngineError", "EngineGoneError", "EngineNotFoundError",
    "Event", "gwbridge_of",
]  # fmt: skip

_log = logging.getLogger(__name__)

GWBRIDGE: Final = "docker_gwbridge"

_RECONNECT_S: Final = 0.2
_GWBRIDGE_OPTIONS: Final = {
    "com.docker.network.bridge.name": GWBRIDGE,
    "com.docker.network.bridge.enable_icc": "false",
    "com.docker.network.bridge.enable_ip_masquerade": "true",
}
"""Source: moby daemon/cluster/executor/container and a recorded ``docker network inspect``."""

T = TypeVar("T")


class EngineClient:
    """A client of the local engine.

    Args:
        url: ``unix:///run/docker.sock``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = Connection(url)

    # ---- containers ----

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Makes a container.

        Args:
            name: its name.
            config: body of ``POST /containers/create``.

        Returns:
            Its ID.

        Raises:
            EngineError: refused, also for what the engine is too old for and would leave out.
        """
        if newer := newer_parts(config):
            version = _shaped(await self.json("/version"), dict).get("ApiVersion", "")
            why_not = lacking(newer, str(version))
            if why_not is not None:
                raise EngineError(why_not, HTTPStatus.NOT_IMPLEMENTED)
        made = await self._connection.call(
            lambda docker: docker.containers.create(dict(config), name=name)
        )
        return made.id

    async def start(self, container: str) -> None:
        """Starts a container; running already is success."""
        await self._connection.call(lambda docker: docker.containers.container(container).start())

    async def inspect(self, container: str) -> dict[str, Any]:
        """``GET /containers/{id}/json``."""
        return _shaped(
            await self._connection.call(
                lambda docker: docker.containers.container(container).show()
            ),
            dict,
        )

    async def file(self, container: str, path: str) -> Found | None:
        """A file of a container, running or not; None: there is none, or no such container."""
        asked = f"/containers/{container}/archive?{urlencode({'path': path})}"
        async with self.open(Request("HEAD", asked)) as answer:
            if answer.status == HTTPStatus.NOT_FOUND:
                return None
            found = found_in(answer.headers.get(STAT_HEADER, ""))
            if answer.status != HTTPStatus.OK or found is None:
                raise EngineError(f"the engine does not say what {path} is", answer.status)
            return found

    async def kill(self, container: str, signal: str) -> None:
        """Sends a signal; a container that does not run is success."""
        with suppress(EngineNotFoundError, EngineConflictError):
            await self._connection.call(
                lambda docker: docker.containers.container(container).kill(signal=signal)
            )

    async def remove(self, container: str) -> None:
        """Kills and removes a container and its anonymous volumes; gone already is success."""
        with suppress(EngineNotFoundError, EngineConflictError):
            # 409: its removal is already in progress.
            await self._connection.call(
                lambda docker: docker.containers.container(container).delete(v=True, force=True)
            )

    async def containers(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Containers, stopped ones included, with all ``labels`` (``key`` or ``key=value``)."""
        asked = {"all": "1", "filters": json.dumps({"label": list(labels)})}
        return _shaped(await self.json("/containers/json", asked), list)

    async def last_line(self, container: str) -> str:
        """The last line a container logged; empty when its log driver cannot be read."""
        try:
            lines = await self._connection.call(
                lambda docker: docker.containers.container(container).log(
                    stdout=True, stderr=True, tail=1
                )
            )
        except EngineError:
            return ""
        return "".join(lines).strip()

    # ---- images ----

    async def image(self, reference: str, auth: str = "") -> dict[str, Any]:
        """``GET /images/{name}/json``; an image that is not here is pulled first.

        Args:
            reference: its name.
            auth: ``X-Registry-Auth`` of the pull; empty: without credentials.

        Raises:
            EngineNotFoundError: neither here nor in its registry, in the engine's words.
        """
        try:
            return await self._image(reference)
        except EngineNotFoundError:
            try:
                await self._pull(reference, auth)
                return await self._image(reference)
            except EngineGoneError:
                raise
            except EngineError as error:
                words = f"No such image: {reference}"  # what creating a container would say
                missing = EngineNotFoundError(words, HTTPStatus.NOT_FOUND)
                missing.add_note(str(error))
                raise missing from error

    async def _image(self, reference: str) -> dict[str, Any]:
        name = quote(reference, safe="/:@")
        return _shaped(
            await self._connection.call(lambda docker: docker.images.inspect(name)), dict
        )

    async def _pull(self, reference: str, auth: str) -> None:
        """``POST /images/create``; a pull that is cancelled is cancelled at the engine, too."""
        asked = {"fromImage": reference}
        if not {":", "@"} & set(reference.rpartition("/")[2]):
            asked["tag"] = "latest"  # without one, the engine pulls them all
        request = Request(
            "POST",
            f"/images/create?{urlencode(asked)}",
            headers={"X-Registry-Auth": auth} if auth else {},
            limit_s=None,
        )
        async with self.open(request) as answer:
            await answer.accepted()
            async for line in answer.lines():
                try:
                    progress = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(progress, dict) and "error" in progress:
                    raise EngineError(str(progress["error"]), HTTPStatus.NOT_FOUND)

    # ---- the node ----

    async def describe(self, hostname: str) -> pb.NodeDescription:
        """What this host is and has, for the managers.

        Args:
            hostname: name of the host.
        """
        info = await self._connection.call(lambda docker: docker.system.info())
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
            resources=_resources(info),
            engine=pb.EngineDescription(
                engine_version=info.get("ServerVersion", ""), labels=labels, plugins=plugins
            ),
        )

    async def init_binary(self) -> str:
        """``InitBinary`` of ``GET /info``: a path of its own, or a name; empty: it says none.

        Raises:
            EngineError: the engine refuses, or nobody answers.
        """
        info = await self._connection.call(lambda docker: docker.system.info())
        return str(info.get("InitBinary") or "")

    async def gwbridge(self) -> Gwbridge:
        """docker_gwbridge, made exactly as Swarm makes it when it is not there yet."""
        return gwbridge_of(await self.gwbridge_network())

    async def gwbridge_network(self, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The engine's network docker_gwbridge; made when it is not there.

        Args:
            like: what it looked like before (its ``inspect``); None: as Swarm makes it.
        """
        asked = like or {"Options": _GWBRIDGE_OPTIONS, "Labels": {OURS: "1"}}
        with suppress(EngineNotFoundError):
            return await self._network(GWBRIDGE)
        config = {
            "Name": GWBRIDGE,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "Options": dict(asked.get("Options") or {}),
            "Labels": dict(asked.get("Labels") or {}),
            "IPAM": asked.get("IPAM"),
        }
        with suppress(EngineConflictError):  # the engine was faster
            await self._connection.call(lambda docker: docker.networks.create(config))
        return await self._network(GWBRIDGE)

    async def _network(self, name: str) -> dict[str, Any]:
        return _shaped(await self.json(f"/networks/{quote(name, safe='')}"), dict)

    async def network(self, name: str) -> dict[str, Any] | None:
        """``GET /networks/{id}``; None: there is none of that name or ID."""
        try:
            return await self._network(name)
        except EngineNotFoundError:
            return None

    async def networks(self, label: str) -> list[dict[str, Any]]:
        """Networks with a label (``key`` or ``key=value``)."""
        asked = {"filters": json.dumps({"label": [label]})}
        return _shaped(await self.json("/networks", asked), list)

    async def create_network(self, config: Mapping[str, Any]) -> str:
        """Makes a network.

        Args:
            config: body of ``POST /networks/create``.

        Returns:
            Its ID.

        Raises:
            EngineError: refused.
        """
        made = await self._connection.call(lambda docker: docker.networks.create(dict(config)))
        return str(made.id)

    async def connect(self, network: str, container: str, endpoint: Mapping[str, Any]) -> None:
        """A container is on one more network, with ``EndpointSettings``."""
        found = await self._connection.call(lambda docker: docker.networks.get(network))
        body = {"Container": container, "EndpointConfig": dict(endpoint)}
        await self._connection.call(lambda _: found.connect(body))

    async def on_network(self, name: str, network: str) -> bool:
        """Some container is on a network, running or not; one that never ran knows its name."""
        asked = {"all": "1", "limit": "1", "filters": json.dumps({"network": [name, network]})}
        return bool(await self.json("/containers/json", asked))

    async def remove_network(self, network: str) -> None:
        """Removes a network; gone already is success."""
        with suppress(EngineNotFoundError):
            found = await self._connection.call(lambda docker: docker.networks.get(network))
            await self._connection.call(lambda _: found.delete())

    async def remove_gwbridge(self) -> bool:
        """Removes docker_gwbridge if we made it; whether it was there to remove."""
        with suppress(EngineNotFoundError):
            network = await self._network(GWBRIDGE)
            if (network.get("Labels") or {}).get(OURS) == "1":
                await self.remove_network(network["Id"])
                return True
        return False

    # ---- events ----

    async def events(self) -> AsyncGenerator[Event, None]:
        """Everything that happens to containers, for ever; starts with ``RESYNC``."""
        inbox = Inbox()
        following = asyncio.create_task(self._follow(inbox), name="engine events")
        following.add_done_callback(inbox.close)
        try:
            while True:
                yield await inbox.get()
        finally:
            await ends.ended(following)

    async def _follow(self, inbox: Inbox) -> None:
        asked = urlencode({"filters": json.dumps({"type": ["container"]})})
        request = Request("GET", f"/events?{asked}", limit_s=None)
        said: set[str] = set()
        while True:
            try:
                async with self.open(request) as answer:
                    await answer.accepted()
                    inbox.resync()
                    async for line in answer.lines():
                        _take(line, inbox, said)
                    raise self._connection.lost()
            except EngineGoneError:  # said by the connection, once
                pass
            except EngineError as error:
                if str(error) not in said:
                    said = {str(error)}
                    _log.warning("events of the engine cannot be read: %s", error)
            await asyncio.sleep(_RECONNECT_S)

    async def answers(self, at_most_s: float) -> None:
        """Returns when an engine that went is back, at the latest after that many seconds.

        ``events`` must be followed meanwhile: it is what finds out.
        """
        await self._connection.answers(at_most_s)

    # ---- any other request ----

    def open(self, request: Request) -> AbstractAsyncContextManager[Answer]:
        """One request; the answer's body is read inside the ``async with``.

        Raises:
            EngineGoneError: the engine does not answer.
        """
        return self._connection.open(request)

    async def json(self, path: str, params: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401
        """A GET's JSON.

        Raises:
            EngineError: the engine does not answer, or refuses (its own message and status).
        """
        return await self._connection.json(Request("GET", path, params))

    async def close(self) -> None:
        """Lets calls end, for a moment, and closes every connection."""
        await self._connection.close()


def _take(line: bytes, inbox: Inbox, said: set[str]) -> None:
    """An event, or, for one that cannot be read, a look at everything; ``said``: logged already."""
    if not line.strip():
        return
    try:
        inbox.put(parse(line))
    except WireError as error:
        drops.count(f"engine: {error.why}")
        if error.why not in said:
            said.add(error.why)
            _log.warning("%s: %.200r: every container is looked at instead", error, line)
        inbox.resync()


def _shaped(found: Any, kind: type[T]) -> T:  # noqa: ANN401 - any JSON value
    if not isinstance(found, kind):
        raise EngineError(
            f"the engine's answer makes no sense: a {type(found).__name__} for a {kind.__name__}",
            HTTPStatus.BAD_GATEWAY,
        )
    return found


def _resources(info: Mapping[str, Any]) -> pb.NodeResources:
    """Of ``GET /info``; GenericResources are the engine's ``node-generic-resources``."""
    has = {
        "NanoCPUs": int(info.get("NCPU", 0)) * 10**9,
        "MemoryBytes": int(info.get("MemTotal", 0)),
        "GenericResources": info.get("GenericResources"),
    }
    try:
        return from_engine(pb.NodeResources, has)
    except ControlError as error:
        raise EngineError(f"the engine's answer makes no sense: {error}") from error


def gwbridge_of(network: Mapping[str, Any]) -> Gwbridge:
    """What a Snapshot says of docker_gwbridge; ``network``: its ``inspect``. Pure."""
    config = network["IPAM"]["Config"][0]
    subnet = IPv4Network(config["Subnet"])
    name = (network.get("Options") or {}).get("com.docker.network.bridge.name", GWBRIDGE)
    gateway = str(config.get("Gateway") or subnet[1]).partition("/")[0]
    return Gwbridge(name=name, subnet=subnet, gateway=IPv4Address(gateway))
