"""Answers in the engine's form: JSON bodies, error bodies.

Source: moby api/server/httputils (WriteJSON, MakeErrorHandler).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Routes = list[tuple[str, str, Handler]]
_LONGEST_MESSAGE = 2000
"""Characters: a sentence with a value of a user's in it."""
_JSON = {"Content-Type": "application/json"}


def dumps(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Compact JSON and a newline, as Go's encoder writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def ok(value: Any, status: int = HTTPStatus.OK) -> web.Response:  # noqa: ANN401 - any JSON value
    """A JSON answer."""
    return web.Response(body=dumps(value), status=status, headers=_JSON)


def error(status: int, message: str) -> web.Response:
    """The engine's error body: ``{"message": "..."}``."""
    return ok({"message": _on_a_line(message)}, status)


def _on_a_line(message: str) -> str:
    """A sentence with what a user said in it: no line ends or halves of characters in it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)[:_LONGEST_MESSAGE]


def empty(status: int = HTTPStatus.OK) -> web.Response:
    """An answer without a body: 200 of an update or a service's removal, 204 of other removals."""
    return web.Response(status=status)


def raw_error(status: HTTPStatus, message: str) -> bytes:
    """A whole HTTP answer for a connection that no application serves."""
    body = dumps({"message": _on_a_line(message)})
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
