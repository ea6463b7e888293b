"""``GET /events``: the engine's stream, with the cluster's own events in it on a manager.

The engine's stream decides when it ends (``until``). What happened to the cluster before the
request is not told: ``since`` reaches back for the engine's events alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

from aiohttp import web

from meshnet import drops
from meshnet_control.controlapi import filters
from meshnet_control.engine.client import EngineError
from meshnet_control.engine.connection import Answer, Request
from meshnet_control.gateway import responses
from meshnet_control.gateway.request import HandlerContext
from meshnet_control.gateway.routes import swarm_events
from meshnet_control.store.store import Key, Object, Store

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
            sources = [asyncio.create_task(_copy(_lines(engine), lines, last=True))]
            if store is not None:
                ours = _ours(store, wanted)
                sources.append(asyncio.create_task(_copy_or_drop(ours, lines, request)))
            try:
                return await _answer(request, lines)
            finally:
                for source in sources:
                    source.cancel()
                await asyncio.gather(*sources, return_exceptions=True)


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
    source: AsyncIterator[bytes], lines: asyncio.Queue[bytes | None], request: web.Request
) -> None:
    """Copy; a client for which no room came in time is dropped.

    The store keeps every commit that somebody who watches it has still to see.
    """
    async for line in source:
        try:
            async with asyncio.timeout(_UNREAD_S):
                await lines.put(line)
        except TimeoutError:
            drops.count("gateway: client of events does not read")
            if request.transport is not None:
                request.transport.abort()
            return


async def _lines(engine: Answer) -> AsyncIterator[bytes]:
    """Whole lines of the engine's stream, however it was cut; it ends with the engine, too."""
    try:
        async for line in engine.lines():
            yield line + b"\n"
    except EngineError:
        return


async def _ours(store: Store, wanted: filters.Filters) -> AsyncIterator[bytes]:
    revision = store.revision
    known: dict[Key, Object] = {}
    for kind in swarm_events.KINDS:
        known.update({(kind, message.id): message for message in await store.list(kind)})
    async for batch in store.watch(revision):
        for change in batch:
            key = (change.kind, change.id)
            before = known.pop(key, None)
            if change.message is not None and change.kind in swarm_events.KINDS:
                known[key] = change.message
                if before is not None and before.version.index >= change.revision:
                    continue  # in the list already
            said = swarm_events.event(before, change, time.time_ns())
            if said is not None and swarm_events.matches(said, wanted):
                yield swarm_events.line(said)
