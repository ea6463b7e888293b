"""``/networks*``: ours and the engine's in one list; and containers that name one of ours.

A name or id of ours wins over the engine's; a prefix is tried on ours last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from aiohttp import web

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import Network, NetworkCreateRequest
from meshnet_control.controlapi import filters, network_resource
from meshnet_control.controlapi.networks import PRUNE_FILTERS
from meshnet_control.controlapi.refusals import ambiguous, not_found
from meshnet_control.convert.engine_json import from_engine
from meshnet_control.convert.json_text import parse_object
from meshnet_control.engine.client import GWBRIDGE, OURS
from meshnet_control.gateway import responses
from meshnet_control.gateway.request import SPEC_BYTES, HandlerContext, flag, reference
from meshnet_control.gateway.request import body as read_body
from meshnet_control.gateway.routes.service_networks import engine_network


class NetworkRoutes:
    """Handlers of networks."""

    def __init__(self, context: HandlerContext) -> None:
        self._context = context

    def routes(self) -> responses.Routes:
        """Method, path and handler."""
        return [
            ("GET", "/networks", self.list),
            ("GET", "/networks/", self.list),
            ("POST", "/networks/create", self.create),
            ("POST", "/networks/prune", self.prune),
            ("GET", "/networks/{id}", self.inspect),
            ("DELETE", "/networks/{id}", self.remove),
            ("POST", "/networks/{id}/connect", self.connect),
            ("POST", "/networks/{id}/disconnect", self.connect),
            ("POST", "/containers/create", self.container_create),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """``GET /networks``."""
        api = self._context.api_or_none()
        if api is None:
            return await self._relay(request)
        wanted = filters.parse(request.query.get("filters"), network_resource.FILTERS)
        theirs = await self._context.engine.json(request.path, dict(request.query))
        return responses.ok([*(await api.networks.select(wanted)), *theirs])

    async def create(self, request: web.Request) -> web.StreamResponse:
        """``POST /networks/create``: swarm-scoped ones are ours."""
        body = parse_object(await read_body(request, SPEC_BYTES))
        if not _swarm_scoped(body):
            return await self._relay(request)
        if body.get("Scope") == "local":
            raise ControlError(
                "cannot downgrade network scope for overlay networks", HTTPStatus.FORBIDDEN
            )
        api = self._context.api()
        asked = from_engine(NetworkCreateRequest, body)
        local = await self._context.engine.json("/networks")
        made = await api.networks.create(asked, [str(n["Name"]) for n in local])
        return responses.ok({"Id": made, "Warning": ""}, HTTPStatus.CREATED)

    async def prune(self, request: web.Request) -> web.StreamResponse:
        """``POST /networks/prune``: the engine's unused networks and ours.

        docker_gwbridge stays: where the engine cannot be told so, it is there again at once
        (``meshnet_control.engine.gwbridge_keeper``).
        """
        if self._context.node.state == "inactive":
            return await self._relay(request)
        asked = request.clone(
            rel_url=request.rel_url.update_query(filters=_keeping(request.query.get("filters")))
        )
        answer = await self._context.engine.relay(asked, await request.read())
        api = self._context.api_or_none()
        if answer.status != HTTPStatus.OK or not isinstance(answer.body, bytes):
            return answer
        deleted = parse_object(answer.body).get("NetworksDeleted") or []
        theirs = [name for name in deleted if name != GWBRIDGE]
        ours = await api.networks.prune(request.query.get("filters")) if api is not None else []
        return responses.ok({"NetworksDeleted": [*theirs, *ours] or None})

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        """``GET /networks/{id}``; ``scope`` narrows it to ours or the engine's.

        The CLI asks with ``scope=swarm`` for a network it will put into a service.
        """
        scope = request.query.get("scope", "")
        found = await self._ours(request, exact=True) if scope != "local" else None
        if found is None and scope != "swarm":
            answer = await self._relay(request)
            if answer.status != HTTPStatus.NOT_FOUND:
                return answer
        if found is None and scope != "local":
            found = await self._ours(request, exact=False)
        if found is None and scope == "swarm" and self._context.api_or_none() is not None:
            found = await engine_network(self._context, reference(request))
        if found is None:
            raise not_found("network", reference(request))
        api = self._context.api()
        return responses.ok(await api.networks.inspect(found, verbose=flag(request, "verbose")))

    async def remove(self, request: web.Request) -> web.StreamResponse:
        """``DELETE /networks/{id}``."""
        found = await self._ours(request, exact=True)
        if found is None:
            await self._refuse_gwbridge(request)
            answer = await self._relay(request)
            if answer.status != HTTPStatus.NOT_FOUND:
                return answer
            found = await self._ours(request, exact=False)
        if found is None:
            raise not_found("network", reference(request))
        await self._context.api().networks.remove(found)
        return responses.empty(HTTPStatus.NO_CONTENT)

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """``POST /networks/{id}/connect`` and ``disconnect``: not yet to one of ours."""
        found = await self._ours(request, exact=True)
        if found is not None:
            raise _unattachable(found)
        return await self._relay(request)

    async def container_create(self, request: web.Request) -> web.StreamResponse:
        """``POST /containers/create``: the engine's, unless it names an overlay network."""
        body = parse_object(await request.read())
        api = self._context.api_or_none()
        if api is not None:
            for name in _networks_of(body):
                for network in await api.networks.search(name, exact=True):
                    raise _unattachable(network)
        return await self._relay(request)

    async def _refuse_gwbridge(self, request: web.Request) -> None:
        """Refuse docker_gwbridge, by name or id: every container of a service leaves through it.

        Raises:
            ControlError: as the engine refuses a network in use (403).
        """
        if self._context.node.state == "inactive":
            return
        try:
            path = f"/networks/{quote(reference(request), safe='')}"
            named = await self._context.engine.json(path)
        except ControlError:  # the engine says it again when it is asked to remove it
            return
        if named.get("Name") == GWBRIDGE:
            raise ControlError(
                f"error while removing network: network {GWBRIDGE} id {named['Id']} "
                "has active endpoints",
                HTTPStatus.FORBIDDEN,
            )

    async def _relay(self, request: web.Request) -> web.Response:
        return await self._context.engine.relay(request, await request.read())

    async def _ours(self, request: web.Request, *, exact: bool) -> Network | None:
        api = self._context.api_or_none()
        if api is None:
            return None
        name = reference(request)
        found = await api.networks.search(name, exact=exact)
        if len(found) > 1:
            raise ambiguous("network", name, len(found))
        return found[0] if found else None


