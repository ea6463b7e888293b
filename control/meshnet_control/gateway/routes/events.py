"""``GET /events``: the engine's stream, with the cluster's own events in it on a manager.

The engine's stream decides when it ends (``until``). What happened to the cluster before the
request is not told: ``since`` reaches back for the engine's events alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from http import HTTPStatus
from typing import Final

from aiohttp import web

from meshnet import drops, ends
from meshnet_control.controlapi import filters
from meshnet_control.engine.client import EngineError
from meshnet_control.engine.connection import Answer, Request
from meshnet_control.gateway import responses
from meshnet_control.gateway.cluster_events import ClusterEvents, Listener
from meshnet_control.gateway.request import HandlerContext
from meshnet_control.gateway.routes import swarm_events

_LOOK_S: Final = 1.0
"""How often an idle stream looks whether its client is still there."""
_MOST_LINES: Final = 64
"""Kept for a client that does not read; then the engine waits, and drops as it does for any."""
_UNREAD_S: Final = 30.0
"""How long an event of the cluster may wait for its client to read those before it."""
_FILTERS: Final = (
    *("config", "container", "daemon", "event", "image", "label", "network", "node", "plugin"),
    *("scope", "secret", "service", "type", "volume"),
)


class EventRoutes:
    """Handler of events."""

    def __init__(self, context: HandlerContext) -> None:
        self._context = context
        self._cluster = ClusterEvents()

    def routes(self) -> responses.Routes:
        """Method, path and handler."""
        return [("GET", "/events", self.events)]

    async def events(self, request: web.Request) -> web.StreamResponse:
        """``GET /events``."""
        asked = Request("GET", request.path, dict(request.query), limit_s=None)
        async with self._context.engine.open(asked) as engine:
            if engine.status != HTTPStatus.OK:
                body = await engine.read()
                return web.Response(
                    status=engine.status, body=body, content_type="application/json"
                )
            wanted = filters.parse(request.query.get("filters"), _FILTERS)
            store = self._context.node.store()
            lines: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_LINES)
            async with AsyncExitStack() as stack:
                sources = []
                if store is not None:
                    cut = partial(_cut, request)
                    heard = await stack.enter_async_context(self._cluster.listen(store, cut))
                    sources.append(_copy_or_drop(_ours(heard, wanted), lines, cut))
                sources.append(_copy(_lines(engine), lines, last=True))
                tasks = [asyncio.create_task(source) for source in sources]
                try:
                    return await _answer(request, lines)
                finally:
                    await ends.ended(*tasks)


def _cut(request: web.Request) -> None:
    """End the connection of a client that does not read."""
    drops.count("gateway: client of events does not read")
    if request.transport is not None:
        request.transport.abort()


async def _answer(request: web.Request, lines: asyncio.Queue[bytes | None]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    try:
        await response.prepare(request)
        while request.transport is not None and not request.transport.is_closing():
            try:
                async with asyncio.timeout(_LOOK_S):
                    line = await lines.get()
            except TimeoutError:
                continue
            if line is None:
                break
            await response.write(line)
    except ConnectionError:
        return response  # the client has gone
    return response


async def _copy(
    source: AsyncIterator[bytes], lines: asyncio.Queue[bytes | None], *, last: bool = False
) -> None:
    async for line in source:
        await lines.put(line)
    if last:
        await lines.put(None)


async def _copy_or_drop(
    source: AsyncIterator[bytes], lines: asyncio.Queue[bytes | None], cut: Callable[[], None]
) -> None:
    """Copy; a client for which no room came in time is cut off."""
    async for line in source:
        try:
            async with asyncio.timeout(_UNREAD_S):
                await lines.put(line)
        except TimeoutError:
            cut()
            return


async def _lines(engine: Answer) -> AsyncIterator[bytes]:
    """Whole lines of the engine's stream, however it was cut; it ends with the engine, too."""
    try:
        async for line in engine.lines():
            yield line + b"\n"
    except EngineError:
        return


async def _ours(heard: Listener, wanted: filters.Filters) -> AsyncIterator[bytes]:
    async for event in heard:
        if swarm_events.matches(event.said, wanted):
            yield event.line
