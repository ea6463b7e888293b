"""``/swarm*`` and ``/nodes*``: this node's part in the cluster, the cluster and its nodes.

Be aware: init, join and leave run to their end even when the client goes away.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from aiohttp import web

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import (
    ClusterSpec,
    Node,
    NodeSpec,
    SwarmInitRequest,
    SwarmJoinRequest,
    SwarmUnlockRequest,
)
from meshnet_control.controlapi.managers import leaving
from meshnet_control.controlapi.specs import cluster_checks
from meshnet_control.convert.engine_json import to_engine
from meshnet_control.gateway import responses
from meshnet_control.gateway.request import (
    LOCKED_STATE,
    NOT_IN_SWARM,
    NOT_MANAGER,
    HandlerContext,
    flag,
    read,
    reference,
    version,
)
from meshnet_control.identity.identity import ALREADY_IN_SWARM
from meshnet_control.store.store import StoreError
from meshnet_control.store.unlock_key import unlock_key_of

LEAVE_LOCKED: Final = (
    "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message."
)
NO_SWARM: Final = "This node is not part of a swarm"
_DONE = HTTPStatus.OK


class SwarmRoutes:
    """Handlers of the swarm and its nodes."""

    def __init__(self, context: HandlerContext) -> None:
        self._context = context

    def routes(self) -> responses.Routes:
        """Method, path and handler."""
        return [
            ("GET", "/swarm", self.inspect),
            ("POST", "/swarm/init", self.init),
            ("POST", "/swarm/join", self.join),
            ("POST", "/swarm/leave", self.leave),
            ("POST", "/swarm/update", self.update),
            ("GET", "/swarm/unlockkey", self.unlock_key),
            ("POST", "/swarm/unlock", self.unlock),
            ("GET", "/nodes", self.nodes),
            ("GET", "/nodes/{id}", self.node),
            ("POST", "/nodes/{id}/update", self.node_update),
            ("DELETE", "/nodes/{id}", self.node_remove),
        ]

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        """``GET /swarm``."""
        return responses.ok(to_engine(await self._context.api().swarm.inspect()))

    async def init(self, request: web.Request) -> web.StreamResponse:
        """``POST /swarm/init`` answers the node's id as a JSON string."""
        asked = await read(request, SwarmInitRequest)
        if asked.force_new_cluster and self._context.node.state == "worker":
            raise ControlError(NOT_MANAGER, HTTPStatus.SERVICE_UNAVAILABLE)
        if not asked.force_new_cluster:
            self._refuse_unless_inactive()
        cluster_checks.check_init(asked)
        return responses.ok(await asyncio.shield(self._context.node.init(asked)))

    async def join(self, request: web.Request) -> web.StreamResponse:
        """``POST /swarm/join``."""
        asked = await read(request, SwarmJoinRequest)
        self._refuse_unless_inactive()
        cluster_checks.check_join(asked)
        await asyncio.shield(self._context.node.join(asked))
        return responses.empty(_DONE)

    async def leave(self, request: web.Request) -> web.StreamResponse:
        """``POST /swarm/leave``; a manager needs ``force``."""
        node, force = self._context.node, flag(request, "force")
        if node.state == "inactive":
            raise ControlError(NO_SWARM, HTTPStatus.SERVICE_UNAVAILABLE)
        if node.swarm_info().local_node_state == LOCKED_STATE and not force:
            raise ControlError(LEAVE_LOCKED, HTTPStatus.SERVICE_UNAVAILABLE)
        if node.state == "manager" and not force:
            raise ControlError(await self._leaving(), HTTPStatus.SERVICE_UNAVAILABLE)
        await asyncio.shield(node.leave(force=force))
        return responses.empty(_DONE)

    async def update(self, request: web.Request) -> web.StreamResponse:
        """``POST /swarm/update``."""
        asked = await read(request, ClusterSpec)
        at = version(request, "swarm")
        api = self._context.api()
        await api.swarm.update(
            at,
            asked,
            rotate_worker=flag(request, "rotateWorkerToken"),
            rotate_manager=flag(request, "rotateManagerToken"),
            rotate_unlock_key=flag(request, "rotateManagerUnlockKey"),
        )
        return responses.empty(_DONE)

    async def unlock_key(self, request: web.Request) -> web.StreamResponse:
        """``GET /swarm/unlockkey``; empty while managers do not lock."""
        return responses.ok({"UnlockKey": await self._context.api().swarm.unlock_key()})

    async def unlock(self, request: web.Request) -> web.StreamResponse:
        """``POST /swarm/unlock``: a manager goes on with the key that opens its store."""
        asked = await read(request, SwarmUnlockRequest)
        node = self._context.node
        if node.state == "inactive":
            raise ControlError(NO_SWARM, HTTPStatus.SERVICE_UNAVAILABLE)
        if node.swarm_info().local_node_state != LOCKED_STATE:
            raise ControlError("swarm is not locked", HTTPStatus.CONFLICT)
        try:
            key = unlock_key_of(asked.unlock_key)
        except ValueError as error:
            raise ControlError(str(error)) from None
        await asyncio.shield(node.unlock(key))
        return responses.empty(_DONE)

    async def nodes(self, request: web.Request) -> web.StreamResponse:
        """``GET /nodes``."""
        found = await self._context.api().nodes.select(request.query.get("filters"))
        if self._context.leaderless:
            found = [unled(n) for n in found]
        return responses.ok([to_engine(n) for n in found])

    async def node(self, request: web.Request) -> web.StreamResponse:
        """``GET /nodes/{id}``."""
        found = await self._context.api().nodes.inspect(reference(request))
        return responses.ok(to_engine(unled(found) if self._context.leaderless else found))

    async def node_update(self, request: web.Request) -> web.StreamResponse:
        """``POST /nodes/{id}/update``."""
        asked = await read(request, NodeSpec)
        at = version(request, "node")
        await self._context.api().nodes.update(reference(request), at, asked)
        return responses.empty(_DONE)

    async def node_remove(self, request: web.Request) -> web.StreamResponse:
        """``DELETE /nodes/{id}``."""
        await self._context.api().nodes.remove(reference(request), force=flag(request, "force"))
        return responses.empty(_DONE)

    async def _leaving(self) -> str:
        """What it costs to have this manager leave."""
        api, nodes = self._context.api_or_none(), None
        if api is not None:
            with suppress(StoreError):
                nodes = await api.nodes.select(None)
        return leaving(self._context.node.swarm_info().node_id, nodes)

    def _refuse_unless_inactive(self) -> None:
        if self._context.node.state != "inactive":
            raise ControlError(ALREADY_IN_SWARM, HTTPStatus.SERVICE_UNAVAILABLE)


def unled(node: Node) -> Node:
    """A node as it is shown while nobody leads: who is there, nobody can say. PURE."""
    if not node.HasField("manager_status"):
        return node
    shown = Node()
    shown.CopyFrom(node)
    shown.manager_status.leader, shown.manager_status.reachability = False, "unknown"
    return shown


__all__ = ["ALREADY_IN_SWARM", "NOT_IN_SWARM", "NO_SWARM", "SwarmRoutes"]