def _keeping(raw: str | None) -> str:
    """PURE: the filters of a prune that spares docker_gwbridge.

    The engine sees no container on it: it is meshnet that attaches the tasks. It keeps a network
    only when all of several ``label!`` match, so beside another one ours is of no use.
    """
    wanted = {key: sorted(values) for key, values in filters.parse(raw, PRUNE_FILTERS).items()}
    return json.dumps(wanted | {"label!": [*wanted.get("label!", ()), OURS]})


def _swarm_scoped(body: Mapping[str, Any]) -> bool:
    """PURE: the driver is overlay, or the scope is said to be swarm."""
    return body.get("Driver") == "overlay" or body.get("Scope") == "swarm"


def _networks_of(body: Mapping[str, Any]) -> Iterable[str]:
    """PURE: names of the networks a new container would be attached to."""
    mode = _part(body, "HostConfig").get("NetworkMode")
    named = _part(_part(body, "NetworkingConfig"), "EndpointsConfig")
    return {name for name in (mode, *named) if isinstance(name, str) and name}


def _part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object in a body; what is none is the engine's to refuse."""
    part = body.get(name)
    return part if isinstance(part, dict) else {}


def _unattachable(network: Network) -> ControlError:
    name = network.spec.name
    if not network.spec.attachable:
        return ControlError(
            f"Could not attach to network {name}: rpc error: code = PermissionDenied "
            f"desc = network {name} not manually attachable",
            HTTPStatus.INTERNAL_SERVER_ERROR,
        )
    return ControlError(
        f"Could not attach to network {name}: this version of meshnet attaches only the tasks of "
        "services to overlay networks; create a service instead",
        HTTPStatus.NOT_IMPLEMENTED,
    )
