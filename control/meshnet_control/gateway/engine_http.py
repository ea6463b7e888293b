"""The gateway's own requests to the local engine: version and networks.

The only place of the gateway that speaks HTTP to the engine; streams of users never come here
(see ``proxy.py``).

Be aware: an engine that does not answer is a ``ControlError`` with status 503 and a clear sentence.
The engine's newest API version is asked once and kept until a connection fails.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web
from yarl import URL

from meshnet.errors import ControlError
from meshnet_control.gateway import responses
from meshnet_control.gateway.http_head import Version
from meshnet_control.gateway.routing import MAX_VERSION, parse_version, text

_HOP_BY_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})
NO_LIMIT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5)
"""For an answer that may never end."""
_SHORT: Final = aiohttp.ClientTimeout(total=60, sock_connect=5)


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """What the engine says of itself."""

    api: Version
    """Newest API version of both sides."""
    server: str
    """``20.10.24+dfsg1``."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to the engine."""

    method: str
    path_qs: str
    """Encoded, with the query if any."""
    params: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    limit: aiohttp.ClientTimeout = _SHORT


FALLBACK: Final = EngineVersion((1, 41), "")
"""Said while no engine has ever answered."""


class EngineHttp:
    """A client of the local engine.

    Args:
        path: its unix socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._session: aiohttp.ClientSession | None = None
        self._version: EngineVersion | None = None
        self._last = FALLBACK

    async def close(self) -> None:
        """Close kept connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                base_url="http://docker",
                connector=aiohttp.UnixConnector(path=str(self.path), limit=0),
                auto_decompress=False,
            )
        return self._session

    @asynccontextmanager
    async def open(self, asked: Asked) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request; the answer's body is read inside the ``async with``.

        Raises:
            ControlError: the engine does not answer (503).
        """
        try:
            response = await self._client().request(
                asked.method,
                URL(asked.path_qs, encoded=True),
                params=asked.params,
                headers=asked.headers,
                data=asked.body or None,
                timeout=asked.limit,
            )
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            self._version = None
            raise self._down(error) from None
        async with response:
            yield response

    def _down(self, error: Exception) -> ControlError:
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else None
        return ControlError(responses.engine_down(self.path, cause), HTTPStatus.SERVICE_UNAVAILABLE)

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
        async with self.open(Asked("GET", path, params)) as response:
            body = await response.read()
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise ControlError(_message(body), response.status)
            return json.loads(body)

    async def relay(self, request: web.Request, body: bytes) -> web.Response:
        """Ask the engine what we were asked, and answer what it answers; for small bodies only.

        Raises:
            ControlError: the engine does not answer.
        """
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        asked = Asked(request.method, request.path_qs, headers=headers, body=body, limit=NO_LIMIT)
        async with self.open(asked) as response:
            kept = {k: v for k, v in response.headers.items() if k.lower() not in _HOP_BY_HOP}
            return web.Response(body=await response.read(), status=response.status, headers=kept)


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()


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
