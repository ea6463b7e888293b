"""``POST /nodes/{id}/images``, no request of Docker's: an image of this engine goes to a node."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from aiohttp import web

from meshnet.errors import ControlError
from meshnet_control.controlapi.refusals import no_leader
from meshnet_control.engine.connection import Request
from meshnet_control.gateway import responses
from meshnet_control.gateway.request import HandlerContext, reference

_CHUNK_BYTES: Final = 256 * 1024
_TOLD_BYTES: Final = 1024 * 1024
"""Between two lines of progress."""


class ImageRoutes:
    """Handler of images that are pushed to nodes."""

    def __init__(self, context: HandlerContext) -> None:
        self._context = context

    def routes(self) -> responses.Routes:
        """Method, path and handler."""
        return [("POST", "/nodes/{id}/images", self.push)]

    async def push(self, request: web.Request) -> web.StreamResponse:
        """JSON lines, ``{"Sent": 1048576, "Size": 8388608 …``; the last is Done or has an Error."""
        api = self._context.api()
        if self._context.leaderless:  # nodes are connected with who leads
            raise no_leader()
        node = await api.nodes.inspect(reference(request))
        name = request.query.get("image", "")
        if not name:
            raise ControlError("image is missing")
        encoded = quote(name, safe="")
        image = await self._context.engine.json(f"/images/{encoded}/json")
        images = self._context.node.images()
        if images is None:
            raise ControlError("this manager is not ready", HTTPStatus.SERVICE_UNAVAILABLE)
        tags = [tagged(name)] if tagged(name) in (image.get("RepoTags") or []) else []
        size = int(image.get("Size") or 0)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        saved = self._saved(quote(tags[0] if tags else str(image["Id"]), safe=""))
        told = -_TOLD_BYTES
        async with (
            aclosing(saved),
            aclosing(images.push(node.id, str(image["Id"]), tags, saved)) as progress,
        ):
            async for step in progress:
                if not step.done and not step.error and step.sent < told + _TOLD_BYTES:
                    continue
                told = step.sent
                said = {"Sent": step.sent, "Size": size, "Done": step.done, "Error": step.error}
                await response.write(json.dumps(said).encode() + b"\n")
        return response

    async def _saved(self, name: str) -> AsyncGenerator[bytes, None]:
        asked = Request("GET", f"/images/{name}/get", limit_s=None)
        async with self._context.engine.open(asked) as answer:
            await answer.accepted()
            async for data in answer.chunks(_CHUNK_BYTES):
                yield data


def tagged(name: str) -> str:
    """The name with its tag, ``latest`` where it has none. PURE."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
