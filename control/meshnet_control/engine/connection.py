"""The way to the local engine's socket; aiodocker is imported here and nowhere else.

```
 call ── aiodocker's objects (containers, images, networks) ──┐
 open ── any other request, streams, bytes as they are ───────┴── one session ── engine's socket
```
Errors of aiodocker and of the session below it become ours once, here. That the engine went and
that it is back is logged here, once each; who waits for it uses ``answers``.

Be aware: aiodocker's own streams (events, logs that are followed, pull) are not used: they take a
lost connection for the end, keep without bound, and leave an answer open that was not read to its
end. aiodocker asks for the engine's newest API version, which is what a request without a version
means, too, and remembers it; an engine that went may come back as another, so it is forgotten then.

A call that is cancelled goes on to its end, so that nothing is left half made; a request that was
opened is closed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeVar

import aiodocker
import aiohttp
from yarl import URL

from meshnet import happened
from meshnet_control.engine.errors import (
    EngineError,
    EngineGoneError,
    EngineUnaskedError,
    refused,
    unanswered,
)

_log = logging.getLogger(__name__)

CALLS: Final = 16
"""At once; streams are not counted."""
CALL_S: Final = 60.0
LINE_BYTES: Final = 1024 * 1024
"""No line of the engine's JSON streams is longer: an event has all labels of its container."""
CHUNK_BYTES: Final = 64 * 1024
_CONNECT_S: Final = 5.0
_CLOSE_S: Final = 10.0
"""How long ``close`` waits for calls that are on their way."""
_HOST: Final = "unix://localhost"
"""What stands for the socket in URLs."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the engine."""

    method: str
    path_qs: str
    """Encoded, with the query if any; without a version, the engine's newest is meant."""
    params: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterable[bytes] = b""
    limit_s: float | None = CALL_S
    """For the whole answer; None: it may never end."""
    silent_s: float | None = None
    """An engine that says nothing for so long is stuck; None: it may be silent."""


