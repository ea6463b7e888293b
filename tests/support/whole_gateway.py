"""A gateway, whole, on a socket of its own, before an engine that a test writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import ClientSession, UnixConnector, web

from meshnet_control.engine.client import EngineClient
from meshnet_control.gateway.app import Gateway
from meshnet_control.gateway.node_control import NodeControl

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def gateway_before(
    answer: Answer, host: NodeControl, path: Path
) -> AsyncIterator[ClientSession]:
    """A client of it; ``answer`` is the engine, sockets are made in ``path``."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(path / "engine.sock")).start()
    engine = EngineClient(f"unix://{path}/engine.sock")
    gateway = Gateway(host, path / "docker.sock", engine)
    await gateway.start()
    connector = UnixConnector(str(path / "docker.sock"))
    async with ClientSession("http://docker", connector=connector) as session:
        yield session
    await gateway.stop()
    await engine.close()
    await runner.cleanup()
