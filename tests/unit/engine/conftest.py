"""An engine that is a few lines on a unix socket, and says what a test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from meshnet_control.engine.client import EngineClient


class StandIn:
    """A stand-in for an engine.

    Args:
        path: of its socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = "1.41"
        self.asked: list[tuple[str, str]] = []
        """Method and path, with its version, of every request."""
        self.types: list[str | None] = []
        """Content-Type of every request."""
        self.answers: dict[str, tuple[int, bytes]] = {}
        """Status and body by the last word of the path."""
        self.said: asyncio.Queue[bytes | None] = asyncio.Queue()
        """What comes on the stream of events; None ends it."""
        self.hold = asyncio.Event()
        """Creating a container waits for it."""
        self.hold.set()
        self.created: list[Any] = []
        self.pulled: list[dict[str, str]] = []
        self.pulled_with: list[str | None] = []
        self.progress = b""
        self.followers = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    async def start(self) -> None:
        app = web.Application(middlewares=[self._noted])
        for prefix in ("", r"/v{api:\d+\.\d+}"):
            app.router.add_get(prefix + "/version", self._version)
            app.router.add_get(prefix + "/events", self._events)
            app.router.add_post(prefix + "/containers/create", self._create)
            app.router.add_get(prefix + "/containers/{id}/logs", self._logs)
            app.router.add_post(prefix + "/images/create", self._pull)
        app.router.add_route("*", "/{rest:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _noted(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append((request.method, request.path))
        self.types.append(request.headers.get("Content-Type"))
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": self.version})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if "events" in self.answers:
            return await self._answer(request)
        response = web.StreamResponse()
        response.force_close()  # the next request needs a connection of its own
        await response.prepare(request)
        while (said := await self.said.get()) is not None:
            await response.write(said)
        return response

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        await self.hold.wait()
        self.created.append(body)
        if "create" in self.answers:
            return await self._answer(request)
        return web.json_response({"Id": "c" * 64}, status=201)

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"said")
        self.followers += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.followers -= 1
        return response

    async def _pull(self, request: web.Request) -> web.Response:
        self.pulled.append(dict(request.query))
        self.pulled_with.append(request.headers.get("X-Registry-Auth"))
        return web.Response(body=self.progress, content_type="application/json")

    async def _answer(self, request: web.Request) -> web.Response:
        missing = (404, json.dumps({"message": "page not found"}).encode())
        status, body = self.answers.get(request.path.rpartition("/")[2], missing)
        return web.Response(status=status, body=body, content_type="application/json")


@pytest.fixture
async def stand_in(tmp_path: Path) -> AsyncIterator[StandIn]:
    """Name: stand_in. Scope: function. A stand-in engine that runs."""
    made = StandIn(tmp_path / "engine.sock")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def client(stand_in: StandIn) -> AsyncIterator[EngineClient]:
    """Name: client. Scope: function. Depends: stand_in. Its client."""
    made = EngineClient(stand_in.url)
    yield made
    await made.close()
