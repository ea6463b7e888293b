"""One connection to our application, whose every failure is the engine's error in JSON.

```
 what a client did wrong      status of HTTP, one sentence, nothing in the log
 what nobody expected         500, one sentence, the traceback in the log
 either after the first byte  the stream ends short: nothing is written into it
```
aiohttp itself answers in text, and logs both alike.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from aiohttp import http_exceptions, web

from meshnet import drops
from meshnet_control.gateway import responses
from meshnet_control.gateway.http_head import LIMIT_BYTES

_log = logging.getLogger(__name__)
_OURS: Final = "meshnetd made a mistake with this request: see its log"


_MALFORMED: Final = (web.RequestPayloadError, http_exceptions.HttpProcessingError)


class Connection(web.RequestHandler):
    """aiohttp's connection, but for what it says of errors."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that failed.

        Raises:
            ConnectionError: a part of another answer is with the client already.
        """
        answer = failed(request, exc or TimeoutError(message or status))
        if request.writer.output_size > 0:
            raise ConnectionError("an answer that had begun cannot be finished")
        answer.force_close()
        return answer

    def log_exception(self, *args: object, **kw: object) -> None:
        """Log a fault, but not that the rest of a refused body is malformed, too."""
        if not isinstance(kw.get("exc_info"), _MALFORMED):
            super().log_exception(*args, **kw)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer; one that aiohttp makes of its own refusals is put into JSON."""
        if isinstance(resp, web.HTTPException):
            resp = in_json(resp)
        if not isinstance(resp, web.StreamResponse):
            _log.error("%s %s: its handler answered %r", request.method, request.path, resp)
            resp = responses.error(HTTPStatus.INTERNAL_SERVER_ERROR, _OURS)
        return await super().finish_response(request, resp, start_time)


def connections(server: web.Server) -> Callable[[], asyncio.BaseProtocol]:
    """Makes one ``Connection`` of a server's at each call."""
    return lambda: Connection(
        server,
        loop=asyncio.get_running_loop(),
        max_line_size=LIMIT_BYTES,
        max_field_size=LIMIT_BYTES,
        access_log=None,  # type: ignore[arg-type] # none is kept: web.Server takes it, too
    )


def failed(request: web.BaseRequest, error: BaseException) -> web.Response:
    """The answer to a request whose handler failed; logs what was our fault."""
    if isinstance(error, _MALFORMED):
        drops.count("gateway: malformed request")
        said = str(getattr(error, "message", "") or error).strip().partition("\n")[0]
        why = f"malformed request: {said.rstrip(':.') or 'not HTTP'}"
        return responses.error(HTTPStatus.BAD_REQUEST, why)
    gone = request.transport is None or request.transport.is_closing()
    if isinstance(error, ConnectionError) and gone:
        return responses.error(HTTPStatus.BAD_REQUEST, "unexpected EOF")  # nobody reads it
    _log.error("%s %s failed", request.method, request.path, exc_info=error)
    return responses.error(HTTPStatus.INTERNAL_SERVER_ERROR, _OURS)


def in_json(error: web.HTTPException) -> web.Response:
    """One of aiohttp's own refusals as the engine's error."""
    if isinstance(error, web.HTTPNotFound | web.HTTPMethodNotAllowed):
        return responses.error(HTTPStatus.NOT_FOUND, "page not found")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return responses.error(HTTPStatus.BAD_REQUEST, "http: request body too large")
    return responses.error(error.status, (error.text or error.reason).partition("\n")[0])
