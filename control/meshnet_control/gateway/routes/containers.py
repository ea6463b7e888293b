"""What the engine says of containers, with what it does not know of and as their users gave them.

What needs nothing of ours is answered with the engine's own bytes.
"""

from __future__ import annotations

import asyncio
import logging
import operator
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

from meshnet import ends
from meshnet.errors import ControlError
from meshnet.kernel import net_dev
from meshnet_control.agent.attached_record import Record
from meshnet_control.convert.json_text import parse_json, parse_object
from meshnet_control.engine.connection import Answer, Request
from meshnet_control.gateway import container_json, responses
from meshnet_control.gateway.container_views import INSPECTED, LISTED, seen
from meshnet_control.gateway.engine_http import EngineHttp
from meshnet_control.gateway.http_head import split_version
from meshnet_control.gateway.lines import answer_lines
from meshnet_control.gateway.request import HandlerContext
from meshnet_control.gateway.routing import MAX_VERSION

_log = logging.getLogger(__name__)
_MOST_LINES: Final = 4
"""Readings that wait for a client; then the engine waits, too."""


class ContainerRoutes:
    """Handlers of what is asked of containers."""

    def __init__(self, context: HandlerContext) -> None:
        self._node, self._engine = context.node, context.engine

    def routes(self) -> responses.Routes:
        """Method, path and handler."""
        return [
            ("GET", "/containers/json", self.list),
            ("GET", "/containers/{id}/json", self.inspect),
            ("GET", "/system/df", self.usage),
            ("GET", "/containers/{id}/stats", self.stats),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """``GET /containers/json``."""
        asked = container_json.asked(request.query)
        if asked.query is not request.query:
            url = request.rel_url.with_query(dict(asked.query))
            request = request.clone(rel_url=url)
        answer = await self._engine.relay(request, b"")
        if answer.status != HTTPStatus.OK or not isinstance(answer.body, bytes):
            return answer
        known = self._node.overlays()
        found = shown = parse_json(answer.body)
        records = self._records()
        if not asked.all_done or records or (known is not None and not known.unused):
            shown = container_json.listed(found, known, asked, records)
        viewed = [seen(entry, LISTED) for entry in shown or ()]
        same = shown is found and all(map(operator.is_, viewed, found or ()))
        return answer if same else responses.ok(viewed)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        """``GET /containers/{id}/json``."""
        answer = await self._engine.relay(request, b"")
        if answer.status != HTTPStatus.OK or not isinstance(answer.body, bytes):
            return answer
        known = self._node.overlays()
        api, _ = split_version(request.path)
        found = parse_object(answer.body)
        asked = api or MAX_VERSION
        wired = known and container_json.inspected(found, known, asked, self._records())
        shown = seen(wired or found, INSPECTED)
        return answer if shown is found else responses.ok(shown)

    async def usage(self, request: web.Request) -> web.StreamResponse:
        """``GET /system/df``."""
        answer = await self._engine.relay(request, b"")
        if answer.status != HTTPStatus.OK or not isinstance(answer.body, bytes):
            return answer
        said = parse_object(answer.body)
        found = said.get("Containers") or ()
        viewed = [seen(entry, LISTED) for entry in found]
        same = all(map(operator.is_, viewed, found))
        return answer if same else responses.ok({**said, "Containers": viewed})

    def _records(self) -> Mapping[str, Record]:
        attaching = self._node.attaching()
        return attaching.containers.records if attaching is not None else {}

    async def stats(self, request: web.Request) -> web.StreamResponse:
        """``GET /containers/{id}/stats``: one reading, or one after the other."""
        asked = Request("GET", request.path_qs, limit_s=None)
        async with self._engine.open(asked) as engine:
            if engine.status != HTTPStatus.OK:
                body = await engine.read()
                return web.Response(
                    status=engine.status, body=body, content_type="application/json"
                )
            lines: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_LINES)
            task = asyncio.create_task(self._readings(engine, lines))
            try:
                return await answer_lines(request, lines)
            finally:
                await ends.ended(task)

    async def _readings(self, engine: Answer, lines: asyncio.Queue[bytes | None]) -> None:
        meter = _Meter(self._engine)
        try:
            async for line in engine.lines():
                await lines.put(await self._with_traffic(line, meter))
        except ControlError as error:  # the engine went, or what it says makes no sense
            _log.debug("stats end: %s", error)
        await lines.put(None)

    async def _with_traffic(self, line: bytes, meter: _Meter) -> bytes:
        known = self._node.overlays()
        if known is None or known.unused:
            return line + b"\n"
        said = parse_object(line)
        container = str(said.get("id"))
        traffic = await meter.read(container) if container in known.endpoints else None
        return (
            line + b"\n"
            if traffic is None
            else responses.dumps(container_json.with_traffic(said, traffic))
        )


class _Meter:
    """Reads what goes through the interfaces of one container.

    Args:
        engine: says which process and namespace are the container's.
    """

    def __init__(self, engine: EngineHttp) -> None:
        self._engine = engine
        self._pid, self._netns = 0, ""

    async def read(self, container: str) -> Mapping[str, net_dev.Traffic] | None:
        """Of each interface, loopback left out; None: the container does not run."""
        found = net_dev.traffic(self._pid, self._netns)
        if found is not None:
            return found
        try:
            seen = await self._engine.json(f"/containers/{container}/json")
            self._pid = int(seen["State"]["Pid"])
            self._netns = str(seen["NetworkSettings"]["SandboxKey"])
        except (ControlError, KeyError, TypeError, ValueError):
            return None
        return net_dev.traffic(self._pid, self._netns)
