"""The proxy: one unix socket, each request routed to meshnet or, byte for byte, to the engine.

```
 docker CLI ──unix── read head ──ours?── aiohttp application (in this process, over a socketpair)
                                └─else── local engine's unix socket: bytes both ways until the end
```
A request's head is read, marked ``Connection: close`` and sent on with all that follows. Bodies,
chunks, 101 upgrades (attach, exec, BuildKit's h2c) and endless streams are never looked into. Each
direction is half-closed by itself: a client that has no more stdin still gets its output.

Be aware: a connection carries one request; clients see ``Connection: close`` and dial again. After
an upgrade that the engine refused, the connection stays the engine's until it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from meshnet.errors import WireError
from meshnet_control.engine.errors import unanswered
from meshnet_control.gateway import responses
from meshnet_control.gateway.http_head import END, LIMIT_BYTES, Head, one_shot, parse
from meshnet_control.gateway.routing import is_ours

_log = logging.getLogger(__name__)
_CHUNK_BYTES = 256 * 1024
_LINGER_S = 2.0
"""How long a client may go on sending after its answer has ended, before we hang up."""

Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Proxy:
    """Serves connections of the gateway's socket.

    Args:
        ours: makes one protocol of our aiohttp application per connection.
        engine: path of the local engine's socket.
    """

    def __init__(self, ours: ProtocolFactory, engine: Path) -> None:
        self._ours = ours
        self._engine = engine
        self._connections: set[asyncio.Task[None]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its end; callback of ``start_unix_server``."""
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            await self._serve((reader, writer))
        except OSError as error:
            _log.debug("gateway connection ended: %s", error)
        except asyncio.CancelledError:
            _log.debug("gateway connection cut: closing down")
        finally:
            await _hang_up(writer)

    async def close(self) -> None:
        """Cut every connection."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, client: Pipe) -> None:
        reader, writer = client
        try:
            raw = await reader.readuntil(END)
            head = parse(raw)
        except asyncio.IncompleteReadError:
            return
        except (asyncio.LimitOverrunError, WireError) as error:
            writer.write(responses.raw_error(HTTPStatus.BAD_REQUEST, f"malformed request: {error}"))
            return
        try:
            server = await self._dial(head)
        except OSError as error:
            why = unanswered(f"unix://{self._engine}", error)
            writer.write(responses.raw_error(HTTPStatus.SERVICE_UNAVAILABLE, str(why)))
            return
        try:
            server[1].write(raw if head.upgrade else one_shot(raw))
            await splice(client, server)
        finally:
            await _hang_up(server[1])

    async def _dial(self, head: Head) -> Pipe:
        if not is_ours(head):
            return await asyncio.open_unix_connection(str(self._engine))
        here, there = socket.socketpair()
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(self._ours, there)
        return await asyncio.open_unix_connection(sock=here)


async def splice(client: Pipe, server: Pipe) -> None:
    """Copy both ways until the server's side has ended; each end of stream is passed on.

    A client that keeps sending after that (an upload the server refused) is drained a moment, so
    that it gets to read the answer instead of a reset.
    """
    upload = asyncio.create_task(_copy(client[0], server[1]))
    try:
        await _copy(server[0], client[1])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                await _drain(upload, client[0])
    finally:
        upload.cancel()
        await asyncio.gather(upload, return_exceptions=True)


async def _drain(upload: asyncio.Task[None], reader: asyncio.StreamReader) -> None:
    await asyncio.wait({upload})
    while not reader.at_eof() and await reader.read(_CHUNK_BYTES):
        pass


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end of ``reader``, then half-close ``writer``; a dead writer ends it too."""
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError as error:
        _log.debug("gateway stream cut: %s", error)


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.close()
        await writer.wait_closed()


async def listen(front: Proxy, path: Path, *, group: int | None) -> asyncio.Server:
    """Open the gateway's socket: mode 0660, owned by root and ``group`` (None: root's).

    A socket file left over by a dead process is replaced.

    Raises:
        OSError: another process serves it, or the directory cannot be written.
    """
    _remove_stale(path)
    server = await asyncio.start_unix_server(
        front.connected, path=str(path), limit=LIMIT_BYTES, backlog=128, start_serving=False
    )
    _restrict(path, group)
    await server.start_serving()
    return server


def _remove_stale(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            path.unlink(missing_ok=True)
            return
    raise OSError(f"{path}: another process serves this socket")


def _restrict(path: Path, group: int | None) -> None:
    os.chown(path, -1, group if group is not None else -1)
    path.chmod(0o660)
