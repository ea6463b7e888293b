"""The gateway: the Docker Engine API on meshnet's own unix socket.

```
 unix socket ─ proxy.py ─┬─ ours ─> this application ─> control API ─> store
                         └─ every other request, byte for byte ─> the local engine's socket
```
Every answer carries the headers of the engine; refusals are its JSON errors with its words.

Be aware: what ``/events`` tells of the past (``since``) is what this process saw of it.
"""

from __future__ import annotations

import asyncio
import grp
import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from meshnet import measures
from meshnet.errors import ControlError, MeshnetError
from meshnet_control.agent.engine_socket import lent_path
from meshnet_control.api.control_pb2 import Config, Secret
from meshnet_control.controlapi.refusals import no_leader
from meshnet_control.engine.client import EngineClient
from meshnet_control.gateway import responses, routing
from meshnet_control.gateway.connection import connections, in_json
from meshnet_control.gateway.engine_http import EngineHttp
from meshnet_control.gateway.http_head import split_version
from meshnet_control.gateway.listener import Listener, lend
from meshnet_control.gateway.node_control import NodeControl
from meshnet_control.gateway.proxy import Proxy, listen
from meshnet_control.gateway.request import HandlerContext
from meshnet_control.gateway.routes.attach import AttachRoutes
from meshnet_control.gateway.routes.containers import ContainerRoutes
from meshnet_control.gateway.routes.engine import EngineRoutes
from meshnet_control.gateway.routes.events import EventRoutes
from meshnet_control.gateway.routes.images import ImageRoutes
from meshnet_control.gateway.routes.logs import LogRoutes
from meshnet_control.gateway.routes.networks import NetworkRoutes
from meshnet_control.gateway.routes.objects import FileRoutes, ServiceRoutes
from meshnet_control.gateway.routes.own_words import OwnWordsRoutes
from meshnet_control.gateway.routes.swarm import SwarmRoutes
from meshnet_control.gateway.routes.system import System
from meshnet_control.store.store import NO_LEADER, StoreClosedError, StoreNoLeaderError

