"""A manager's port: TLS with whoever comes, and plain HTTP/2 to gRPC for whom the cluster knows.

```
 peer ── TCP, TLS 1.3 ──> TlsListener ── unix socket in a 0700 directory ──> gRPC
         handshakes: bounded in number        its name ──> Caller            context.peer() = name
         and time, the oldest make room       (certificate, address)
```

gRPC's own TLS took one descriptor per idle connection without a bound, and could be killed by them
(docs/decisions/0015). Here a stranger costs a place among few, for seconds.

Be aware: who calls is what the name of the local socket stands for. The name is random, it is known
before the socket connects and forgotten when it closes, and nobody but root reaches gRPC's socket;
so no local user and no peer can lend itself another's certificate.

The TLS is OpenSSL's (ssl.SSLObject); asyncio's own wrapper is not used because it closes a refused
connection without the alert that tells a joining node why.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import secrets
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from meshnet import drops, ends
from meshnet.errors import ControlError
from meshnet_control.identity import ca
from meshnet_control.manager.admission import Admission

HANDSHAKE_S: Final = 10.0
"""From the first packet to a verified certificate; a slow machine under load needs seconds."""
REFUSAL_S: Final = 1.0
"""For a refused peer to read why."""
CLOSING_S: Final = 5.0
"""For a peer to take what was still on its way."""
JOIN_LIFE_S: Final = 30.0
"""For a joining node to get its certificate."""
HANDSHAKES: Final = 256
HANDSHAKES_OF_ADDRESS: Final = 64
CONNECTIONS_OF_PEER: Final = 16
"""A node has one, more while old ones are dying; joining nodes behind one address share it."""
DESCRIPTORS: Final = 3
"""Of an admitted connection: the peer's socket and both ends of the local one."""
_BACKLOG: Final = 512
_CHUNK: Final = 64 * 1024
_WAITING: Final = 256 * 1024
"""Bytes for a slow reader before the other side is no longer read."""


@dataclass(frozen=True)
class Caller:
    """Who is at the other end of an admitted connection."""

    leaf: bytes
    """The certificate it proved in the handshake, PEM."""
    address: str
    """Where it comes from, without a port."""


@dataclass(frozen=True)
class Bounds:
    """How many connections at once."""

    handshakes: int
    handshakes_of_address: int
    connections: int
    connections_of_peer: int


