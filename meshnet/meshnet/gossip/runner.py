"""The engine's only hands: UDP and TCP sockets on port 7946 and the event loop's clock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from meshnet.errors import ConfigError, WireError
from meshnet.gossip.engine import GossipEngine
from meshnet.gossip.events import MemberChanged
from meshnet.gossip.members import Address, Member
from meshnet.model.ids import NodeId

_log = logging.getLogger(__name__)

_STREAM_TIMEOUT_S = 5.0
_STREAM_BYTES = 64 << 20
"""Largest whole-state message accepted."""


class GossipRunner(asyncio.DatagramProtocol):
    """Drives one engine.

    Args:
        engine: the protocol.
        bind_host: local address to listen on.
        port: UDP and TCP port.
        on_change: called on the loop whenever members or records changed; must not block.
    """

    def __init__(
        self, engine: GossipEngine, bind_host: str, port: int, on_change: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._host, self._port = bind_host, port
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._streams: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Binds both sockets.

        Raises:
            ConfigError: the port is taken or the address is not ours.
        """
        try:
            await self._loop.create_datagram_endpoint(
                lambda: self, local_addr=(self._host, self._port)
            )
            self._server = await asyncio.start_server(self._serve, self._host, self._port)
        except OSError as error:
            await self.close()
            why = f"cannot listen for gossip on port {self._port}: {error.strerror}"
            raise ConfigError("gossip", f"{self._host}:{self._port}", "meshnetd", why) from error
        self._pump()

    async def close(self) -> None:
        """Closes the sockets; the engine stays as it is."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()
        for task in list(self._streams):
            task.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)

    def join(self, seeds: Sequence[Address]) -> None:
        """Addresses that must be members (see Engine.join)."""
        self._engine.join(seeds)
        self._pump()

    def leave(self) -> None:
        """Says goodbye to everybody at once."""
        self._engine.leave(self._loop.time())
        self._pump()

    def set_keys(self, keys: Sequence[bytes]) -> None:
        """Replaces the key ring, newest first."""
        self._engine.set_keys(keys)
        self._pump()

    def set_record(self, key: str, value: bytes | None) -> None:
        """Changes one of our own records."""
        self._engine.set_record(key, value, self._loop.time())
        self._pump()

    def members(self) -> Mapping[NodeId, Member]:
        """Every member known."""
        return self._engine.members()

    def records(self) -> Mapping[tuple[NodeId, str], bytes]:
        """Records of all members that take part."""
        return self._engine.records()

    @property
    def synced(self) -> bool:
        """A whole-state exchange with some peer is done."""
        return self._engine.synced

    # ---- asyncio ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the UDP socket is open."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Asyncio: a datagram came in."""
        self._engine.receive_datagram(data, addr, self._loop.time())
        self._pump()

    def error_received(self, exc: Exception) -> None:
        """Asyncio: an ICMP error came back; probes find dead members anyway."""
        _log.debug("gossip socket: %s", exc)

    def _pump(self) -> None:
        now = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            for packet, address in self._engine.datagrams_to_send(now):
                self._transport.sendto(packet, address)
            for address in self._engine.streams_to_open():
                task = self._loop.create_task(self._exchange(address))
                self._streams.add(task)
                task.add_done_callback(self._streams.discard)
        changed = False
        while (event := self._engine.next_event()) is not None:
            changed = True
            if isinstance(event, MemberChanged):
                _log.info("member %s is %s", event.member.id, event.member.state.value)
        if changed:
            self._on_change()
        if self._timer is not None:
            self._timer.cancel()
        if (when := self._engine.next_timer()) is not None:
            self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._engine.handle_timer(self._loop.time())
        self._pump()

    async def _exchange(self, address: Address) -> None:
        try:
            async with asyncio.timeout(_STREAM_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(*address)
                with contextlib.closing(writer):
                    await _write(writer, self._engine.stream_request())
                    reply = await _read(reader)
                    rest = self._engine.receive_stream_reply(reply, address, self._loop.time())
                    await _write(writer, rest)
        except (OSError, TimeoutError, WireError, asyncio.IncompleteReadError) as error:
            _log.debug("exchange with %s: %s", address[0], error)
        self._pump()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: Address = writer.get_extra_info("peername")
        try:
            async with asyncio.timeout(_STREAM_TIMEOUT_S):
                with contextlib.closing(writer):
                    request = await _read(reader)
                    await _write(
                        writer, self._engine.receive_stream(request, peer, self._loop.time())
                    )
                    self._pump()
                    rest = await _read(reader)
                    self._engine.receive_datagram(rest, peer, self._loop.time())
        except (OSError, TimeoutError, WireError, asyncio.IncompleteReadError) as error:
            _log.debug("exchange from %s: %s", peer[0], error)
        self._pump()


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(struct.pack(">I", len(data)) + data)
    await writer.drain()


async def _read(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    if length > _STREAM_BYTES:
        raise WireError("peer", "stream message too long")
    return await reader.readexactly(length)
