"""The gateway's own requests to the local engine: version, networks, what is passed on for a user.

Streams of users never come here (see ``proxy.py``).

Be aware: an engine that does not answer is a ``ControlError`` with status 503 and Docker's
sentence. The engine's newest API version is asked once and kept until a connection fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from meshnet.errors import ControlError
from meshnet_control.engine.client import EngineClient, EngineGoneError
from meshnet_control.engine.connection import Answer, Request
from meshnet_control.gateway.http_head import Version
from meshnet_control.gateway.routing import MAX_VERSION, parse_version, text

_HOP_BY_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """What the engine says of itself."""

    api: Version
    """Newest API version of both sides."""
    server: str
    """``20.10.24+dfsg1``."""


FALLBACK: Final = EngineVersion((1, 41), "")
"""Said while no engine has ever answered."""


class EngineHttp:
    """What the gateway asks the local engine.

    Args:
        engine: its client.
    """

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._version: EngineVersion | None = None
        self._last = FALLBACK

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Answer]:
        """One request; the answer's body is read inside the ``async with``.

        Raises:
            ControlError: the engine does not answer (503).
        """
        try:
            async with self._engine.open(request) as answer:
                yield answer
        except EngineGoneError:
            self._version = None
            raise

    async def version(self) -> EngineVersion:
        """The engine's version; the last known one, or a guess, while it does not answer."""
        if self._version is None:
            try:
                said = await self.json("/version")
            except ControlError:
                return self._last
            api = parse_version(str(said.get("ApiVersion", ""))) or FALLBACK.api
            self._version = EngineVersion(min(api, MAX_VERSION), str(said.get("Version", "")))
            self._last = self._version
        return self._version

    async def json(self, path: str, params: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401
        """A GET's JSON.

        Raises:
            ControlError: the engine does not answer, or refuses (its own message and status).
        """
        try:
            return await self._engine.json(path, params)
        except EngineGoneError:
            self._version = None
            raise

    async def relay(self, request: web.Request, body: bytes) -> web.Response:
        """Ask the engine what we were asked, and answer what it answers; for small bodies only.

        Raises:
            ControlError: the engine does not answer.
        """
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        asked = Request(request.method, request.path_qs, headers=headers, body=body, limit_s=None)
        async with self.open(asked) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
            return web.Response(body=await answer.read(), status=answer.status, headers=kept)


def capped(version: dict[str, Any], newest: Version = MAX_VERSION) -> dict[str, Any]:
    """The engine's ``/version`` with an API version we speak; PURE."""
    api = parse_version(str(version.get("ApiVersion", "")))
    if api is None or api <= newest:
        return version
    components = [
        {**c, "Details": {**c["Details"], "ApiVersion": text(newest)}}
        if "ApiVersion" in (c.get("Details") or {})
        else c
        for c in version.get("Components") or []
    ]
    return {**version, "ApiVersion": text(newest), "Components": components}
