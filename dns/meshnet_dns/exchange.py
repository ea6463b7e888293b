"""One question asked of up to three upstreams, the next one before the first gives up.

```
 0 ms    UDP to upstream 1 ─────────────────────────── 2 s: given up
 200 ms          UDP to upstream 2 ──────────────────────── 2.2 s
 400 ms                  UDP to upstream 3 ──────────────────── 2.4 s
   the first answer ends it; SERVFAIL, REFUSED or an ICMP error: the next one is asked at once
   none is left: the last refusal, else SERVFAIL
   cut (TC), and the client came by TCP: the same upstream by TCP
```
Each upstream is asked from a socket of its own, so the kernel picks a random port, and with a
random ID: both and the question must match (RFC 5452). Where ``NEAR_MISSES`` datagrams came that do
not match, it is perhaps somebody else who speaks: the upstream is asked by TCP.

Servers that a container names (``--dns``) are asked from its own network namespace, as Docker does:
one may be a service on its network, and 127.0.0.1 is the container. One at 127.0.0.11 is the
Engine's own resolver (``meshnet_dns.ports.PAST_US``). The host's servers are asked
from the host's: what the host can ask its containers can, 127.0.0.53 of systemd-resolved included.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from select import EPOLLIN, EPOLLOUT
from typing import Final

from meshnet.errors import KernelError
from meshnet.kernel import netns
from meshnet.model.wellknown import RESOLVER_ADDRESS
from meshnet_dns import forwarded, wire
from meshnet_dns.answer import REFUSED, SERVFAIL
from meshnet_dns.counters import Counters
from meshnet_dns.loop import Loop, Timer
from meshnet_dns.ports import PAST_US

TIMEOUT_S: Final = 2.0
"""For one upstream. Clients wait for 5 s (man 5 resolv.conf)."""
HEDGE_S: Final = 0.2
"""After so long without an answer the next one is asked, too. A resolver that has to ask others
itself takes tens of milliseconds, so that few questions are asked twice."""
MOST_UPSTREAMS: Final = 3
NEAR_MISSES: Final = 16
"""A guess hits one of 65 536 IDs: of so many, at most one exchange in 4 000 is fooled (and the port
has to be guessed, too)."""
NEAR_MISS: Final = "upstream answer to another question"
PORT: Final = 53
_TRY_NEXT: Final = frozenset({SERVFAIL, REFUSED})
_MOST_BYTES: Final = 65535

Ended = Callable[[bytes, bool], None]
"""Gets the response, and whether an upstream answered with it."""


@dataclass(frozen=True, slots=True)
class Way:
    """How upstreams are reached.

    Attributes:
        netns: path of the network namespace to ask from, the resolver's own if empty.
        tcp: the client can take 65535 bytes.
    """

    loop: Loop
    counters: Counters
    netns: str
    tcp: bool
    port: int = PORT
    timeout_s: float = TIMEOUT_S
    hedge_s: float = HEDGE_S


class Exchange:
    """One question on its way. ``ended`` is called exactly once, maybe within ``begin``."""

    def __init__(self, way: Way, query: bytes, upstreams: Sequence[str], ended: Ended) -> None:
        self._way = way
        self._query = query
        self._upstreams: Iterator[str] = iter(list(islice(upstreams, MOST_UPSTREAMS)))
        self._ended: Ended | None = ended
        self._attempts: set[_Attempt] = set()
        self._hedge: Timer | None = None
        self._refusal = b""

    def begin(self) -> None:
        """Ask the first one that can be asked."""
        self._next()

    def _next(self) -> None:
        """Ask the next one, too; end when none is left and none is asked."""
        self._unhedge()
        for upstream in self._upstreams:
            attempt = _Attempt(self._way, self._query, upstream, self)
            if attempt.begin():
                self._attempts.add(attempt)
                self._hedge = self._way.loop.after(self._way.hedge_s, self._next)
                return
        if not self._attempts:
            self._end(self._refusal or wire.failure(self._query, SERVFAIL), answered=False)

    def over(self, attempt: _Attempt, reply: bytes) -> None:
        """An upstream was heard, or (empty) given up."""
        self._attempts.discard(attempt)
        if reply and wire.rcode_of(reply) not in _TRY_NEXT:
            self._end(reply, answered=True)
            return
        self._refusal = reply or self._refusal
        self._next()

    def _end(self, reply: bytes, *, answered: bool) -> None:
        self._unhedge()
        for attempt in self._attempts:
            attempt.close()
        self._attempts.clear()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(reply, answered)

    def _unhedge(self) -> None:
        if self._hedge is not None:
            self._hedge.cancel()
            self._hedge = None


class _Attempt:
    """The question at one upstream."""

    def __init__(self, way: Way, query: bytes, upstream: str, exchange: Exchange) -> None:
        self._way = way
        self._asked = forwarded.sent(query, os.urandom(2))
        self._upstream = upstream
        self._exchange = exchange
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._received = b""
        self._missed = 0

    def begin(self) -> bool:
        """Ask by UDP; False: the kernel knows no way there."""
        return self._ask(socket.SOCK_DGRAM)

    def close(self) -> None:
        """Listen to it no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._way.loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _ask(self, kind: socket.SocketKind) -> bool:
        """Ask by UDP or begin to by TCP."""
        self.close()
        loop = self._way.loop
        family = socket.AF_INET6 if ":" in self._upstream else socket.AF_INET
        try:
            with netns.inside(self._way.netns or None):
                asking = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except (OSError, KernelError):
            return False  # no IPv6 here, no descriptor is left, or the container has gone
        try:
            if self._upstream == RESOLVER_ADDRESS:
                asking.bind((PAST_US, 0))
            asking.connect((self._upstream, self._way.port))
            if kind == socket.SOCK_DGRAM:
                asking.send(self._asked)
        except BlockingIOError:
            pass  # TCP: on its way
        except OSError:
            asking.close()
            return False
        self._socket = asking
        if kind == socket.SOCK_DGRAM:
            loop.watch(asking.fileno(), EPOLLIN, self._datagram)
        else:
            self._received = b""
            loop.watch(asking.fileno(), EPOLLOUT, self._connected)
        self._timer = loop.after(self._way.timeout_s, self._give_up)
        return True

    def _datagram(self, _events: int) -> None:
        assert self._socket is not None  # noqa: S101 - watched only while it is open
        try:
            reply = self._socket.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._give_up()  # ICMP: nobody listens there
            return
        if not wire.answers(reply, self._asked):
            self._way.counters.drop(NEAR_MISS)
            self._missed += 1
            if self._missed >= NEAR_MISSES:
                self._by_tcp()
        elif wire.truncated(reply) and self._way.tcp:
            self._by_tcp()
        else:
            self._over(reply)

    def _by_tcp(self) -> None:
        if not self._ask(socket.SOCK_STREAM):
            self._give_up()

    def _connected(self, _events: int) -> None:
        assert self._socket is not None  # noqa: S101 - watched only while it is open
        framed = len(self._asked).to_bytes(2) + self._asked
        try:
            whole = self._socket.send(framed) == len(framed)  # a fresh socket takes 64 KiB at once
        except OSError:
            whole = False
        if not whole:
            self._give_up()
            return
        self._way.loop.forget(self._socket.fileno())
        self._way.loop.watch(self._socket.fileno(), EPOLLIN, self._stream)

    def _stream(self, _events: int) -> None:
        assert self._socket is not None  # noqa: S101 - watched only while it is open
        try:
            more = self._socket.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        self._received += more
        size = int.from_bytes(self._received[:2])
        reply = self._received[2 : 2 + size]
        if len(self._received) >= wire.HEADER and len(reply) == size:
            if wire.answers(reply, self._asked):
                self._over(reply)
            else:
                self._give_up()
        elif not more:
            self._give_up()

    def _give_up(self) -> None:
        self.close()
        self._exchange.over(self, b"")

    def _over(self, reply: bytes) -> None:
        self.close()
        self._exchange.over(self, wire.with_question(reply, self._asked))
