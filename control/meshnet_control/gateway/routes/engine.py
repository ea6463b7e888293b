"""Requests that the engine answers, once they are put so that an older one understands them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from aiohttp import web

from meshnet.errors import ControlError
from meshnet_control.agent import engine_socket
from meshnet_control.controlapi import filters
from meshnet_control.convert.json_text import parse_object
from meshnet_control.gateway import older_engine, responses
from meshnet_control.gateway.http_head import split_version
from meshnet_control.gateway.request import HandlerContext
from meshnet_control.gateway.routing import MAX_VERSION

_PRUNE_FILTERS = ("all", "label", "label!")


class EngineRoutes:
    """Handlers of what is the engine's own."""

    def __init__(self, context: HandlerContext) -> None:
        self._engine = context.engine

    def routes(self) -> responses.Routes:
        """Method, path and handler."""
        return [("POST", "/volumes/prune", self.prune_volumes)]

    async def prune_volumes(self, request: web.Request) -> web.StreamResponse:
        """``POST /volumes/prune``: since API 1.42 named volumes go only when all are to go."""
        asked, _ = split_version(request.path)
        newest = (await self._engine.version()).newest
        is_new = (asked or MAX_VERSION) >= older_engine.ANONYMOUS_ONLY
        if newest >= older_engine.ANONYMOUS_ONLY or not is_new:
            return await self._engine.relay(request, await request.read())
        wanted = filters.parse(request.query.get("filters"), _PRUNE_FILTERS)
        labels = {key: sorted(values) for key, values in wanted.items() if key != "all"}
        if filters.flag(wanted.get("all")):
            query = request.rel_url.update_query(filters=json.dumps(labels))
            return await self._engine.relay(request.clone(rel_url=query), b"")
        unused = json.dumps({"dangling": ["true"], **_named(labels, "label")})
        found = (await self._engine.json("/volumes", {"filters": unused})).get("Volumes") or ()
        doomed = [volume["Name"] for volume in found if _doomed(volume, wanted.get("label!"))]
        sizes = await self._sizes() if doomed else {}
        deleted = [name for name in doomed if await self._delete(name)]
        reclaimed = sum(sizes.get(name, 0) for name in deleted)
        return responses.ok({"VolumesDeleted": deleted or None, "SpaceReclaimed": reclaimed})

    async def _delete(self, volume: str) -> bool:
        """Whether it is gone; somebody may use it by now."""
        try:
            await self._engine.told("DELETE", f"/volumes/{quote(volume, safe='')}")
        except ControlError:
            return False
        return True

    async def _sizes(self) -> Mapping[str, int]:
        """Of volumes, in bytes; not of those whose size the engine does not know (-1)."""
        used = await self._engine.json("/system/df")
        sizes = {
            volume["Name"]: (volume.get("UsageData") or {}).get("Size", 0)
            for volume in used.get("Volumes") or ()
        }
        return {name: size for name, size in sizes.items() if size > 0}


def _named(values: Mapping[str, list[str]], key: str) -> dict[str, list[str]]:
    return {key: values[key]} if key in values else {}


def _doomed(volume: Mapping[str, Any], spared: Iterable[str] | None) -> bool:
    """Whether an unused volume goes; PURE."""
    kept = spared is not None and filters.labels(spared, volume.get("Labels") or {})
    return older_engine.anonymous(volume["Name"]) and not kept


async def create_container(
    context: HandlerContext, request: web.Request, body: Mapping[str, Any], *, changed: bool = False
) -> web.StreamResponse:
    """``POST /containers/create``, passed on; in several steps where the engine needs them.

    Args:
        context: what handlers work with.
        request: as it came.
        body: its body.
        changed: the body is another one than came.

    Raises:
        ControlError: one of the later steps is refused; the container is gone again.
    """
    engine = context.engine
    asked = body if context.lent is None else engine_socket.lent(body, context.lent)
    steps = older_engine.creation(asked, (await engine.version()).newest)
    same = steps.body is body and not changed
    raw = await request.read() if same else json.dumps(steps.body).encode()
    answer = await engine.relay(request, raw)
    if answer.status != HTTPStatus.CREATED or not isinstance(answer.body, bytes):
        return answer
    if not steps.connections and not steps.warnings:
        return answer
    made = parse_object(answer.body)
    try:
        for network, endpoint in steps.connections:
            wanted = {"Container": made["Id"], "EndpointConfig": endpoint}
            await engine.told("POST", f"/networks/{quote(network, safe='')}/connect", wanted)
    except ControlError:
        await engine.told("DELETE", f"/containers/{made['Id']}?force=1&v=1")
        raise
    warnings = [*(made.get("Warnings") or ()), *steps.warnings]
    return responses.ok({**made, "Warnings": warnings}, HTTPStatus.CREATED)
