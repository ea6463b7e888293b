"""The proxy: one unix socket, each request routed to meshnet or, byte for byte, to the engine.

```
 docker CLI ──unix── read head ──ours?── aiohttp application (in this process, over a socketpair)
                                └─else── local engine's unix socket: bytes both ways until the end
```
A request's head is read, marked ``Connection: close`` and sent on with all that follows; one in an
API version that the engine does not know is sent on in the engine's own. Bodies,
chunks, 101 upgrades (attach, exec, BuildKit's h2c) and endless streams are never looked into. Each
direction is half-closed by itself: a client that has no more stdin still gets its output.

Bounds, each counted when it acts (``meshnet.drops``): connections at once, the length of a head
and the time it may take to arrive, the time a client may leave an answer of ours unread. The
engine's answers wait for their client as long as it likes, 512 KiB of them kept here.

Be aware: a connection carries one request; clients see ``Connection: close`` and dial again. After
an upgrade that the engine refused, the connection stays the engine's until it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from meshnet import drops, ends
from meshnet.errors import WireError
from meshnet_control.engine.errors import unanswered
from meshnet_control.gateway import responses
from meshnet_control.gateway.engine_http import EngineVersion
from meshnet_control.gateway.http_head import END, LIMIT_BYTES, Head, asked_in, one_shot, parse
from meshnet_control.gateway.relay import LINGER_S, ClientReader, Download, Pipe, relay
from meshnet_control.gateway.routing import is_ours

_log = logging.getLogger(__name__)
_MODE = 0o660
_CHUNK_BYTES = 256 * 1024
SO_SNDBUFFORCE = 32
"""socket(7), asm-generic/socket.h; Python does not name it."""
_WAITING = 4096
"""Clients that may wait to be accepted, as with the engine's socket; net.core.somaxconn bounds it.
Go's get EAGAIN from a full queue at once, and do not try again."""
_SEND_BYTES = 512 * 1024
"""What the kernel takes for a stream to or from the engine before it is read, twice its default."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What clients may take of this process, seconds and numbers."""

    connections: int = 512
    """At once; each takes up to three descriptors and 1 MiB."""
    head_s: float = 30.0
    """For a request's head to arrive."""
    unread_s: float = 1800.0
    """An answer of ours may lie there unread, as one does that goes to a pager."""


ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Proxy:
    """Serves connections of the gateway's socket.

    Args:
        ours: makes one protocol of our aiohttp application per connection.
        engine: path of the local engine's socket.
        versions: tells the engine's API versions.
        bounds: what clients may take.
    """

    def __init__(
        self,
        ours: ProtocolFactory,
        engine: Path,
        versions: Callable[[], Awaitable[EngineVersion]],
        bounds: Bounds | None = None,
    ) -> None:
        self._ours, self._versions = ours, versions
        self._engine = engine
        self._bounds = bounds or Bounds()
        self._connections: set[asyncio.Task[None]] = set()

    async def connected(self, reader: ClientReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its end."""
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            if len(self._connections) > self._bounds.connections:
                drops.count("gateway: more connections than served at once")
                why = f"more than {self._bounds.connections} connections at once: close some"
                writer.write(responses.raw_error(HTTPStatus.SERVICE_UNAVAILABLE, why))
                return
            await self._serve((reader, writer))
        except UnreadError:
            drops.count("gateway: client does not read")
            ends.cut(writer.transport)  # what it left unread would keep us waiting
        except OSError as error:
            _log.debug("gateway connection ended: %s", error)
        except asyncio.CancelledError:
            _log.debug("gateway connection cut: closing down")
        finally:
            await _hang_up(writer)

    async def close(self) -> None:
        """Cut every connection."""
        await ends.ended(*self._connections)

    async def _serve(self, client: tuple[ClientReader, asyncio.StreamWriter]) -> None:
        reader, writer = client
        try:
            async with asyncio.timeout(self._bounds.head_s):
                raw = await reader.readuntil(END)
            head = parse(raw)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                await _refuse(client, "unexpected EOF")
            return
        except TimeoutError:
            drops.count("gateway: request head took too long")
            return
        except (asyncio.LimitOverrunError, WireError) as error:
            await _refuse(client, str(error))
            return
        if is_ours(head):
            await self._answer(client, raw)
        else:
            await self._pass_on((reader, writer), head, raw)

    async def _answer(self, client: Pipe, raw: bytes) -> None:
        """By our application."""
        here, there = socket.socketpair()
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(self._ours, there)
        server = await asyncio.open_unix_connection(sock=here)
        try:
            server[1].write(one_shot(raw))
            await splice(client, server, self._bounds.unread_s)
        finally:
            await _hang_up(server[1])

    async def _pass_on(
        self, client: tuple[ClientReader, asyncio.StreamWriter], head: Head, raw: bytes
    ) -> None:
        """By the engine."""
        writer = client[1]
        try:
            answer, server = await Download(writer).begin(self._engine)
        except OSError as error:
            why = unanswered(f"unix://{self._engine}", error)
            writer.write(responses.raw_error(HTTPStatus.SERVICE_UNAVAILABLE, str(why)))
            return
        try:
            if head.version is not None:
                raw = asked_in(raw, (await self._versions()).nearest(head.version))
            _widen(writer)
            _widen(server)
            server.write(raw if head.upgrade else one_shot(raw))
            await relay(client, answer, server)
        finally:
            await _hang_up(server)


def _widen(writer: asyncio.StreamWriter) -> None:
    """Let a stream run ahead of its reader, with fewer turns between the two."""
    stream: socket.socket = writer.get_extra_info("socket")
    try:
        stream.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, _SEND_BYTES)
    except PermissionError:  # without CAP_NET_ADMIN as far as net.core.wmem_max goes
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)


class UnreadError(Exception):
    """A client has left an answer unread for too long."""


async def splice(client: Pipe, server: Pipe, unread_s: float) -> None:
    """Copy both ways until the server's side has ended; each end of stream is passed on.

    Args:
        client: its stream.
        server: our application's.
        unread_s: how long the client may leave an answer unread.

    A client that keeps sending after that (an upload the server refused) is drained a moment, so
    that it gets to read the answer instead of a reset.

    Raises:
        UnreadError: the client did not read.
    """
    upload = asyncio.create_task(_copy(client[0], server[1]))
    try:
        await _copy(server[0], client[1], unread_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await _drain(upload, client[0])
    finally:
        await ends.ended(upload)


async def _refuse(client: Pipe, why: str) -> None:
    """Tell a client what is wrong with its head; one that still sends reads it, too."""
    drops.count("gateway: malformed request head")
    client[1].write(responses.raw_error(HTTPStatus.BAD_REQUEST, f"malformed request: {why}"))
    client[1].write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while await client[0].read(_CHUNK_BYTES):
                pass


async def _drain(upload: asyncio.Task[None], reader: asyncio.StreamReader) -> None:
    await asyncio.wait({upload})
    while not reader.at_eof() and await reader.read(_CHUNK_BYTES):
        pass


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, unread_s: float | None = None
) -> None:
    """Copy until the end of ``reader``, then half-close ``writer``; a dead writer ends it too."""
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await _taken(writer, unread_s)
        if writer.can_write_eof():
            writer.write_eof()
    except OSError as error:
        _log.debug("gateway stream cut: %s", error)


async def _taken(writer: asyncio.StreamWriter, unread_s: float | None) -> None:
    try:
        async with asyncio.timeout(unread_s):
            await writer.drain()
    except TimeoutError:
        raise UnreadError from None


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """End a stream once the other side has taken the rest of it; at once when we are cut."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        ends.cut(writer.transport)
    with contextlib.suppress(OSError):
        writer.close()
        await writer.wait_closed()


async def listen(proxy: Proxy, bound: socket.socket) -> asyncio.Server:
    """Serve the gateway's socket; its file is not this server's to remove."""
    more: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}

    def accept() -> asyncio.Protocol:
        reader = ClientReader(LIMIT_BYTES)
        return asyncio.StreamReaderProtocol(reader, lambda _, to: proxy.connected(reader, to))

    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(accept, sock=bound, backlog=_WAITING, **more)


def bind(path: Path, group: int | None) -> socket.socket:
    """A socket that nobody can connect to yet: mode 0660, of root and ``group`` (None: root's).

    The file takes its mode from the socket (unix(7)), so there is no moment at which it has a wider
    one, whatever the umask.

    Raises:
        OSError: the file cannot be made.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(made.fileno(), _MODE)
        made.bind(str(path))
        os.chown(path, -1, group if group is not None else -1)
        path.chmod(_MODE)  # the umask may have taken from it
    except OSError:
        made.close()
        raise
    return made


def need_unserved(path: Path) -> None:
    """See that no process serves the socket at ``path``; its directory is there then.

    Raises:
        OSError: one does, or the directory cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return
    raise OSError(f"{path}: another process serves this socket")
