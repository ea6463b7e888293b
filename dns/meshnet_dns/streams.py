"""DNS over TCP for the clients of one sandbox (RFC 7766): two bytes of length, then the message.

Questions may be sent one after another without waiting; answers come as they are ready, in any
order.

Be aware: a connection that sends no whole message within ``IDLE_S``, sends what is no query or more
than ``MOST_QUERY`` bytes of one, or does not read its answers is closed, and the reason counted. Of
many questions at once ``TURN`` are answered, then it is everybody else's turn. How many connections
there may be: ``connection_bound``; those above are closed as they come.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

from meshnet.errors import WireError
from meshnet_dns.bounds import Bound, Share
from meshnet_dns.counters import Counters
from meshnet_dns.loop import EXHAUSTED, PAUSE_S, READ, WRITE, Loop, Timer

IDLE_S: Final = 10.0
MOST_QUERY: Final = 4096
"""Bytes. A name has 255; EDNS options and padding (RFC 8467) take hundreds."""
MOST_UNREAD: Final = 1 << 18
"""Bytes of answers that a client may leave unread."""
TURN: Final = 16
"""Questions of one connection that are answered before others get their turn."""
_RECEIVE: Final = 16384
_LENGTH: Final = 2

Done = Callable[[bytes], None]
Ask = Callable[[bytes, Done], None]
"""``(query, done)``: ``done`` gets the reply, now or later. WireError: not a query."""


def connection_bound() -> Bound:
    """How many connections there may be, of one container and of the host."""
    return Bound(each=128, host=4096, few=8)


class Streams:
    """The TCP listener of a sandbox and its connections."""

    def __init__(
        self, loop: Loop, listener: socket.socket, ask: Ask, counters: Counters, share: Share
    ) -> None:
        self.loop = loop
        self.ask = ask
        self.counters = counters
        self.share = share
        self.connections: set[_Connection] = set()
        self._listener = listener
        self._pause: Timer | None = None
        loop.watch(listener.fileno(), READ, self._accept)

    def close(self) -> None:
        """Close the listener and every connection."""
        if self._pause is not None:
            self._pause.cancel()
        self.loop.forget(self._listener.fileno())
        self._listener.close()
        for connection in list(self.connections):
            connection.close()

    def _accept(self, _events: int) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            if error.errno in EXHAUSTED:
                self.counters.drop("no descriptor for a connection")
                self._pause = self.loop.pause(self._listener.fileno(), READ, PAUSE_S)
            return  # else it went away again (man 2 accept: ECONNABORTED and the like)
        if not self.share.take():
            self.counters.drop("too many connections")
            client.close()
            return
        client.settimeout(0)
        self.connections.add(_Connection(self, client))


class _Connection:
    """One client. ``_in`` is what was received and not answered, ``_out`` what it did not read."""

    def __init__(self, streams: Streams, client: socket.socket) -> None:
        self._streams = streams
        self._socket = client
        self._in = b""
        self._out = b""
        self._closed = False
        self._turn: Timer | None = None
        self._asked_at = time.monotonic()
        self._timer = streams.loop.after(IDLE_S, self._look)
        streams.loop.watch(client.fileno(), READ, self._ready)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        if self._turn is not None:
            self._turn.cancel()
        self._streams.connections.discard(self)
        self._streams.share.give()
        self._streams.loop.forget(self._socket.fileno())
        self._socket.close()

    def _drop(self, why: str) -> None:
        self._streams.counters.drop(why)
        self.close()

    def _look(self) -> None:
        """Close one that has asked nothing for ``IDLE_S``, else look again when that may be."""
        rest_s = self._asked_at + IDLE_S - time.monotonic()
        if rest_s > 0:
            self._timer = self._streams.loop.after(rest_s, self._look)
        elif self._in:
            self._drop("half a message")
        else:
            self.close()

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
        self._in += more
        self._answer()

    def _answer(self) -> None:
        """Answer whole messages, ``TURN`` at most; the rest next, before more is read."""
        self._turn = None
        at = answered = 0
        while answered < TURN and len(self._in) - at >= _LENGTH:
            size = int.from_bytes(self._in[at : at + _LENGTH])
            if size > MOST_QUERY:
                self._drop("too long")
                return
            end = at + _LENGTH + size
            if len(self._in) < end:
                break
            query, at = self._in[at + _LENGTH : end], end
            answered += 1
            try:
                self._streams.ask(query, self._reply)
            except WireError as error:
                self._drop(error.why)
            if self._closed:
                return
        self._in = self._in[at:]
        if answered:
            self._asked_at = time.monotonic()
        if answered == TURN:
            self._turn = self._streams.loop.after(0, self._answer)
        self._watch()

    def _reply(self, reply: bytes) -> None:
        if self._closed:
            return
        self._out += len(reply).to_bytes(_LENGTH) + reply
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
            self._drop("answers not read")
            return
        self._watch()

    def _watch(self) -> None:
        read = 0 if self._turn is not None else READ
        self._streams.loop.change(self._socket.fileno(), read | (WRITE if self._out else 0))
