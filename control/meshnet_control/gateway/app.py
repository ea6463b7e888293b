"""The gateway: the Docker Engine API on meshnet's own unix socket.

```
 unix socket ─ proxy.py ─┬─ ours ─> this application ─> control API ─> store
                         └─ every other request, byte for byte ─> the local engine's socket
```
Every answer carries the headers of the engine; refusals are its JSON errors with its words.

Be aware: ``/events`` tells of the engine's past (``since``), of the cluster's only what is new.
"""

from __future__ import annotations

import asyncio
import grp
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web

from meshnet.errors import ControlError, MeshnetError
from meshnet_control.api.control_pb2 import Config, Secret
from meshnet_control.engine.client import EngineClient
from meshnet_control.gateway import responses, routing
from meshnet_control.gateway.connection import connections, in_json
from meshnet_control.gateway.engine_http import EngineHttp
from meshnet_control.gateway.http_head import split_version
from meshnet_control.gateway.node_control import NodeControl
from meshnet_control.gateway.proxy import Proxy, listen
from meshnet_control.gateway.request import HandlerContext
from meshnet_control.gateway.routes.events import EventRoutes
from meshnet_control.gateway.routes.logs import LogRoutes
from meshnet_control.gateway.routes.networks import NetworkRoutes
from meshnet_control.gateway.routes.objects import FileRoutes, ServiceRoutes
from meshnet_control.gateway.routes.swarm import SwarmRoutes
from meshnet_control.gateway.routes.system import System

_log = logging.getLogger(__name__)
_MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""A config of 1000 KiB in base64 and the rest of its request, several times over."""
_GROUP: Final = "docker"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(
    node: NodeControl,
    engine: EngineHttp,
    conflicting_route: Callable[[str], str | None] = lambda _: None,
) -> web.Application:
    """The requests that are ours, as an aiohttp application.

    Args:
        node: this node's part in the swarm.
        engine: the local engine.
        conflicting_route: name of a host route that overlaps a subnet (CIDR), None without one.
    """
    context = HandlerContext(node, engine, conflicting_route)
    app = web.Application(middlewares=[_engine_form(engine)], client_max_size=_MAX_BODY_BYTES)
    for handlers in (
        System(context),
        SwarmRoutes(context),
        LogRoutes(context),
        EventRoutes(context),
        ServiceRoutes(context),
        FileRoutes(context, Secret),
        FileRoutes(context, Config),
        NetworkRoutes(context),
    ):
        for method, path, handler in handlers.routes():
            for at in (path, r"/v{api:\d+\.\d+}" + path):
                if method == "GET":
                    app.router.add_get(at, handler, allow_head=path == "/_ping")
                else:
                    app.router.add_route(method, at, handler)
    app.on_response_prepare.append(_headers(engine))
    return app


def _engine_form(engine: EngineHttp) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        newest = (await engine.version()).api
        asked, _ = split_version(request.path)
        refused = routing.refusal(asked, newest)
        if refused is not None:
            return responses.error(HTTPStatus.BAD_REQUEST, refused)
        try:
            return await handler(request)
        except ControlError as error:
            _log.debug("%s %s: %s", request.method, request.path, error)
            return responses.error(error.status, error.message)
        except MeshnetError as error:
            _log.warning("%s %s: %s", request.method, request.path, error)
            return responses.error(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except web.HTTPException as error:
            return in_json(error)

    return middleware


def _headers(
    engine: EngineHttp,
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def on_prepare(_: web.Request, response: web.StreamResponse) -> None:
        said = await engine.version()
        response.headers["Api-Version"] = routing.text(said.api)
        response.headers.setdefault("Docker-Experimental", "false")
        response.headers.setdefault("Ostype", "linux")
        response.headers["Server"] = f"Docker/{said.server or 'unknown'} (linux)"

    return on_prepare


class Gateway:
    """The gateway's socket and everything behind it.

    Args:
        node: this node's part in the swarm.
        path: the socket to serve.
        engine: the local engine's client.
        conflicting_route: name of a host route that overlaps a subnet (CIDR), None without one.
    """

    def __init__(
        self,
        node: NodeControl,
        path: Path,
        engine: EngineClient,
        conflicting_route: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._path = path
        self._engine_path = Path(engine.url.removeprefix("unix://"))
        self._runner = web.AppRunner(application(node, EngineHttp(engine), conflicting_route))
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
        self._proxy = Proxy(connections(server), self._engine_path)
        self._server = await listen(self._proxy, self._path, group=_gid(_GROUP))

    async def stop(self) -> None:
        """Cut all connections and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        if self._proxy is not None:
            await self._proxy.close()
        await self._runner.cleanup()


def _gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
