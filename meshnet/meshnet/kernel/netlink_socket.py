"""A socket of one netlink family in one network namespace: requests in batches, and dumps.

Requests travel in batches, every one with its own acknowledgement, so that one refusal neither
hides nor stops the others.

Be aware: used from the kernel thread only.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from meshnet.errors import KernelError, kernel_error
from meshnet.kernel import nlmsg
from meshnet.kernel.encode import Message
from meshnet.kernel.nlmsg import NlmF, Nlmsg

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


class NetlinkSocket:
    """Netlink of one namespace.

    Args:
        name: of the namespace.
        protocol: the family, such as NETLINK_ROUTE (netlink(7)).

    Raises:
        KernelError: no descriptor is left.
    """

    def __init__(self, name: str, protocol: int) -> None:
        self._name = name
        self._sequence = 0
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        except OSError as error:
            raise kernel_error("open", f"netlink socket in {name}", error.errno or 0) from error
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

    def dump(self, message: Message, decode: Callable[[bytes], T]) -> list[T]:
        """All that the kernel has of a kind.

        Raises:
            KernelError: it does not say, or changes faster than it is told.
        """
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
