"""The client of rtnetlink: one persistent socket per network namespace (netlink(7)).

Requests travel in batches, every one with its own acknowledgement, so that one refusal neither
hides nor stops the others.

Be aware: used from the kernel thread only. A namespace is known by its inode: a path that names
another namespace later gets a new socket.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from meshnet.errors import KernelError, NotFoundError, kernel_error
from meshnet.kernel import decode, encode, netns, nlmsg
from meshnet.kernel.encode import Message
from meshnet.kernel.nlmsg import NlmF, Nlmsg
from meshnet.kernel.rtnetlink import Af
from meshnet.model.families import Family, Interface
from meshnet.netstate.objects import Link, Neighbour, Route, Rule

T = TypeVar("T")

_RECEIVE: Final = 1 << 18
"""More than the kernel puts into one datagram, bytes."""
_CHUNK: Final = 256
"""Requests in one datagram; their acknowledgements fit the receive buffer."""
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER: Final = 1 << 21
_TRIES: Final = 5
# Plain numbers: each is used for every message of a dump or a batch.
_REQUEST, _ACK, _DUMP = int(NlmF.REQUEST), int(NlmF.ACK), int(NlmF.DUMP)
_DUMP_INTR, _ERROR, _DONE = int(NlmF.DUMP_INTR), int(Nlmsg.ERROR), int(Nlmsg.DONE)


class RouteSocket:
    """rtnetlink of one namespace.

    Raises:
        KernelError: no descriptor is left.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._sequence = 0
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        except OSError as error:
            raise kernel_error("open", f"rtnetlink socket in {name}", error.errno or 0) from error
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
        return self._dump(encode.get_links(), decode.link)

    def addresses(self, family: Family = 4) -> list[tuple[int, Interface]]:
        """All addresses of a family: (link index, address)."""
        return self._dump(encode.get_addresses(family), decode.address)

    def routes(self, family: Family = 4) -> list[Route]:
        """All unicast and local routes of a family, of every table."""
        found = self._dump(encode.get_routes(family), decode.route)
        return [entry for entry in found if entry is not None]

    def rules(self) -> list[Rule]:
        """All IPv4 rules that select by mark or not at all."""
        found = self._dump(encode.get_rules(), decode.rule)
        return [entry for entry in found if entry is not None]

    def neighbours(self, family: Af) -> list[Neighbour]:
        """All neighbours (INET, INET6) or FDB rows (BRIDGE)."""
        found = self._dump(encode.get_neighbours(family), decode.neighbour)
        return [entry for entry in found if entry is not None]

    def _send(self, messages: Sequence[Message]) -> list[int]:
        first = self._sequence + 1
        out = bytearray()
        for message in messages:
            out += self._frame(message, _ACK)
        self._transmit(out)
        results: dict[int, int] = {}
        while len(results) < len(messages):
            for kind, _, sequence, body in self._received():
                if kind == _ERROR and sequence >= first:
                    results[sequence] = nlmsg.errno_of(body)
        return [results[first + n] for n in range(len(messages))]

    def _dump(self, message: Message, decode: Callable[[bytes], T]) -> list[T]:
        for _ in range(_TRIES):
            found: list[T] = []
            if self._dump_once(message, decode, found):
                return found
        raise KernelError("dump", self._name, errno.EINTR)

    def _dump_once(self, message: Message, decode: Callable[[bytes], T], found: list[T]) -> bool:
        """False: the table changed meanwhile (NLM_F_DUMP_INTR), ask again."""
        self._transmit(self._frame(message, _DUMP))
        whole = True
        while True:
            for kind, flags, sequence, body in self._received():
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & _DUMP_INTR
                if kind == _DONE:
                    return whole
                if kind == _ERROR:
                    raise kernel_error("dump", self._name, nlmsg.errno_of(body))
                found.append(decode(body))

    def _transmit(self, data: bytes | bytearray) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            raise KernelError("ask", self._name, error.errno or errno.ETIMEDOUT) from error

    def _received(self) -> Iterator[tuple[int, int, int, bytes]]:
        try:
            data = self._socket.recv(_RECEIVE)
        except OSError as error:
            raise KernelError("ask", self._name, error.errno or errno.ETIMEDOUT) from error
        return nlmsg.messages(data)

    def _frame(self, message: Message, flags: int) -> bytes:
        self._sequence += 1
        flags |= _REQUEST | message.flags
        return nlmsg.message(message.type, flags, self._sequence, message.body)


Watch = Callable[[Path, str | None], None]
"""Gets a file, and the path of the namespace that it is of (None: the host's)."""


def watch_nothing(_file: Path, _netns: str | None) -> None:
    """A ``Watch``."""


class RtnlClient:
    """The sockets of all namespaces that are in use.

    Args:
        host_netns: path of the namespace that stands for the host; None: the thread's own.
        give_way: called before each namespace of many: what must not wait for all of them.
        watch: called, inside its namespace, with the file of each sysctl that is read, and where.
    """

    def __init__(
        self,
        host_netns: str | None = None,
        give_way: Callable[[], None] = lambda: None,
        watch: Watch = watch_nothing,
    ) -> None:
        self.host_netns = host_netns
        self.give_way, self.watch = give_way, watch
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
    except NotADirectoryError as error:
        raise NotFoundError("open", path, error.errno or 0) from error
    except OSError as error:
        raise kernel_error("open", path, error.errno or 0) from error
    return (found.st_dev, found.st_ino)