class Answer:
    """The engine's answer: status, headers, and a body that is still to be read.

    Every way to read it raises ``EngineGoneError`` when the engine goes meanwhile.
    """

    def __init__(self, connection: Connection, response: aiohttp.ClientResponse) -> None:
        self._connection, self._response = connection, response
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self) -> bytes:
        """The whole body."""
        with self._connection.translated():
            return await self._response.read()

    async def accepted(self) -> None:
        """Go on, as the engine did not refuse.

        Raises:
            EngineError: it did; its own message and status.
        """
        if self.status >= HTTPStatus.BAD_REQUEST:
            raise refused(message(await self.read()), self.status)

    async def chunks(self, most: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
        """Bytes as they come, at most ``most`` at once."""
        while True:
            with self._connection.translated():
                data = await self._response.content.read(most)
            if not data:
                return
            yield data

    async def lines(self) -> AsyncIterator[bytes]:
        """Whole lines without their newline, however they were cut; what is after the last is lost.

        Raises:
            EngineError: a line longer than ``LINE_BYTES``.
        """
        rest = b""
        async for data in self.chunks():
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line
            if len(rest) > LINE_BYTES:
                raise EngineError(
                    f"the engine sent a line of more than {LINE_BYTES} bytes",
                    HTTPStatus.BAD_GATEWAY,
                )


class Connection:
    """A session with the engine, made when it is first used.

    Args:
        url: ``unix:///run/docker.sock``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._docker: aiodocker.Docker | None = None
        self._slots = asyncio.Semaphore(CALLS)
        self._calls: set[asyncio.Task[Any]] = set()
        self._back = asyncio.Event()
        self._gone = self._starved = self._closed = False

    # ---- requests ----

    async def call(self, work: Callable[[aiodocker.Docker], Awaitable[T]]) -> T:
        """What ``work`` returns; at most ``CALLS`` at once, each for at most ``CALL_S``.

        Raises:
            EngineError: the engine refused, did not answer, or its answer makes no sense.
        """
        task = asyncio.get_running_loop().create_task(self._do(work))
        self._calls.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Answer]:
        """One request; the answer's body is read inside the ``async with``.

        Raises:
            EngineGoneError: the engine does not answer.
        """
        docker = self._session()
        limit = aiohttp.ClientTimeout(
            total=request.limit_s, sock_connect=_CONNECT_S, sock_read=request.silent_s
        )
        with self.translated():
            response = await docker.session.request(
                request.method,
                URL(f"{_HOST}{request.path_qs}", encoded=True),
                params=request.params,
                headers=request.headers,
                data=request.body or None,
                skip_auto_headers=("Content-Type",),  # a guess that engines refuse
                timeout=limit,
                auto_decompress=False,
            )
        self._note(gone=False)
        try:
            yield Answer(self, response)
        finally:
            response.close()

    async def json(self, request: Request) -> Any:  # noqa: ANN401 - any JSON value
        """The answer's JSON.

        Raises:
            EngineError: the engine does not answer, or refuses (its own message and status).
        """
        async with self.open(request) as answer:
            await answer.accepted()
            body = await answer.read()
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _senseless(error) from error

    # ---- whether it answers ----

    def lost(self) -> EngineGoneError:
        """The error for a stream of the engine's that ended though it has no end of its own."""
        return self._unanswered(None)

    async def answers(self, at_most_s: float) -> None:
        """Returns when an engine that went is back, at the latest after that many seconds."""
        if not self._gone:
            return
        try:
            async with asyncio.timeout(at_most_s):
                await self._back.wait()
        except TimeoutError:
            return

    async def close(self) -> None:
        """Let calls end, for a moment, then close every connection."""
        self._closed = True
        if self._calls:
            await asyncio.wait(self._calls, timeout=_CLOSE_S)
        for task in self._calls:
            task.cancel()
        if self._docker is not None:
            docker, self._docker = self._docker, None
            await docker.close()
            await docker.connector.close()  # ours, so aiodocker leaves it open

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of aiodocker and the session below it, as ours."""
        try:
            yield
        except aiodocker.DockerError as error:
            if isinstance(error.__context__, aiohttp.ClientError):  # its status is no answer's
                raise self._unanswered(error.__context__) from error
            raise refused(error.message, error.status) from error
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            raise self._unanswered(error) from error

    # ---- inside ----

    async def _do(self, work: Callable[[aiodocker.Docker], Awaitable[T]]) -> T:
        async with self._slots:
            with self.translated():
                try:
                    async with asyncio.timeout(CALL_S):
                        done = await work(self._session())
                except (KeyError, TypeError, ValueError, RecursionError) as error:
                    # Whatever aiodocker stumbles over in an answer that has another form.
                    raise _senseless(error) from error
            self._note(gone=False)
            return done

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to look at it

    def _session(self) -> aiodocker.Docker:
        if self._closed:
            raise self.lost()
        if self._docker is None:
            limit = aiohttp.ClientTimeout(total=CALL_S, sock_connect=_CONNECT_S)
            # No limit of connections: a hundred followed logs would stop everything else.
            connector = aiohttp.UnixConnector(self.url.removeprefix("unix://"), limit=0)
            self._docker = aiodocker.Docker(_HOST, connector, timeout=limit)
        return self._docker

    def _unanswered(self, error: BaseException | None) -> EngineGoneError:
        said = unanswered(self.url, error)
        if not isinstance(said, EngineUnaskedError):
            self._note(gone=True)
        elif not self._starved:
            self._starved = True
            _log.warning("%s", said)
        return said

    def _note(self, *, gone: bool) -> None:
        """Say once that the engine went or is back."""
        if not gone:
            self._starved = False
        if gone == self._gone or self._closed:
            return
        self._gone = gone
        if gone:
            self._back.clear()
            if self._docker is not None:
                self._docker.api_version = "auto"
            _log.warning("%s", unanswered(self.url))
            happened.note("the Docker daemon was away")
        else:
            self._back.set()
            _log.info("the Docker daemon at %s answers again", self.url)


def message(body: bytes) -> str:
    """The sentence of an error's body: ``{"message": "..."}``, or what it is instead. PURE."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body.decode(errors="replace").strip()


def _senseless(error: Exception) -> EngineError:
    return EngineError(
        f"the engine's answer makes no sense: {type(error).__name__}: {error}",
        HTTPStatus.BAD_GATEWAY,
    )
