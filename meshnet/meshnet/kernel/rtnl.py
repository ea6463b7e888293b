"""The client of rtnetlink: one persistent socket per network namespace (netlink(7)).

Requests travel in batches, every one with its own acknowledgement, so that one refusal neither
hides nor stops the others.

Be aware: used from the kernel thread only. A namespace is known by its inode: a path that names
another namespace later gets a new socket.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Final, TypeVar

from meshnet.errors import KernelError, NotFoundError, kernel_error
from meshnet.kernel import netns
from meshnet.kernel.encode import (
    F_ACK,
    F_REQUEST,
    Message,
    address,
    get_addresses,
    get_links,
    get_neighbours,
    get_routes,
    get_rules,
    link,
    neighbour,
    route,
    rule,
)
from meshnet.netstate.objects import Link, Neighbour, Route, Rule

T = TypeVar("T")

_F_DUMP: Final = 0x300
_F_DUMP_INTR: Final = 0x10
_ERROR, _DONE = 2, 3
_HEADER: Final = 16
_CHUNK: Final = 256
"""Requests in one datagram; their acknowledgements fit the receive buffer."""
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER: Final = 1 << 21
_TRIES: Final = 5


class RouteSocket:
    """rtnetlink of one namespace."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.settimeout(10)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def send(self, messages: Sequence[Message]) -> list[int]:
        """Make all requests; the errno of each, 0 when it was done."""
        results: list[int] = []
        for start in range(0, len(messages), _CHUNK):
            results += self._send(messages[start : start + _CHUNK])
        return results

    def links(self) -> list[Link]:
        """All interfaces."""
        return self._dump(get_links(), link)

    def addresses(self) -> list[tuple[int, IPv4Interface]]:
        """All IPv4 addresses: (link index, address)."""
        return self._dump(get_addresses(), address)

    def routes(self) -> list[Route]:
        """All IPv4 unicast routes, of every table."""
        return [found for found in self._dump(get_routes(), route) if found is not None]

    def rules(self) -> list[Rule]:
        """All IPv4 rules that select by mark."""
        return [found for found in self._dump(get_rules(), rule) if found is not None]

    def neighbours(self, family: int) -> list[Neighbour]:
        """All ARP entries (AF_INET) or FDB rows (AF_BRIDGE)."""
        found = self._dump(get_neighbours(family), neighbour)
        return [entry for entry in found if entry is not None]

    def _send(self, messages: Sequence[Message]) -> list[int]:
        first = self._sequence + 1
        out = bytearray()
        for message in messages:
            out += self._frame(message, F_ACK)
        self._socket.send(out)
        results: dict[int, int] = {}
        while len(results) < len(messages):
            for kind, sequence, body in self._receive():
                if kind == _ERROR and sequence >= first:
                    results[sequence] = -struct.unpack_from("=i", body)[0]
        return [results[first + n] for n in range(len(messages))]

    def _dump(self, message: Message, decode: Callable[[bytes], T]) -> list[T]:
        for _ in range(_TRIES):
            found: list[T] = []
            if self._dump_once(message, decode, found):
                return found
        raise KernelError("dump", self._name, errno.EINTR)

    def _dump_once(self, message: Message, decode: Callable[[bytes], T], found: list[T]) -> bool:
        """False: the table changed meanwhile (NLM_F_DUMP_INTR), ask again."""
        self._socket.send(self._frame(message, _F_DUMP))
        whole = True
        while True:
            data = self._socket.recv(1 << 18)
            for kind, sequence, body, flags in _messages(data):
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & _F_DUMP_INTR
                if kind == _DONE:
                    return whole
                if kind == _ERROR:
                    raise kernel_error("dump", self._name, -struct.unpack_from("=i", body)[0])
                found.append(decode(body))

    def _frame(self, message: Message, flags: int) -> bytes:
        self._sequence += 1
        length = _HEADER + len(message.body)
        flags |= F_REQUEST | message.flags
        header = struct.pack("=IHHII", length, message.type, flags, self._sequence, 0)
        return header + message.body + bytes(-length % 4)

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        for kind, sequence, body, _ in _messages(self._socket.recv(1 << 18)):
            yield kind, sequence, body


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes, int]]:
    offset = 0
    while offset + _HEADER <= len(data):
        length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data, offset)
        yield kind, sequence, data[offset + _HEADER : offset + length], flags
        offset += (length + 3) & ~3


class RtnlClient:
    """The sockets of all namespaces that are in use.

    Args:
        host_netns: path of the namespace that stands for the host; None: the thread's own.
    """

    def __init__(self, host_netns: str | None = None) -> None:
        self.host_netns = host_netns
        self._sockets: dict[str | None, tuple[tuple[int, int], RouteSocket]] = {}

    def of(self, path: str | None) -> RouteSocket:
        """The socket in the namespace ``path``; None: the host's.

        Raises:
            NotFoundError: the namespace is not there (any more).
        """
        target = path if path is not None else self.host_netns
        inode = _inode(target)
        held = self._sockets.get(target)
        if held is not None:
            if held[0] == inode:
                return held[1]
            held[1].close()
            del self._sockets[target]
        with netns.inside(target):
            made = RouteSocket(target or "host")
        self._sockets[target] = (inode, made)
        return made

    def keep(self, paths: set[str]) -> None:
        """Close the sockets of all namespaces but the host's and ``paths``."""
        for path in [
            p for p in self._sockets if p not in paths and p not in {None, self.host_netns}
        ]:
            self._sockets.pop(path)[1].close()

    def close(self) -> None:
        """Close all."""
        for _, held in self._sockets.values():
            held.close()
        self._sockets.clear()


def _inode(path: str | None) -> tuple[int, int]:
    if path is None:
        return (0, 0)
    try:
        found = Path(path).stat()
    except OSError as error:
        raise NotFoundError("open", path, error.errno or 0) from error
    return (found.st_dev, found.st_ino)
