"""Questions that are not ours: asked of the upstreams, in order, without waiting for anybody.

```
 query by UDP ─> UDP to upstream 1 ──answer──> as it is (cut: the client comes by TCP)
 query by TCP ─> UDP to upstream 1 ──truncated──> TCP to upstream 1 ──> the whole answer
   no answer in 2 s, an ICMP error, SERVFAIL or REFUSED ─> upstream 2, 3
   none left ─> the last refusal, else SERVFAIL
   none at all ─> NXDOMAIN: nobody is there who could know it
```
Each question gets a socket of its own, so the kernel picks a random port, and a random ID: both and
the question must match (RFC 5452). The packet is passed on byte by byte but for its ID, so EDNS,
DNSSEC and types we know nothing of work.

Servers that a container names (``--dns``) are asked from its own network namespace, as Docker does:
one may be a service on its network, and 127.0.0.1 is the container. One at 127.0.0.11 is the
Engine's own resolver (``meshnet_dns.ports.PAST_US``). The host's servers are asked
from the host's: what the host can ask its containers can, 127.0.0.53 of systemd-resolved included.

Be aware: a container has at most ``EACH`` questions on their way at once, and all together have
``HOST`` (``meshnet_dns.bounds``); more are refused (REFUSED), as Docker does. So a container that
asks for names nobody answers fills its own share. Answers of upstreams are not cached.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from select import EPOLLIN, EPOLLOUT
from typing import Final

from meshnet.errors import KernelError
from meshnet.kernel import netns
from meshnet.model.wellknown import RESOLVER_ADDRESS
from meshnet_dns import wire
from meshnet_dns.answer import NXDOMAIN, REFUSED, SERVFAIL
from meshnet_dns.bounds import Bound, Share
from meshnet_dns.counters import Counters
from meshnet_dns.loop import Loop, Timer
from meshnet_dns.ports import PAST_US
from meshnet_dns.upstreams import HostUpstreams

TIMEOUT_S: Final = 2.0
"""For one upstream. Clients wait for 5 s (man 5 resolv.conf): two upstreams get their chance."""
MOST_UPSTREAMS: Final = 3
EACH: Final = 512
"""Docker's 1024 are for a container too; with three silent upstreams each takes 6 s, and then 85
questions a second get their chance."""
HOST: Final = 4096
"""Each has a descriptor."""
FEW: Final = 16
PORT: Final = 53
TOO_MANY: Final = "too many forwarded"
_TRY_NEXT: Final = frozenset({SERVFAIL, REFUSED})
_MOST_BYTES: Final = 65535

Done = Callable[[bytes], None]
"""Gets the reply, with the ID of the query."""


class Forwarder:
    """All questions on their way.

    Attributes:
        bound: of how many; ``bound.used`` are on their way now.
    """

    def __init__(
        self,
        loop: Loop,
        counters: Counters,
        host: HostUpstreams,
        *,
        timeout_s: float = TIMEOUT_S,
        port: int = PORT,
    ) -> None:
        self.loop = loop
        self.counters = counters
        self.host = host
        self.timeout_s = timeout_s
        self.port = port
        self.bound = Bound(EACH, HOST, FEW)

    def ask(
        self,
        query: bytes,
        upstreams: Sequence[str],
        share: Share,
        *,
        tcp: bool,
        done: Done,
        netns: str = "",
    ) -> None:
        """Ask ``query`` (>= 12 bytes) of ``upstreams`` in order; ``done`` is called exactly once.

        Args:
            query: as the client sent it.
            upstreams: IPv4 or IPv6 addresses; those after the third are not asked.
            share: of ``bound``, the asking container's.
            tcp: the client can take 65535 bytes.
            done: may be called before this returns.
            netns: path of the network namespace to ask from, the resolver's own if empty.
        """
        if not upstreams:
            done(wire.failure(query, NXDOMAIN))
            return
        if not share.take():
            self.counters.drop(TOO_MANY)
            done(wire.failure(query, REFUSED))
            return
        self.counters.forwarded += 1

        def ended(reply: bytes) -> None:
            share.give()
            done(reply)

        _Exchange(self, query, upstreams, tcp=tcp, done=ended, netns=netns).next_upstream()


class _Exchange:
    """One question on its way, at one upstream at a time."""

    def __init__(
        self,
        forwarder: Forwarder,
        query: bytes,
        upstreams: Sequence[str],
        *,
        tcp: bool,
        done: Done,
        netns: str,
    ) -> None:
        self._forwarder = forwarder
        self._number = query[:2]
        self._asked = os.urandom(2) + query[2:]
        self._upstreams: Iterator[str] = iter(list(islice(upstreams, MOST_UPSTREAMS)))
        self._upstream = ""
        self._tcp = tcp
        self._done = done
        self._netns = netns
        self._refusal = b""
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._received = b""

    def next_upstream(self) -> None:
        """Ask the next one, or end with the last refusal, or SERVFAIL."""
        for upstream in self._upstreams:
            self._upstream = upstream
            if self._ask(socket.SOCK_DGRAM):
                return
        self._close()
        failed = self._refusal or wire.failure(self._asked, SERVFAIL)
        self._forwarder.counters.upstream_failures += 1
        self._end(failed)

    def _ask(self, kind: socket.SocketKind) -> bool:
        """Ask by UDP or begin to by TCP; False: the kernel knows no way there."""
        self._close()
        loop = self._forwarder.loop
        family = socket.AF_INET6 if ":" in self._upstream else socket.AF_INET
        try:
            with netns.inside(self._netns or None):
                asking = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except (OSError, KernelError):
            return False  # no IPv6 here, no descriptor is left, or the container has gone
        try:
            if self._upstream == RESOLVER_ADDRESS:
                asking.bind((PAST_US, 0))
            asking.connect((self._upstream, self._forwarder.port))
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
        self._timer = loop.after(self._forwarder.timeout_s, self.next_upstream)
        return True

    def _datagram(self, _events: int) -> None:
        assert self._socket is not None  # noqa: S101 - watched only while it is open
        try:
            reply = self._socket.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.next_upstream()  # ICMP: nobody listens there
            return
        if not wire.answers(reply, self._asked):
            self._forwarder.counters.drop("upstream answer to another question")
        elif wire.truncated(reply) and self._tcp:
            if not self._ask(socket.SOCK_STREAM):
                self.next_upstream()
        else:
            self._judge(reply)

    def _connected(self, _events: int) -> None:
        assert self._socket is not None  # noqa: S101 - watched only while it is open
        framed = len(self._asked).to_bytes(2) + self._asked
        try:
            whole = self._socket.send(framed) == len(framed)  # a fresh socket takes 64 KiB at once
        except OSError:
            whole = False
        if not whole:
            self.next_upstream()
            return
        self._forwarder.loop.forget(self._socket.fileno())
        self._forwarder.loop.watch(self._socket.fileno(), EPOLLIN, self._stream)

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
                self._judge(reply)
            else:
                self.next_upstream()
        elif not more:
            self.next_upstream()

    def _judge(self, reply: bytes) -> None:
        reply = wire.with_question(reply, self._asked)
        if wire.rcode_of(reply) in _TRY_NEXT:
            self._refusal = reply
            self.next_upstream()
            return
        self._forwarder.counters.upstream_answers += 1
        self._close()
        self._end(reply)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._forwarder.loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _end(self, reply: bytes) -> None:
        self._done(self._number + reply[2:])
