"""One container's resolver: a UDP and a TCP socket inside its network namespace.

Sockets stay in the namespace they were made in (man 2 setns), so the process visits the namespace
once, for 50 us, and then serves all containers from where it is. The port is high and nft leads
127.0.0.11:53 to it (``meshnet_dns.redirect``): an application may still bind port 53 itself.
Sockets that a process before this one left there are taken as they are, with what waits in them.

Be aware: an open socket keeps a namespace alive after its container has gone; ``gone`` finds that
out. Setting up one sandbox blocks the loop for those 50 us.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from meshnet.errors import KernelError, NotFoundError, WireError
from meshnet.kernel import netns
from meshnet.model.wellknown import RESOLVER_ADDRESS
from meshnet_dns.bounds import Bound, Share
from meshnet_dns.forward import Done, Forwarder
from meshnet_dns.held import HeldSockets, Pair
from meshnet_dns.loop import READ, Loop
from meshnet_dns.mmsg import Batch
from meshnet_dns.ports import RESOLVER_PORT
from meshnet_dns.state import SandboxDns
from meshnet_dns.streams import Streams, connection_bound
from meshnet_dns.views import View

_SO_RCVBUFFORCE: Final = 33
_RECEIVE_BUFFER: Final = 1 << 20
"""Bytes of queries the kernel keeps while we are busy; used only then."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sandboxes have in common.

    Attributes:
        connections: the bound of those that clients have open.
    """

    loop: Loop
    batch: Batch
    forwarder: Forwarder
    held: HeldSockets
    connections: Bound = field(default_factory=connection_bound)


class Sandbox:
    """Answers inside one network namespace, from construction to ``close``."""

    def __init__(self, shared: Shared, view: View, settings: SandboxDns) -> None:
        """Open the sockets and begin to answer.

        Raises:
            NotFoundError: there is no such namespace.
            KernelError: it cannot be entered, or the port is taken there. Nothing is left open.
        """
        self.settings = settings
        self.view = view
        self._shared = shared
        self._loop = shared.loop
        self._batch = shared.batch
        self._forwarder = shared.forwarder
        self._counters = shared.forwarder.counters
        self._forwarding = Share(shared.forwarder.bound)
        pair, self._identity = _sockets(settings.netns, shared.held)
        self._udp = pair.udp
        self._loop.watch(self._udp.fileno(), READ, self._datagrams)
        self._streams = Streams(
            self._loop, pair.listener, self._message, self._counters, Share(shared.connections)
        )

    @property
    def gone(self) -> bool:
        """Whether the namespace's path is gone or names another namespace now."""
        return netns.identity_of(self.settings.netns) != self._identity

    @property
    def load(self) -> dict[str, int]:
        """What its container uses of what is bounded."""
        return {"forwarding": self._forwarding.own, "connections": self._streams.share.own}

    @property
    def upstreams(self) -> Sequence[str]:
        """Who is asked what is not ours: its own servers, else the host's, if it may ask them."""
        others = self._forwarder.host.now() if self.settings.forwards else ()
        return self.settings.upstreams or others

    def close(self) -> None:
        """Stop answering for good; the namespace is free to go."""
        self._shared.held.release(self._identity)
        self._forwarder.forget(self._forwarding)
        self._streams.close()
        self._loop.forget(self._udp.fileno())
        self._udp.close()

    def _datagrams(self, _events: int) -> None:
        try:
            number, hits, lost = self._batch.serve(
                self._udp.fileno(), self.view.fixed, self.view.turning, self._miss
            )
        except OSError as error:  # no fault of one socket may stop the answers of all others
            self._counters.drop(f"not read: {error.strerror}")
            return
        counters = self._counters
        counters.queries += number
        counters.hits += hits
        counters.misses += number - hits
        if lost:
            counters.drop("not sent", lost)

    def _miss(self, packet: bytes, index: int) -> bytes | None:
        try:
            reply = self.view.datagram(packet)
        except WireError as error:
            self._counters.drop(error.why)
            return None
        if reply:
            return reply
        client = self._batch.sender(index)
        self._ask(packet, tcp=False, done=lambda found: self._send(found, client))
        return None

    def _send(self, reply: bytes, client: tuple[str, int]) -> None:
        if self._udp.fileno() < 0:
            return  # the container went while its question was on its way
        try:
            self._udp.sendto(reply, client)
        except OSError:
            self._counters.drop("not sent")

    def _message(self, packet: bytes, done: Done) -> None:
        self._counters.queries += 1
        self._counters.misses += 1
        self._counters.tcp += 1
        reply = self.view.message(packet)
        if reply:
            done(reply)
        else:
            self._ask(packet, tcp=True, done=done)

    def _ask(self, packet: bytes, *, tcp: bool, done: Done) -> None:
        """Its own servers from inside, as it would reach them; else the host's from the host."""
        inside = self.settings.netns if self.settings.upstreams else ""
        self._forwarder.ask(
            packet, self.upstreams, self._forwarding, tcp=tcp, done=done, netns=inside
        )


def _sockets(path: str, held: HeldSockets) -> tuple[Pair, netns.Identity]:
    """Those that were left in the namespace, or new ones."""
    identity = netns.identity_of(path)
    if identity is None:
        raise NotFoundError(f"answer at {RESOLVER_ADDRESS}:{RESOLVER_PORT} in", path, errno.ENOENT)
    pair = held.claim(identity)
    if pair is None:
        pair, identity = _open(path)
        held.hold(identity, pair)
    return pair, identity


def _open(path: str) -> tuple[Pair, netns.Identity]:
    opened: list[socket.socket] = []
    try:
        with netns.inside(path) as identity:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                made = socket.socket(
                    socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
                )
                opened.append(made)
                if kind == socket.SOCK_STREAM:
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind((RESOLVER_ADDRESS, RESOLVER_PORT))
        udp, listener = opened
        udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        listener.listen(128)
    except OSError as error:
        for made in opened:
            made.close()
        code = error.errno or errno.EIO
        raise KernelError(f"answer at {RESOLVER_ADDRESS}:{RESOLVER_PORT} in", path, code) from error
    if identity is None:
        raise NotFoundError(f"answer at {RESOLVER_ADDRESS}:{RESOLVER_PORT} in", path, errno.ENOENT)
    return Pair(udp, listener), identity
