"""TCP 7946: exchanges with peers, bounded in number, size and time.

A connection is a stranger's until its first frame opened with our key. Strangers are held to one
frame, a short time, and places that others take when they run out; what was turned away is counted
in the engine's ``dropped``. Who only asks whether somebody listens (``kernel.host_probe``: three
times a second while we are silent) is gone when we come to accept it, and takes no place.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from meshnet import ends
from meshnet.errors import WireError
from meshnet.gossip.engine import GossipEngine
from meshnet.gossip.exchange import Exchange
from meshnet.gossip.members import Address

_log = logging.getLogger(__name__)

_BUFFER_BYTES: Final = 16 << 10
_BACKLOG: Final = 4096
"""Connections that the kernel takes for a process that hangs (at most net.core.somaxconn): who asks
whether its host is there gets an answer, every second from every other node, for a minute."""


def _is_over(connection: int) -> bool:
    """Whether the other side has closed it; who speaks to us waits for an answer."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


@dataclass(slots=True)
class _Guest:
    host: str
    known: bool = False


class Streams:
    """Serves and opens exchanges of one engine.

    Args:
        engine: the protocol.
        pump: called after the engine was told something.
        failed: called with an error that is our own.
    """

    def __init__(
        self,
        engine: GossipEngine,
        pump: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._engine = engine
        self._config = engine.config
        self._pump = pump
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._guests: dict[asyncio.Task[None], _Guest] = {}
        self._opened: dict[Address, asyncio.Task[None]] = {}

    async def start(self, host: str, port: int) -> None:
        """Listens.

        Raises:
            OSError: the port is taken or the address is not ours.
        """
        self._server = await asyncio.start_server(
            self._accept, host, port, limit=_BUFFER_BYTES, backlog=_BACKLOG
        )

    async def close(self) -> None:
        """Ends every exchange."""
        if self._server is not None:
            self._server.close()
        await ends.ended(*self._guests, *self._opened.values())

    def open(self, address: Address) -> None:
        """Begins an exchange with a peer, unless one is under way."""
        if address in self._opened:
            return
        if len(self._opened) >= self._config.streams_opened:
            self._engine.refusals.count("too many streams opened")
            return
        task = self._loop.create_task(self._open(address))
        self._opened[address] = task
        task.add_done_callback(lambda done: self._ended(done, address))

    # ---- inside ----

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: Address = writer.get_extra_info("peername")[:2]
        if _is_over(writer.get_extra_info("socket").fileno()) or not self._has_place(peer[0]):
            ends.cut(writer.transport)
            return
        guest = _Guest(peer[0])
        task = self._loop.create_task(self._serve(guest, peer, reader, writer))
        self._guests[task] = guest
        task.add_done_callback(self._left)

    def _has_place(self, host: str) -> bool:
        here = [guest for guest in self._guests.values() if guest.host == host]
        if len(here) >= self._config.streams_per_peer:
            self._engine.refusals.count("too many streams of one peer")
            return False
        if len(self._guests) < self._config.streams_max:
            return True
        self._engine.refusals.count("too many streams")
        stranger = next((task for task, guest in self._guests.items() if not guest.known), None)
        if stranger is None:
            return False
        del self._guests[stranger]
        stranger.cancel()
        return True

    async def _serve(
        self,
        guest: _Guest,
        peer: Address,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        exchange = self._engine.accept_stream(peer)
        async with self._bounded(peer, writer):
            async with asyncio.timeout(self._config.first_frame_s):
                first = await self._read(reader, peer)
            frames = exchange.receive_frame(first, self._loop.time())
            guest.known = True
            await self._converse(exchange, frames, peer, reader, writer)

    async def _open(self, address: Address) -> None:
        try:
            async with asyncio.timeout(self._config.connect_s):
                reader, writer = await asyncio.open_connection(*address, limit=_BUFFER_BYTES)
        except (OSError, TimeoutError) as error:
            _log.debug("exchange with %s: %s", address[0], error)
            return
        exchange = self._engine.open_stream(address)
        async with self._bounded(address, writer):
            frames = exchange.begin(self._loop.time())
            await self._converse(exchange, frames, address, reader, writer)

    @contextlib.asynccontextmanager
    async def _bounded(self, peer: Address, writer: asyncio.StreamWriter) -> AsyncIterator[None]:
        """Closes the stream in the end and in time; a peer's faults are counted, not raised."""
        try:
            async with asyncio.timeout(self._config.exchange_s):
                yield
                writer.close()
                await writer.wait_closed()
        except WireError as error:
            self._engine.refuse(error, peer)
        except TimeoutError:
            self._engine.refusals.count("stream too slow")
        except (OSError, asyncio.IncompleteReadError) as error:
            _log.debug("exchange with %s: %s", peer[0], error)
        finally:
            ends.cut(writer.transport)
            self._pump()

    async def _converse(
        self,
        exchange: Exchange,
        frames: Sequence[bytes],
        peer: Address,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        while True:
            self._pump()
            for frame in frames:
                writer.write(struct.pack(">I", len(frame)) + frame)
                await writer.drain()
            if exchange.done:
                return
            frames = exchange.receive_frame(await self._read(reader, peer), self._loop.time())

    async def _read(self, reader: asyncio.StreamReader, peer: Address) -> bytes:
        (length,) = struct.unpack(">I", await reader.readexactly(4))
        if length > self._config.frame_bytes:
            raise WireError(peer[0], "frame too long")
        return await reader.readexactly(length)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._guests.pop(task, None)
        self._ended(task, None)

    def _ended(self, task: asyncio.Task[None], address: Address | None) -> None:
        if address is not None:
            self._opened.pop(address, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
