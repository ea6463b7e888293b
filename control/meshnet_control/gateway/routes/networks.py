"""``/networks*``: ours and the engine's in one list.

A name or id of ours wins over the engine's; a prefix is tried on ours last. A node that cannot ask
a store, as workers cannot, knows the networks that are in use on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from aiohttp import web

from meshnet.errors import ControlError
from meshnet.model.ids import ID_LENGTH, NetworkId
from meshnet_control.api.control_pb2 import Network, NetworkCreateRequest, ServiceView
from meshnet_control.cluster.node_local import is_node_local
from meshnet_control.controlapi import filters, network_resource
from meshnet_control.controlapi.networks import PRUNE_FILTERS, search
from meshnet_control.controlapi.refusals import ambiguous, not_found
from meshnet_control.convert.engine_json import from_engine
from meshnet_control.convert.json_text import parse_object
from meshnet_control.dataplane.overlays import gateway_endpoints
from meshnet_control.engine.client import GWBRIDGE, OURS
from meshnet_control.engine.labels import CONFIG_LABEL
from meshnet_control.gateway import network_json, responses
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
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """``GET /networks``."""
        api, known = self._context.api_or_none(), self._context.node.overlays()
        if api is None and known is None:
            return await self._relay(request)
        wanted = filters.parse(request.query.get("filters"), network_resource.FILTERS)
        theirs = await self._context.engine.json(request.path, dict(request.query))
        ours = network_json.listed(known, wanted) if known is not None else []
        if api is not None:
            ours = await api.networks.select(wanted)
        return responses.ok(network_json.merged(ours, theirs))

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
        here = await self._made_here(found) if found is not None else None
        if found is None and scope != "local":
            here = await self._by_cluster_id(reference(request))
        if here is not None:
            return responses.ok(here)
        if found is None and scope != "swarm":
            answer = await self._relay(request)
            if answer.status != HTTPStatus.NOT_FOUND:
                return self._as_swarm_has_it(answer)
        if found is None and scope != "local":
            found = await self._ours(request, exact=False)
        if found is None and scope == "swarm" and self._context.api_or_none() is not None:
            found = await engine_network(self._context, reference(request))
        if found is None:
            raise self._unknown(request)
        api, known = self._context.api_or_none(), self._context.node.overlays()
        services: Iterable[ServiceView] | None = None
        if flag(request, "verbose") and known is not None:
            services = known.services if api is None else await api.networks.services()
        status = await api.networks.status(found) if api is not None else None
        return responses.ok(network_json.inspected(found, known, services, status))

    async def remove(self, request: web.Request) -> web.StreamResponse:
        """``DELETE /networks/{id}``."""
        found = await self._ours(request, exact=True)
        if found is None:
            await self._refuse_gwbridge(request)
            await self._refuse_configuration(request)
            answer = await self._relay(request)
            if answer.status != HTTPStatus.NOT_FOUND:
                return answer
            found = await self._ours(request, exact=False)
        if found is None:
            raise self._unknown(request)
        known = self._context.node.overlays()
        here = await self._made_here(found)
        used = known is not None and any(known.on(NetworkId(found.id)))
        if here is not None and here.get("Containers"):
            if self._context.node.state != "worker":
                await self._context.api().networks.refuse_used(found)
            used = True
        if used and (here is not None or self._context.node.state == "worker"):
            raise _in_use(found.spec.name, found.id)
        await self._context.api().networks.remove(found)
        attaching = self._context.node.attaching()
        if attaching is not None and is_node_local(found):
            attaching.networks.freed()
        return responses.empty(HTTPStatus.NO_CONTENT)

    async def _made_here(self, network: Network) -> dict[str, Any] | None:
        """A network of the cluster that this node's engine made, with what is on it; None: none."""
        if not is_node_local(network):
            return None
        try:
            path = f"/networks/{quote(network.spec.name, safe='')}"
            shown = await self._context.engine.json(path)
        except ControlError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return None
        same = network_json.cluster_id(shown) == network.id
        return network_json.made_here(shown, network) if same else None

    async def _by_cluster_id(self, identity: str) -> dict[str, Any] | None:
        """The same by its ID in the cluster, of which a worker is told by nobody else."""
        if len(identity) != ID_LENGTH or self._context.node.state == "inactive":
            return None
        for each in await self._context.engine.json("/networks"):
            if network_json.cluster_id(each) == identity:
                path = f"/networks/{quote(str(each['Id']), safe='')}"
                return network_json.made_here(await self._context.engine.json(path), None)
        return None

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
            raise _in_use(GWBRIDGE, str(named["Id"]))

    async def _refuse_configuration(self, request: web.Request) -> None:
        """Refuse a configuration that a network made here is from, as libnetwork does (403)."""
        if self._context.node.state == "inactive":
            return
        name = reference(request)
        label = json.dumps({"label": [f"{CONFIG_LABEL}={name}"]})
        found = await self._context.engine.json("/networks", {"filters": label})
        if any(network_json.cluster_id(each) for each in found):
            words = f'configuration network "{name}" is in use'
            raise ControlError(words, HTTPStatus.FORBIDDEN)

    def _as_swarm_has_it(self, answer: web.Response) -> web.Response:
        """The engine's network; docker_gwbridge with what is on it, as it is we who attach that."""
        known = self._context.node.overlays()
        if known is None or answer.status != HTTPStatus.OK or not isinstance(answer.body, bytes):
            return answer
        shown = parse_object(answer.body)
        if network_json.cluster_id(shown):
            return responses.ok(network_json.made_here(shown, None))
        if shown.get("Name") != GWBRIDGE:
            return answer
        ways = gateway_endpoints(known.snapshot, NetworkId(str(shown.get("Id"))))
        held = {**(shown.get("Containers") or {}), **network_json.containers(ways)}
        return responses.ok({**network_json.unlabelled(shown), "Containers": held})

    def _unknown(self, request: web.Request) -> ControlError:
        """No network has that name, as far as anybody here can say.

        Raises:
            ControlError: this is a manager that cannot ask its store now.
        """
        if self._context.node.state == "manager":
            self._context.api()
        return not_found("network", reference(request))

    async def _relay(self, request: web.Request) -> web.Response:
        return await self._context.engine.relay(request, await request.read())

    async def _ours(self, request: web.Request, *, exact: bool) -> Network | None:
        api, known = self._context.api_or_none(), self._context.node.overlays()
        name = reference(request)
        if api is not None:
            found = await api.networks.search(name, exact=exact)
        else:
            here = [*known.networks.values()] if known is not None else []
            found = search(here, name, exact=exact)
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
    """PURE: the driver is overlay, or the scope is said to be swarm.

    A configuration of an overlay is its engine's, as each is: it makes no network.
    """
    if body.get("ConfigOnly") and not body.get("Scope"):
        return False
    return body.get("Driver") == "overlay" or body.get("Scope") == "swarm"


def _in_use(name: str, identity: str) -> ControlError:
    return ControlError(
        f"error while removing network: network {name} id {identity} has active endpoints",
        HTTPStatus.FORBIDDEN,
    )