_log = logging.getLogger(__name__)
_MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""A config of 1000 KiB in base64 and the rest of its request, several times over."""
_GROUP: Final = "docker"
_BEGAN: Final[ContextVar[float | None]] = ContextVar("began", default=None)
"""When the request that is answered here was read, by the clock that measures; None: it is none."""
_VERSIONED: Final = "/v{api}"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(
    node: NodeControl,
    engine: EngineHttp,
    conflicting_route: Callable[[str], str | None] = lambda _: None,
    lent: Path | None = None,
) -> web.Application:
    """The requests that are ours, as an aiohttp application.

    Args:
        node: this node's part in the swarm.
        engine: the local engine.
        conflicting_route: name of a host route that overlaps a subnet (CIDR), None without one.
        lent: the socket that containers get in place of docker.sock; None: the engine's own.
    """
    context = HandlerContext(node, engine, conflicting_route, lent)
    middlewares = [_timed, _courteous(node), _engine_form(context)]
    app = web.Application(middlewares=middlewares, client_max_size=_MAX_BODY_BYTES)
    events = EventRoutes(context)
    app.cleanup_ctx.append(events.remembering)
    for handlers in (
        System(context),
        SwarmRoutes(context),
        LogRoutes(context),
        ImageRoutes(context),
        events,
        ServiceRoutes(context),
        FileRoutes(context, Secret),
        FileRoutes(context, Config),
        NetworkRoutes(context),
        ContainerRoutes(context),
        OwnWordsRoutes(context),
        AttachRoutes(context),
        EngineRoutes(context),
    ):
        for method, path, handler in handlers.routes():
            for at in (path, r"/v{api:\d+\.\d+}" + path):
                if method == "GET":
                    app.router.add_get(at, handler, allow_head=path == "/_ping")
                else:
                    app.router.add_route(method, at, handler)
    app.on_response_prepare.append(_headers(engine, context))
    return app


@web.middleware
async def _timed(request: web.Request, handler: Handler) -> web.StreamResponse:
    _BEGAN.set(time.perf_counter())
    return await handler(request)


def _courteous(node: NodeControl) -> Middleware:
    @web.middleware
    async def courteous(request: web.Request, handler: Handler) -> web.StreamResponse:
        with node.answering(request.method):
            return await handler(request)

    return courteous


def _measure(request: web.Request, status: int) -> None:
    """Its answer begins: a stream that follows for hours took no longer than others."""
    began = _BEGAN.get()
    if began is None:  # aiohttp refuses it before anybody is asked
        return
    _BEGAN.set(None)
    resource = request.match_info.route.resource
    route, method = "other", "other"  # what a client thinks up is no label
    if resource is not None:
        route = resource.canonical.removeprefix(_VERSIONED).split("/")[1]
        method = request.method
    seconds = time.perf_counter() - began
    measures.request_seconds.labels(route, method, f"{status // 100}xx").observe(seconds)


def _engine_form(context: HandlerContext) -> Middleware:
    @web.middleware
    async def engine_form(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked, _ = split_version(request.path)
        refused = routing.refusal(asked)
        if refused is not None:
            return responses.error(HTTPStatus.BAD_REQUEST, refused)
        try:
            return await handler(request)
        except ControlError as error:
            _log.debug("%s %s: %s", request.method, request.path, error)
            return responses.error(error.status, error.message)
        except (StoreNoLeaderError, StoreClosedError) as error:  # closed while this request waited
            _log.debug("%s %s: %s", request.method, request.path, error)
            closed = isinstance(error, StoreClosedError)
            why = context.refusal(str(error)) if closed else no_leader()
            return responses.error(why.status, why.message)
        except MeshnetError as error:
            _log.warning("%s %s: %s", request.method, request.path, error)
            return responses.error(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except web.HTTPException as error:
            return in_json(error)

    return engine_form


def _headers(
    engine: EngineHttp, context: HandlerContext
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
        _measure(request, response.status)
        said = await engine.version()
        response.headers["Api-Version"] = routing.text(routing.MAX_VERSION)
        response.headers.setdefault("Docker-Experimental", "false")
        response.headers.setdefault("Ostype", "linux")
        response.headers["Server"] = f"Docker/{said.server or 'unknown'} (linux)"
        if context.leaderless:
            response.headers["Warning"] = f'110 meshnet "{NO_LEADER}"'  # RFC 7234: it is stale

    return on_prepare


class Gateway:
    """The gateway's socket and everything behind it.

    Args:
        node: this node's part in the swarm.
        path: the socket to serve.
        engine: the local engine's client.
        conflicting_route: name of a host route that overlaps a subnet (CIDR), None without one.
        listener: makes the socket; None: one that nobody holds for the next process.
        state_dir: what outlives a boot; containers get the socket from there. None: none does.
    """

    def __init__(
        self,
        node: NodeControl,
        path: Path,
        engine: EngineClient,
        conflicting_route: Callable[[str], str | None] = lambda _: None,
        *,
        listener: Listener | None = None,
        state_dir: Path | None = None,
    ) -> None:
        self._path, self._state_dir = path, state_dir
        self._listener = listener or Listener()
        self._engine_path = Path(engine.url.removeprefix("unix://"))
        self._engine = EngineHttp(engine)
        lent = lent_path(state_dir) if state_dir is not None else None
        self._runner = web.AppRunner(application(node, self._engine, conflicting_route, lent))
        self._proxy: Proxy | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Serve; returns once the socket accepts.

        Raises:
            OSError: the socket cannot be made, or another process serves it.
        """
        await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise RuntimeError("aiohttp made no server")
        self._proxy = Proxy(connections(server), self._engine_path, self._engine.version)
        bound = self._listener.open(self._path, _gid(_GROUP))
        if self._state_dir is not None:
            try:
                lend(self._path, self._state_dir)
            except OSError as error:
                _log.warning("containers get no docker.sock of the swarm: %s", error)
        self._server = await listen(self._proxy, bound)

    async def stop(self) -> None:
        """Cut all connections; the file stays if somebody holds the socket for the next process."""
        if self._server is not None:
            self._server.close()
            self._listener.closed(self._path)
        if self._proxy is not None:
            await self._proxy.close()
        await self._runner.cleanup()


def _gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
