"""A client and the engine, byte for byte: what one side sends is written to the other at once.

```
 client ── ClientReader: the head ─┬─ ours: read on as a stream
                                   └─ the engine's: forward ──> Onward ──> engine
 client <── Onward <── Download, the engine's connection
```
Not by way of streams that somebody reads: that costs two more copies and a turn of the loop for
each 256 KiB, a fifth of what ``docker cp`` moves. Who sends is not read while the other side has
not taken all; each end is passed on by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
from collections.abc import Iterable
from pathlib import Path
from typing import Final, SupportsIndex

from meshnet import ends

_log = logging.getLogger(__name__)
LINGER_S: Final = 2.0
"""How long a client may go on sending after its answer has ended, before we hang up."""

Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Onward:
    """One direction.

    Args:
        target: who gets what comes.
        source: where it comes from; is not read while the target has not taken all.
    """

    def __init__(self, target: asyncio.StreamWriter, source: asyncio.Transport) -> None:
        self._target, self._source = target, source
        self._draining: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self.ended = asyncio.Event()
        """The source sends nothing more."""

    def received(self, data: bytes) -> None:
        """Something came; it is thrown away when the target has gone."""
        if self._target.is_closing():
            self._over.set()
            return
        self._target.write(data)
        if self._target.transport.get_write_buffer_size() and self._draining is None:
            self._source.pause_reading()
            self._draining = asyncio.create_task(self._drain())

    def end(self) -> None:
        """Nothing more comes."""
        self.ended.set()
        self._over.set()

    async def whole(self) -> None:
        """Until all is passed on, or one of both has gone; then the target's side is closed."""
        try:
            await self._over.wait()
            await self._target.drain()
            if self._target.can_write_eof():
                self._target.write_eof()
        except OSError as error:
            _log.debug("gateway stream cut: %s", error)

    async def close(self) -> None:
        """Look after it no more."""
        if self._draining is not None:
            await ends.ended(self._draining)

    async def _drain(self) -> None:
        try:
            await self._target.drain()
        except OSError:
            self._over.set()
        finally:
            self._draining = None
        if not self._source.is_closing():
            self._source.resume_reading()


class Download(asyncio.StreamReaderProtocol):
    """The engine's connection, whose answer goes on to a client.

    Args:
        client: who gets it.
    """

    def __init__(self, client: asyncio.StreamWriter) -> None:
        super().__init__(asyncio.StreamReader())
        self._client = client
        self._onward: Onward | None = None

    async def begin(self, engine: Path) -> tuple[Onward, asyncio.StreamWriter]:
        """Connects to the engine's socket: its answer, and the way there.

        Raises:
            OSError: nobody answers.
        """
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_unix_connection(lambda: self, str(engine))
        if self._onward is None:
            raise ConnectionResetError
        return self._onward, asyncio.StreamWriter(transport, self, asyncio.StreamReader(), loop)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of ``asyncio.Protocol``."""
        super().connection_made(transport)
        if isinstance(transport, asyncio.Transport):
            self._onward = Onward(self._client, transport)

    def data_received(self, data: bytes) -> None:
        """Of ``asyncio.Protocol``."""
        if self._onward is not None:
            self._onward.received(data)

    def eof_received(self) -> bool:
        """Of ``asyncio.Protocol``: the other direction goes on."""
        if self._onward is not None:
            self._onward.end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Of ``asyncio.Protocol``."""
        super().connection_lost(exc)
        if self._onward is not None:
            self._onward.end()


class ClientReader(asyncio.StreamReader):
    """What a client sends: a stream to be read, until it is forwarded.

    Args:
        limit: bytes of a head.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)
        self._onward: Onward | None = None
        self._is_over = False

    async def forward(self, onward: Onward) -> None:
        """From now on all goes on there, first what was not read yet."""
        super().feed_eof()  # so that reading what is left ends
        rest = await self.read()  # which waits for nothing, so nothing overtakes it
        self._onward = onward
        if rest:
            onward.received(rest)
        if self._is_over:
            onward.end()

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Of ``asyncio.StreamReader``."""
        if self._onward is None:
            super().feed_data(data)
        else:
            self._onward.received(bytes(data))

    def feed_eof(self) -> None:
        """Of ``asyncio.StreamReader``."""
        self._is_over = True
        if self._onward is None:
            super().feed_eof()
        else:
            self._onward.end()

    def set_exception(self, exc: Exception) -> None:
        """Of ``asyncio.StreamReader``: the client has gone."""
        super().set_exception(exc)
        self._is_over = True
        if self._onward is not None:
            self._onward.end()


async def relay(
    client: tuple[ClientReader, asyncio.StreamWriter], answer: Onward, server: asyncio.StreamWriter
) -> None:
    """Both ways until the engine's answer has ended; each end of stream is passed on.

    A client that keeps sending after that (an upload the engine refused) is heard out a moment, so
    that it gets to read the answer instead of a reset. One that has gone for good is waited for no
    more once all that it sent is passed on, also when the engine says nothing: it does not look for
    the end of an attach or exec that prints nothing.

    Args:
        client: its streams.
        answer: the engine's.
        server: the way to the engine; the head is written.
    """
    source = client[1].transport
    if not isinstance(source, asyncio.Transport):
        raise TypeError("a client's transport goes both ways")
    upload = Onward(server, source)
    await client[0].forward(upload)
    uploading = asyncio.create_task(upload.whole())
    leaving = asyncio.create_task(_left(source, uploading, answer))
    try:
        await answer.whole()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await upload.ended.wait()
    finally:
        await ends.ended(leaving, uploading)
        await answer.close()
        await upload.close()


async def _left(source: asyncio.Transport, uploading: asyncio.Task[None], answer: Onward) -> None:
    """End an answer when its client reads no more, either."""
    await asyncio.wait({uploading})
    await hung_up(source)
    answer.end()


async def hung_up(transport: asyncio.Transport) -> None:
    """Until the peer of a unix socket has closed it, which a half-close is not.

    An end of stream looks the same in both cases; poll(2) tells them apart (POLLHUP). asyncio does
    not ask for it, so a set of epoll(7) does, which can be read once it has come.
    """
    loop = asyncio.get_running_loop()
    come = asyncio.Event()
    with select.epoll(1) as waiting:
        if transport.is_closing():
            return
        waiting.register(transport.get_extra_info("socket").fileno(), 0)
        loop.add_reader(waiting.fileno(), come.set)
        try:
            await come.wait()
        finally:
            loop.remove_reader(waiting.fileno())
