"""The gateway's own requests to the local engine: version, networks, what is passed on for a user.

Streams of users never come here (see ``proxy.py``).

What a client asks in a version that the engine does not know is asked in the engine's own.

Be aware: an engine that does not answer is a ``ControlError`` with status 503 and Docker's
sentence. The engine's API versions are asked once and kept until a connection fails.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from aiohttp import web

from meshnet.errors import ControlError
from meshnet_control.engine.client import EngineClient, EngineGoneError
from meshnet_control.engine.connection import Answer, Request
from meshnet_control.gateway.http_head import Version, reversioned, split_version
from meshnet_control.gateway.routing import MAX_VERSION, MIN_VERSION, parse_version, text

_HOP_BY_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """What the engine says of itself."""

    newest: Version
    """API version."""
    server: str
    """``20.10.24+dfsg1``."""
    oldest: Version = MIN_VERSION
    """API version that it still takes."""

    def nearest(self, asked: Version) -> Version:
        """The API version to ask the engine in for somebody who asks us in another; PURE."""
        return max(self.oldest, min(asked, self.newest))


FALLBACK: Final = EngineVersion((1, 41), "")
"""Assumed while no engine has ever answered."""


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
        asked = replace(request, path_qs=await self._spoken(request.path_qs))
        try:
            async with self._engine.open(asked) as answer:
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
            self._last = self._version = _version_of(said)
        return self._version

    async def json(self, path: str, params: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401
        """A GET's JSON.

        Raises:
            ControlError: the engine does not answer, or refuses (its own message and status).
        """
        try:
            return await self._engine.json(await self._spoken(path), params)
        except EngineGoneError:
            self._version = None
            raise

    async def told(self, method: str, path: str, body: object = None) -> None:
        """Have the engine do something; its answer matters only when it refuses.

        Raises:
            ControlError: it does not answer, or refuses (its own message and status).
        """
        headers = {"Content-Type": "application/json"} if body is not None else {}
        raw = b"" if body is None else json.dumps(body).encode()
        async with self.open(Request(method, path, headers=headers, body=raw)) as answer:
            await answer.accepted()

    async def relay(self, request: web.Request, body: bytes) -> web.Response:
        """Ask the engine what we were asked, and answer what it answers; for small bodies only.

        Raises:
            ControlError: the engine does not answer.
        """
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        if body and "Content-Type" not in request.headers:  # one of ours, to what came without
            headers["Content-Type"] = "application/json"
        asked = Request(request.method, request.path_qs, headers=headers, body=body, limit_s=None)
        async with self.open(asked) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
            return web.Response(body=await answer.read(), status=answer.status, headers=kept)

    async def _spoken(self, path: str) -> str:
        asked, _ = split_version(path)
        if asked is None:
            return path
        return reversioned(path, (await self.version()).nearest(asked))


def _version_of(said: Mapping[str, Any]) -> EngineVersion:
    """PURE: what ``/version`` says."""
    newest = parse_version(str(said.get("ApiVersion", ""))) or FALLBACK.newest
    oldest = parse_version(str(said.get("MinAPIVersion", ""))) or MIN_VERSION
    return EngineVersion(newest, str(said.get("Version", "")), min(oldest, newest))


def spoken(version: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's ``/version`` with the API versions that we speak, whatever it does; PURE."""
    ours = {"ApiVersion": text(MAX_VERSION), "MinAPIVersion": text(MIN_VERSION)}
    components = [dict(component) for component in version.get("Components") or []]
    for component in components:
        details = component.get("Details") or {}
        if "ApiVersion" in details:
            component["Details"] = {**details, **ours}
    return {**version, **ours, "Components": components}
