"""Containers of ``docker run`` and ``docker network connect`` on networks of the cluster.

They are the engine's; their networks are ours. Whatever names none of ours goes on to the engine as
it came.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from aiohttp import web

from meshnet.errors import ControlError
from meshnet.kernel import host_sockets
from meshnet.model.ids import ID_LENGTH, new_id
from meshnet_control.agent import init_binary, inspected
from meshnet_control.agent.attached_record import LABEL, Record
from meshnet_control.agent.task_containers import is_tasks
from meshnet_control.api.control_pb2 import Network
from meshnet_control.cluster.attachments import could_not, not_attachable
from meshnet_control.cluster.node_local import is_node_local
from meshnet_control.convert.json_text import parse_object
from meshnet_control.engine.labels import NETWORK_LABEL
from meshnet_control.gateway import attach_request, port_conflicts, responses
from meshnet_control.gateway.node_control import Attaching
from meshnet_control.gateway.request import NOT_IN_SWARM, HandlerContext, reference
from meshnet_control.gateway.routes.engine import create_container

_STARTED = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class AttachRoutes:
    """Handlers of what attaches containers."""

    def __init__(self, context: HandlerContext) -> None:
        self._context = context
        self._starting = port_conflicts.Starting()

    def routes(self) -> responses.Routes:
        """Method, path and handler."""
        return [
            ("POST", "/containers/create", self.create),
            ("POST", "/containers/{id}/start", self.start),
            ("POST", "/containers/{id}/restart", self.start),
            ("POST", "/networks/{id}/connect", self.connect),
            ("POST", "/networks/{id}/disconnect", self.disconnect),
        ]

    async def create(self, request: web.Request) -> web.StreamResponse:
        """``POST /containers/create``: the engine's, in our form if it names a network of ours."""
        body = parse_object(await request.read())
        attaching = self._context.node.attaching()
        ours: dict[str, Network] = {}
        if attaching is not None:
            for name in attach_request.asked(body).named:
                network = await self._network(attaching, name)
                if network is not None:
                    ours[name] = network
        local = {name: found for name, found in ours.items() if is_node_local(found)}
        if attaching is None or not local:
            return await self._created(attaching, request, body, ours)
        others = {name: found for name, found in ours.items() if name not in local}
        names = {name: found.spec.name for name, found in local.items()}
        known_by_name = all(name == names[name] for name in names)
        asked = body if known_by_name else attach_request.renamed(body, names)
        async with attaching.networks.held(list(local.values())):
            return await self._created(attaching, request, asked, others, changed=not known_by_name)

    async def _created(
        self,
        attaching: Attaching | None,
        request: web.Request,
        body: Mapping[str, Any],
        ours: Mapping[str, Network],
        *,
        changed: bool = False,
    ) -> web.StreamResponse:
        """A container that is made by the engine, or by it and us.

        Args:
            attaching: None: this node is in no cluster.
            request: as it came.
            body: its body, with the engine's own names of networks.
            ours: overlay networks, by the name that is in the body.
            changed: the body is another one than came.
        """
        if attaching is None or not ours:
            return await create_container(self._context, request, body, changed=changed)
        image = await self._image(str(body.get("Image") or ""))
        if image is None:  # the engine says so, and the client pulls it
            return await create_container(self._context, request, body, changed=changed)
        return await self._create(attaching, request, (body, image, ours))

    async def _create(
        self,
        attaching: Attaching,
        request: web.Request,
        wanted: tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Network]],
    ) -> web.StreamResponse:
        containers, key = attaching.containers, new_id(secrets.SystemRandom())
        gate = containers.directory(key).gate
        body, image, ours = wanted
        records = containers.records.values()  # a container that does not run keeps its number
        taken = {(protocol, port) for each in records for protocol, _, port in each.ports}
        taken |= host_sockets.open_ports()
        init = await self._init() if attach_request.wants_init(body) else ""
        made = attach_request.rewritten(body, image, ours, key, gate, taken, init)
        containers.prepare(made.record)
        try:
            answer = await create_container(self._context, request, made.body, changed=True)
            if answer.status != HTTPStatus.CREATED or not isinstance(answer, web.Response):
                return answer
            if not isinstance(answer.body, bytes):
                return answer
            container = str(parse_object(answer.body)["Id"])
            try:
                await containers.made(key, container)
            except ControlError:
                await self._context.engine.told("DELETE", f"/containers/{container}?force=1&v=1")
                raise
            return answer
        finally:
            containers.abandon(key)

    async def start(self, request: web.Request) -> web.StreamResponse:
        """``POST /containers/{id}/start`` and ``restart``: its networks are there when it is."""
        attaching = self._context.node.attaching()
        container = await self._attached(attaching, reference(request))
        if attaching is None:
            await self._refuse_gated(reference(request))
        if attaching is None or not container:
            return await self._context.engine.relay(request, await request.read())
        record = attaching.containers.record(container)
        with ExitStack() as stack:
            if record is not None and record.ports:
                name = str((await self._container(container)).get("Name")).removeprefix("/")
                known, sockets = self._context.node.overlays(), host_sockets.waited_at()
                stack.enter_context(self._starting.taken(record, name, known, sockets))
            await attaching.containers.about_to_start(container)
            answer = await self._context.engine.relay(request, await request.read())
            if answer.status in _STARTED:
                await attaching.containers.settled(container)
            return answer

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """``POST /networks/{id}/connect``."""
        attaching = self._context.node.attaching()
        network = await self._network(attaching, reference(request)) if attaching else None
        body = parse_object(await request.read())
        if attaching is None:
            return await self._context.engine.relay(request, await request.read())
        named = str(body.get("Container") or "")
        if network is None:
            return await self._engines(attaching, request, named)
        if is_node_local(network):
            async with attaching.networks.held([network]):
                return await self._engines(attaching, request, named, network.spec.name)
        found = await self._container(str(body.get("Container") or ""))
        settings = body.get("EndpointConfig")
        place = attach_request.place(network, settings if isinstance(settings, dict) else {}, 0)
        known = attaching.containers.record(str(found["Id"]))
        fresh = known or self._fresh(found)
        running = bool((found.get("State") or {}).get("Running"))
        await attaching.containers.connect(fresh, place, running=running)
        return responses.empty(HTTPStatus.OK)

    async def disconnect(self, request: web.Request) -> web.StreamResponse:
        """``POST /networks/{id}/disconnect``."""
        attaching = self._context.node.attaching()
        body = parse_object(await request.read())
        named = str(body.get("Container") or "")
        if attaching is None:
            return await self._context.engine.relay(request, await request.read())
        container = await self._attached(attaching, named) if named else ""
        record = attaching.containers.record(container)
        wanted = reference(request)
        for place in record.places if record is not None else ():
            if wanted in {place.network, place.name}:
                await attaching.containers.disconnect(container, place.network)
                return responses.empty(HTTPStatus.OK)
        try:
            name, network = container or named, await self._own_name(wanted)
            return await self._engines(attaching, request, name, network)
        finally:
            attaching.networks.freed()

    # ---- inside ----

    async def _init(self) -> str:
        """docker-init on this host."""
        info = await self._context.engine.json("/info")
        return init_binary.path_of(str(info.get("InitBinary") or ""))

    async def _own_name(self, reference: str) -> str:
        """The engine's name for a network that it made for the cluster; others stay as they are."""
        if len(reference) != ID_LENGTH:
            return reference
        label = json.dumps({"label": [f"{NETWORK_LABEL}={reference}"]})
        found = await self._context.engine.json("/networks", {"filters": label})
        return str(found[0]["Name"]) if found else reference

    async def _refuse_gated(self, name: str) -> None:
        """Refuse to start what would wait at its gate for networks that nobody has here.

        Raises:
            ControlError: the container is one that we attach, and this node is in no cluster now.
        """
        try:
            found = await self._container(name)
        except ControlError:  # the engine says it again
            return
        labels = (found.get("Config") or {}).get("Labels") or {}
        if LABEL in labels and inspected.gated(found):  # an image has the label of what it is of
            info = self._context.node.swarm_info()
            words = info.error or NOT_IN_SWARM
            raise ControlError(could_not("of the swarm", words), HTTPStatus.SERVICE_UNAVAILABLE)

    async def _engines(
        self, attaching: Attaching, request: web.Request, name: str, network: str = ""
    ) -> web.StreamResponse:
        """A container is connected to a network of the engine's, or taken off one.

        The engine takes none beside ``none``, which is what it has for what we attach.

        Args:
            attaching: this node's.
            request: as it came.
            name: of the container.
            network: the engine's name for the network; empty: as in the request.
        """
        engine = self._context.engine
        container = await self._attached(attaching, name)
        if not container:
            return await self._on_network(request, network)
        async with attaching.containers.room(container):
            found = await self._container(container)
            if attach_request.NONE in ((found.get("NetworkSettings") or {}).get("Networks") or {}):
                body = {"Container": container, "Force": True}
                path = f"/networks/{attach_request.NONE}/disconnect"
                await engine.told("POST", path, body)
            return await self._on_network(request, network)

    async def _on_network(self, request: web.Request, network: str) -> web.StreamResponse:
        """``connect`` or ``disconnect``, at the engine, by its name for the network."""
        raw = await request.read()
        if network in {"", reference(request)}:
            return await self._context.engine.relay(request, raw)
        verb = request.path.rpartition("/")[2]
        path = f"/networks/{quote(network, safe='')}/{verb}"
        await self._context.engine.told("POST", path, parse_object(raw))
        return responses.empty(HTTPStatus.OK)

    def _fresh(self, container: Mapping[str, Any]) -> Record:
        labels = (container.get("Config") or {}).get("Labels") or {}
        if is_tasks(labels, [str(container.get("Name"))]):
            raise ControlError(
                "the networks of a service's container are the service's: "
                "docker service update --network-add",
                HTTPStatus.FORBIDDEN,
            )
        return attach_request.connected(container, new_id(secrets.SystemRandom()))

    async def _network(self, attaching: Attaching, name: str) -> Network | None:
        """The network of the cluster that a name means; None: it means the engine's, or none.

        Raises:
            ControlError: containers may not be attached to it, or nobody can be asked.
        """
        if not attach_request.could_be_ours(name):
            return None
        api = self._context.api_or_none()
        if api is not None:
            found = await api.networks.search(name, exact=True)
            if not found:
                return None
            if not found[0].spec.attachable:
                words = could_not(found[0].spec.name, not_attachable(found[0].spec.name))
                raise ControlError(words, HTTPStatus.INTERNAL_SERVER_ERROR)
            return found[0]
        if await self._is_engines(name):
            return None
        try:
            return await attaching.find(name)
        except ControlError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def _is_engines(self, name: str) -> bool:
        try:
            await self._context.engine.json(f"/networks/{quote(name, safe='')}")
        except ControlError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    async def _image(self, name: str) -> Mapping[str, Any] | None:
        """``Config`` of an image; None: the engine does not have it."""
        try:
            found = await self._context.engine.json(f"/images/{quote(name, safe='/:@')}/json")
        except ControlError as error:
            if error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST}:
                return None
            raise
        return found.get("Config") or {}

    async def _container(self, name: str) -> Mapping[str, Any]:
        found = await self._context.engine.json(f"/containers/{quote(name, safe='')}/json")
        return found if isinstance(found, dict) else {}

    async def _attached(self, attaching: Attaching | None, name: str) -> str:
        """ID of an attached container by whatever name; empty: it is none, or is not there."""
        if attaching is None:
            return ""
        if attaching.containers.record(name) is not None:
            return name
        try:
            container = str((await self._container(name)).get("Id") or "")
        except ControlError:
            return ""
        return container if attaching.containers.record(container) is not None else ""