def bounds(descriptors: int) -> Bounds:
    """What a process with so many descriptors can carry: half of them are for others. Pure."""
    ours = descriptors // 2
    handshakes = min(HANDSHAKES, ours // 4)
    return Bounds(
        handshakes=handshakes,
        handshakes_of_address=min(HANDSHAKES_OF_ADDRESS, max(1, handshakes // 2)),
        connections=(ours - handshakes) // DESCRIPTORS,
        connections_of_peer=CONNECTIONS_OF_PEER,
    )


class TlsListener:
    """The port, and the connections through it.

    Args:
        context: of the server's side of a handshake; asked anew for each.
        identify: whom a verified certificate belongs to; None: nobody the cluster knows now.
        inner: gRPC's unix socket; its directory must be root's alone.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        identify: Callable[[bytes], ca.Peer | None],
        inner: Path,
        limits: Bounds | None = None,
    ) -> None:
        limits = limits or bounds(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self.context, self.identify, self._inner = context, identify, inner
        self._handshakes = Admission[_Outer](limits.handshakes, limits.handshakes_of_address)
        self._admitted = Admission[_Outer](limits.connections, limits.connections_of_peer)
        self._callers: dict[str, Caller] = {}
        self._connections: set[_Outer] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._listening: socket.socket | None = None
        self._server: asyncio.Server | None = None

    def bind(self, listen: str) -> None:
        """Take ``host:port``; port 0: any free one.

        Raises:
            ControlError: 500, it cannot be bound; in Docker's words.
        """
        host, _, port = listen.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            # Connections of an earlier life do not hold the port; a listener does.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host.strip("[]"), int(port)))
        except OSError as error:
            listening.close()
            reason = (error.strerror or str(error)).lower()
            raise ControlError(f"listen tcp {listen}: bind: {reason}", 500) from None
        self._listening = listening

    @property
    def port(self) -> int:
        """The port in use; 0 before ``bind``."""
        return int(self._listening.getsockname()[1]) if self._listening is not None else 0

    async def listen(self) -> None:
        """Serve; after ``bind``, once gRPC's socket is there."""
        if self._listening is None:
            raise ControlError("nothing is bound", 500)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Outer(self), sock=self._listening, backlog=_BACKLOG
        )

    def caller(self, name: str) -> Caller | None:
        """Who is behind a connection that gRPC names so; None: it came past this listener."""
        return self._callers.get(name)

    async def close(self) -> None:
        """Stop listening and end every connection; twice is fine."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        await ends.ended(*self._opening)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # asyncio closes sockets in the next turn of its loop

    # ---- from connections ----

    def began(self, connection: _Outer) -> None:
        """A stranger is here; it, or an older one, has a limited time for its handshake."""
        self._connections.add(connection)
        goes = self._handshakes.add(connection, connection.address)
        if goes is not None:
            drops.count("manager: handshake given up for a newer one")
            goes.abort()

    def admit(self, connection: _Outer, peer: ca.Peer) -> None:
        """A handshake ended well."""
        self._handshakes.remove(connection)
        goes = self._admitted.add(connection, peer.node_id or f"joins from {connection.address}")
        if goes is not None:
            drops.count("manager: connection closed for a newer one")
            goes.abort()

    def open(self, outer: _Outer, caller: Caller) -> None:
        """Connect an admitted peer with gRPC."""
        task = asyncio.get_running_loop().create_task(self._open(outer, caller))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def gone(self, connection: _Outer, name: str) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self._handshakes.remove(connection)
        self._admitted.remove(connection)
        self._callers.pop(name, None)

    async def _open(self, outer: _Outer, caller: Caller) -> None:
        loop = asyncio.get_running_loop()
        label = f"meshnet-{secrets.token_hex(16)}"
        outer.name = f"unix-abstract:{label}"
        self._callers[outer.name] = caller
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            local.bind(f"\0{label}")
            await loop.sock_connect(local, str(self._inner))
            await loop.create_connection(lambda: _Inner(outer), sock=local)
        except OSError:
            local.close()
            drops.count("manager: gRPC does not take the connection")
            outer.abort()
        except asyncio.CancelledError:
            local.close()
            raise


class _Outer(asyncio.Protocol):
    """A peer's connection."""

    def __init__(self, listener: TlsListener) -> None:
        self._listener = listener
        self.name = ""
        """What gRPC calls it."""
        self.address = ""
        """Where it comes from, without a port."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._admitted = self._refused = self._lost = False
        self._transport: asyncio.Transport
        self._inner: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    # ---- asyncio's side ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_WAITING)
        peername = self._transport.get_extra_info("peername")
        self.address = peername[0] if peername else ""
        self._within(HANDSHAKE_S)
        self._listener.began(self)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._incoming.write(data)
        if self._admitted:
            self._receive()
        else:
            self._shake_hands()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost = True
        self._within(None)
        self._listener.gone(self, self.name)
        if self._inner is not None:
            self._inner.close()  # what it has said is still heard

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_reading()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_reading()

    # ---- the handshake ----

    def _shake_hands(self) -> None:
        # An idle connection has cost no TLS state until its first byte.
        self._tls = self._tls or self._listener.context().wrap_bio(
            self._incoming, self._outgoing, server_side=True
        )
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError:
            self._refuse("manager: handshake failed")
            return
        self._flush()
        leaf = ssl.DER_cert_to_PEM_cert(self._tls.getpeercert(binary_form=True) or b"").encode()
        peer = self._listener.identify(leaf)
        if peer is None:
            self._refuse("manager: certificate of nobody in this cluster")
            return
        self._admitted = True
        self._within(JOIN_LIFE_S if peer.kind == "join" else None)
        self._transport.pause_reading()  # until there is somebody to pass it on to
        self._listener.admit(self, peer)
        self._listener.open(self, Caller(leaf, self.address))

    def _refuse(self, reason: str) -> None:
        """Say why, by the alert that OpenSSL has ready, and wait for the peer to close."""
        drops.count(reason)
        self._refused = True
        self._flush()
        self._transport.write_eof()
        self._within(REFUSAL_S)

    # ---- data ----

    def opened(self, inner: asyncio.Transport) -> None:
        """GRPC listens."""
        if self._lost:
            ends.cut(inner)
            return
        self._inner = inner
        self._transport.resume_reading()
        self._receive()

    def _receive(self) -> None:
        if self._inner is None or self._tls is None:
            return
        try:
            while plain := self._tls.read(_CHUNK):
                self._inner.write(plain)
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError:  # its goodbye, or nonsense
            self.close()
        else:
            self.close()

    def send(self, data: bytes) -> None:
        """Something for the peer."""
        if self._tls is None:
            return
        left = memoryview(data)
        try:
            while left:
                left = left[self._tls.write(left) :]
        except ssl.SSLError:
            self.abort()
            return
        self._flush()

    def pause(self) -> None:
        """GRPC is slow."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """GRPC has room again."""
        self._transport.resume_reading()

    def close(self) -> None:
        """End it, once what is on its way has left."""
        if self._lost or self._transport.is_closing():
            return
        if self._tls is not None:
            with contextlib.suppress(ssl.SSLError):  # it says goodbye and waits for no answer
                self._tls.unwrap()
            self._flush()
        self._transport.close()
        self._within(CLOSING_S)

    def abort(self) -> None:
        """End it now."""
        ends.cut(self._transport)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _within(self, seconds: float | None) -> None:
        """The connection ends after so many seconds unless this is called again."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(seconds, self._overdue)

    def _overdue(self) -> None:
        if not self._refused and not self._transport.is_closing():
            drops.count("manager: handshake or join took too long")
        self.abort()


class _Inner(asyncio.Protocol):
    """The same connection on gRPC's side."""

    def __init__(self, outer: _Outer) -> None:
        self._outer = outer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        inner = cast("asyncio.Transport", transport)
        inner.set_write_buffer_limits(_WAITING)
        self._outer.opened(inner)

    def data_received(self, data: bytes) -> None:
        self._outer.send(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._outer.close()

    def pause_writing(self) -> None:
        self._outer.pause()

    def resume_writing(self) -> None:
        self._outer.resume()
