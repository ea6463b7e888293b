"""One connection of somebody who asks: strangers may reach the address, so all is bounded.

A connection has one answer and a bounded life, whatever its client does or leaves undone; who
answers for as long as somebody looks says so (``stays``), and bounds that itself. When
there are as many as there may be, the oldest that has not asked anything yet makes room: who sends
half a head, or none, keeps nobody from being answered.

What they do wrong is counted (``meshnet.drops``) and fills no log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp import http_exceptions, web

from meshnet import drops

MOST: Final = 32
"""Connections at once; a Prometheus has one."""
TOO_MANY: Final = "more connections than served at once"
LINE_BYTES: Final = 4096
"""Of a request's first line, and of each field of its head."""
LIFE_S: Final = 20.0
"""For the head to come, all to be read and the answer to be taken; Prometheus waits for ten."""


class Connection(web.RequestHandler):
    """aiohttp's connection, but for its life and for what it says of malformed requests.

    Attributes:
        name: of what is served, for the counts.
        waits: its client has not asked anything yet, and it was not cut for that.
    """

    __slots__ = ("_life", "life_s", "name", "waits")

    def __init__(
        self,
        server: web.Server,
        name: str,
        life_s: float,
        **settings: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        super().__init__(server, **settings)
        self.name, self.life_s, self.waits = name, life_s, True
        self._life: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Its life begins."""
        super().connection_made(transport)
        self._life = asyncio.get_running_loop().call_later(
            self.life_s, self.cut, "connection that lasted too long"
        )

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is over."""
        if self._life is not None:
            self._life.cancel()
        super().connection_lost(exc)

    def stays(self) -> None:
        """It has no end of its own from now on."""
        if self._life is not None:
            self._life.cancel()

    def cut(self, why: str) -> None:
        """End it at once, and count why."""
        self.waits = False
        if isinstance(self.transport, asyncio.Transport):
            drops.count(f"{self.name}: {why}")
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that failed."""
        if not isinstance(exc, http_exceptions.HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        drops.count(f"{self.name}: malformed request")
        answer = web.Response(status=HTTPStatus.BAD_REQUEST, text="malformed request\n")
        answer.force_close()
        return answer


class _Refused(asyncio.Protocol):
    """One too many: it is cut."""

    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        drops.count(f"{self._name}: {TOO_MANY}")
        if isinstance(transport, asyncio.Transport):
            transport.abort()


@web.middleware
async def once(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Whatever is asked is answered once on a connection."""
    if isinstance(request.protocol, Connection):
        request.protocol.waits = False
    try:
        answer = await handler(request)
    except web.HTTPException as error:
        error.force_close()
        raise
    answer.force_close()
    return answer


def connections(
    server: web.Server, name: str, most: int = MOST, life_s: float = LIFE_S
) -> Callable[[], asyncio.BaseProtocol]:
    """Makes a connection of a server's at each call, while there are fewer than ``most``."""

    def made() -> asyncio.BaseProtocol:
        if len(server.connections) >= most:
            waiting = next((each for each in server.connections if _waits(each)), None)
            if not isinstance(waiting, Connection):
                return _Refused(name)
            waiting.cut(TOO_MANY)
        return Connection(
            server,
            name,
            life_s,
            loop=asyncio.get_running_loop(),
            max_line_size=LINE_BYTES,
            max_field_size=LINE_BYTES,
            access_log=None,
        )

    return made


def _waits(connection: web.RequestHandler) -> bool:
    return isinstance(connection, Connection) and connection.waits
