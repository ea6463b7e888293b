"""DNS over TCP for the clients of one sandbox (RFC 7766): two bytes of length, then the message.

Questions may be sent one after another without waiting; answers come as they are ready, in any
order.

Be aware: a connection that is silent for ``IDLE_S``, sends what is no query, or does not read its
answers is closed. More than ``MOST_CONNECTIONS`` at once are closed as they come.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from meshnet.errors import WireError
from meshnet_dns.loop import READ, WRITE, Loop

IDLE_S: Final = 10.0
MOST_CONNECTIONS: Final = 128
MOST_UNREAD: Final = 1 << 18
"""Bytes of answers that a client may leave unread."""
_RECEIVE: Final = 65536

Done = Callable[[bytes], None]
Ask = Callable[[bytes, Done], None]
"""``(query, done)``: ``done`` gets the reply, now or later. WireError: not a query."""


class Streams:
    """The TCP listener of a sandbox and its connections."""

    def __init__(self, loop: Loop, listener: socket.socket, ask: Ask) -> None:
        self.loop = loop
        self.ask = ask
        self.connections: set[_Connection] = set()
        self._listener = listener
        loop.watch(listener.fileno(), READ, self._accept)

    def close(self) -> None:
        """Close the listener and every connection."""
        self.loop.forget(self._listener.fileno())
        self._listener.close()
        for connection in list(self.connections):
            connection.close()

    def _accept(self, _events: int) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # it went away again (man 2 accept: ECONNABORTED and the like)
        if len(self.connections) >= MOST_CONNECTIONS:
            client.close()
            return
        client.settimeout(0)
        self.connections.add(_Connection(self, client))


class _Connection:
    def __init__(self, streams: Streams, client: socket.socket) -> None:
        self._streams = streams
        self._socket = client
        self._in = b""
        self._out = b""
        self._closed = False
        self._timer = streams.loop.after(IDLE_S, self.close)
        streams.loop.watch(client.fileno(), READ, self._ready)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        self._streams.connections.discard(self)
        self._streams.loop.forget(self._socket.fileno())
        self._socket.close()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & ~WRITE and not self._closed:
            self._read()

    def _read(self) -> None:
        try:
            more = self._socket.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self.close()
            return
        self._timer.cancel()
        self._timer = self._streams.loop.after(IDLE_S, self.close)
        self._in += more
        while not self._closed and len(self._in) >= 2:  # noqa: PLR2004 - the length field
            end = 2 + int.from_bytes(self._in[:2])
            if len(self._in) < end:
                return
            query, self._in = self._in[2:end], self._in[end:]
            try:
                self._streams.ask(query, self._reply)
            except WireError:
                self.close()

    def _reply(self, reply: bytes) -> None:
        if self._closed:
            return
        self._out += len(reply).to_bytes(2) + reply
        self._flush()

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._out = self._out[sent:]
        if len(self._out) > MOST_UNREAD:
            self.close()
            return
        self._streams.loop.change(self._socket.fileno(), READ | WRITE if self._out else READ)
