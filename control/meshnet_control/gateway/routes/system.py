"""Ping, version and info: the engine's answers with the API version we speak and our Swarm."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import SwarmInfo
from meshnet_control.controlapi.refusals import no_leader
from meshnet_control.convert.engine_json import to_engine
from meshnet_control.convert.json_text import parse_object
from meshnet_control.gateway import responses
from meshnet_control.gateway.engine_http import spoken
from meshnet_control.gateway.request import HandlerContext
from meshnet_control.store.store import StoreError, StoreNoLeaderError

_TWO: Final = 2
TWO_MANAGERS: Final = (
    "WARNING: Running Swarm in a two-manager configuration. This configuration provides\n"
    "         no fault tolerance, and poses a high risk to lose control over the cluster.\n"
    "         Refer to https://docs.docker.com/engine/swarm/admin_guide/ to configure the\n"
    "         Swarm for fault-tolerance."
)
"""moby daemon/cluster/swarm.go (Info); without either of two nobody leads."""


class System:
    """Handlers of what is said of the host as a whole."""

    def __init__(self, context: HandlerContext) -> None:
        self._context = context

    def routes(self) -> responses.Routes:
        """Method, path and handler."""
        return [
            ("GET", "/_ping", self.ping),
            ("GET", "/version", self.version),
            ("GET", "/info", self.info),
        ]

    async def ping(self, request: web.Request) -> web.StreamResponse:
        """``HEAD|GET /_ping``. Answers 200 only when the engine does."""
        node, engine = self._context.node, self._context.engine
        try:
            answer = await engine.relay(request, b"")
        except ControlError as error:
            answer = responses.error(error.status, error.message)
        for name in ("Api-Version", "Swarm"):
            answer.headers.pop(name, None)  # ours take their place
        part = node.swarm_info().local_node_state
        answer.headers["Swarm"] = f"active/{node.state}" if part == "active" else part
        answer.headers["Cache-Control"] = "no-cache, no-store, must-revalidate"
        answer.headers["Pragma"] = "no-cache"
        return answer

    async def version(self, request: web.Request) -> web.StreamResponse:
        """``GET /version``."""
        return responses.ok(spoken(await self._context.engine.json("/version")))

    async def info(self, request: web.Request) -> web.StreamResponse:
        """``GET /info``."""
        answer = await self._context.engine.relay(request, b"")
        if answer.status != HTTPStatus.OK or not isinstance(answer.body, bytes):
            return answer
        info = parse_object(answer.body)
        swarm, api = self._context.node.swarm_info(), self._context.api_or_none()
        if api is not None:
            try:
                swarm.cluster.CopyFrom(await api.swarm.inspect())
                nodes = await api.nodes.select(None)
            except StoreNoLeaderError:
                swarm.error = no_leader().message
            except StoreError as error:  # all else is told all the same
                swarm.error = str(error)
            else:
                # That it manages is so; beside it: what its own node's session lacks.
                if swarm.error:
                    swarm.warnings.append(f"WARNING: {swarm.error}")
                    swarm.error = ""
                swarm.nodes = len(nodes)
                swarm.managers = sum(node.HasField("manager_status") for node in nodes)
                if swarm.managers == _TWO:
                    swarm.warnings.append(TWO_MANAGERS)
        if self._context.leaderless:
            swarm.error = no_leader().message  # beside it: what was last known
        info["Swarm"] = swarm_part(swarm)
        ours = [f"WARNING: {each}" for each in self._context.node.warnings()]
        ours += swarm.warnings
        if ours:
            info["Warnings"] = [*(info.get("Warnings") or ()), *ours]
        return responses.ok(info)


def swarm_part(info: SwarmInfo) -> dict[str, object]:
    """The Swarm part of ``docker info``, without join tokens; PURE."""
    shown = SwarmInfo()
    shown.CopyFrom(info)
    if shown.HasField("cluster"):
        shown.cluster.ClearField("join_tokens")
    part = dict(to_engine(shown))
    part.setdefault("RemoteManagers", None)
    return part
