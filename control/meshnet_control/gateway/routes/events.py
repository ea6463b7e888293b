"""``GET /events``: the engine's stream, and in it what happens on our networks and to the cluster.

A worker knows of the cluster's objects nothing that is told. Events of
tasks are told from the request on, and only to who asks for ``type=task``.

The engine's stream decides when it ends (``until``). What happened before the request (``since``)
is told in order of time, of the engine and of the cluster; then both as it comes.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
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
from meshnet_control.gateway.cluster_events import ClusterEvents, Event, Listener
from meshnet_control.gateway.lines import answer_lines
from meshnet_control.gateway.node_events import NodeEvents
from meshnet_control.gateway.own_events import OwnEvents
from meshnet_control.gateway.request import HandlerContext
from meshnet_control.gateway.routes import swarm_events
from meshnet_control.store.store import Store

_MOST_LINES: Final = 64
"""Kept for a client that does not read; then the engine waits, and drops as it does for any."""
_UNREAD_S: Final = 30.0
"""How long an event of the cluster may wait for its client to read those before it."""
_PAST_S: Final = 0.1
"""An engine that says nothing for so long has told its past."""
_FILTERS: Final = (
    *("config", "container", "daemon", "event", "image", "label", "network", "node", "plugin"),
    *("scope", "secret", "service", "type", "volume"),
)


class EventRoutes:
    """Handler of events."""

    def __init__(self, context: HandlerContext) -> None:
        self._context = context
        self._cluster = ClusterEvents()
        self._tasks = ClusterEvents(swarm_events.TASKS)  # of which nobody keeps the past
        self._node = NodeEvents()

    def routes(self) -> responses.Routes:
        """Method, path and handler."""
        return [("GET", "/events", self.events)]

    async def remembering(self, _: web.Application) -> AsyncIterator[None]:
        """Keep the cluster's events for as long as the application runs (``cleanup_ctx``)."""
        keeping = asyncio.create_task(self._cluster.remember(self._store), name="past events")
        looking = asyncio.create_task(self._node.remember(self._context.node), name="node events")
        yield
        await ends.ended(keeping, looking)

    def _store(self) -> Store | None:
        node = self._context.node
        return None if node.gives_way else node.store()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """``GET /events``."""
        query = request.query
        window = swarm_events.window(query.get("since", ""), query.get("until", ""))
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
                cut, passes = partial(_cut, request), partial(_passes, wanted, window)
                heard = [stack.enter_context(self._node.listen(cut))]
                if store is not None:
                    cluster = self._cluster.listen(store, cut)
                    heard.append(await stack.enter_async_context(cluster))
                    if swarm_events.wants_tasks(wanted):
                        tasks_of = self._tasks.listen(store, cut)
                        heard.append(await stack.enter_async_context(tasks_of))
                told = asyncio.Event()
                before = (event for each in heard for event in each.before if window.past)
                past = deque(sorted(filter(passes, before), key=lambda each: each.said["timeNano"]))
                ours = (_ours(each, passes, told) for each in heard)
                sources = [_copy_or_drop(each, lines, cut) for each in ours]
                shown = OwnEvents(self._context.engine).shown(_lines(engine))
                sources.append(_copy(_in_time(shown, past, told), lines, last=True))
                tasks = [asyncio.create_task(source) for source in sources]
                try:
                    return await answer_lines(request, lines)
                finally:
                    await ends.ended(*tasks)


def _cut(request: web.Request) -> None:
    """End the connection of a client that does not read."""
    drops.count("gateway: client of events does not read")
    ends.cut(request.transport)


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


def _passes(wanted: filters.Filters, window: swarm_events.Window, event: Event) -> bool:
    return window.holds(event.said["timeNano"]) and swarm_events.matches(event.said, wanted)


async def _ours(
    heard: Listener, passes: Callable[[Event], bool], past_told: asyncio.Event
) -> AsyncIterator[bytes]:
    await past_told.wait()
    async for event in heard:
        if passes(event):
            yield event.line


async def _in_time(
    engine: AsyncIterator[bytes], past: deque[Event], told: asyncio.Event
) -> AsyncIterator[bytes]:
    """The engine's lines, and the cluster's past between those of its own past, by their times.

    Args:
        engine: its lines.
        past: of the cluster, the oldest first; empty afterwards.
        told: is set once the past is told.
    """
    while past:
        coming = asyncio.ensure_future(_next(engine))
        try:
            await asyncio.wait({coming}, timeout=_PAST_S)
            at = _time_of(coming.result()) if coming.done() else None
            while past and (at is None or past[0].said["timeNano"] <= at):
                yield past.popleft().line
            if not past:
                told.set()
            line = await coming
        finally:
            coming.cancel()
        if line is None:
            return
        yield line
    told.set()
    async for line in engine:
        yield line


async def _next(lines: AsyncIterator[bytes]) -> bytes | None:
    return await anext(lines, None)


def _time_of(line: bytes | None) -> int | None:
    """When an event of the engine's was; None: nothing comes any more, or it does not say."""
    try:
        at = json.loads(line)["timeNano"] if line is not None else None
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    return at if isinstance(at, int) else None
