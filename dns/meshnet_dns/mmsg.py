"""The hot path: take up to 64 queries by one recvmmsg(2), answer them by one sendmmsg(2).

```
 receive buffer i ── packet without its ID ──> fixed: where the reply lies, and its size
       │                                        └ turning: the next packet, copied
       │                                             └ miss: the caller's, copied, or later
       └ ID ──> reply i = the ID where it was received + the rest where it lies (man 2 sendmsg)
```
A reply is never put together: its ID is sent from where it was received, the rest from where it
is kept. The message headers are built once; for a query that was answered before, two numbers are
written. Fixed replies are sent before any miss is asked for, which may change what is kept.

libc is called with the interpreter's lock held (``PyDLL``): nothing here waits, and giving the lock
up and taking it again costs as much as all else that is done for a query.

Be aware: one Batch serves all sockets in turn; it is not for two threads. IPv4 only. x86-64 and
arm64 layouts (64-bit pointers, ``struct msghdr`` of 56 bytes), asserted at import.

Source: man 2 recvmmsg, man 2 sendmmsg.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

COUNT: Final = 64
RECEIVE_SIZE: Final = 1024
"""Bytes of a query that we read; longer ones are cut and found malformed. With padding (RFC 8467)
they have 128 or 256."""
SEND_SIZE: Final = 1232
_SOCKADDR: Final = 16
_MSG_DONTWAIT: Final = 0x40

Miss = Callable[[bytes, int], "bytes | None"]
"""``(packet, index)`` -> the whole reply, or None: none now. ``Batch.sender(index)``: who asked."""
Fixed = Callable[[bytes], "tuple[int, int] | None"]
"""Packet without ID -> address and size of the reply without its ID, which lies there for as long
as no miss is asked for."""
Turning = Callable[[bytes], "Callable[[], bytes] | None"]
"""Packet without ID -> function that makes the next whole reply; empty: it is a miss."""


class _Iovec(ctypes.Structure):
    _fields_: ClassVar[Sequence[Any]] = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class _Msghdr(ctypes.Structure):
    _fields_: ClassVar[Sequence[Any]] = [
        ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int),
    ]  # fmt: skip


class _Mmsghdr(ctypes.Structure):
    _fields_: ClassVar[Sequence[Any]] = [("hdr", _Msghdr), ("len", ctypes.c_uint)]


_WORDS: Final = ctypes.sizeof(_Mmsghdr) // 4
_LEN_WORD: Final = _Mmsghdr.len.offset // 4
_ID: Final = 2
_PARTS: Final = 2
"""Of a reply: its ID and the rest."""
if ctypes.sizeof(_Mmsghdr) != 64 or ctypes.sizeof(_Iovec) != 16:  # noqa: PLR2004
    raise ImportError("meshnet_dns.mmsg needs a 64-bit Linux")

_libc = ctypes.PyDLL(None, use_errno=True)
_NUMBERS: Final = tuple(ctypes.c_uint(number) for number in range(COUNT + 1))
"""As libc takes them: making one costs as much as answering a question."""
_DONTWAIT: Final = ctypes.c_int(_MSG_DONTWAIT)


class Batch:
    """Buffers and headers for ``COUNT`` datagrams in and out."""

    def __init__(self) -> None:
        self._received = bytearray(COUNT * RECEIVE_SIZE)
        self._made = bytearray(COUNT * SEND_SIZE)
        self._names = bytearray(COUNT * _SOCKADDR)
        self._iovecs = ((_Iovec * COUNT)(), (_Iovec * (COUNT * _PARTS))())
        self._headers = ((_Mmsghdr * COUNT)(), (_Mmsghdr * COUNT)())
        self._made_at = _address(self._made)
        names_at, received_at = _address(self._names), _address(self._received)
        for headers, iovecs, parts in zip(self._headers, self._iovecs, (1, _PARTS), strict=True):
            iovecs_at = ctypes.addressof(iovecs)
            for i in range(COUNT):
                header, first = headers[i].hdr, iovecs[i * parts]
                header.name, header.namelen = names_at + i * _SOCKADDR, _SOCKADDR
                header.iov = iovecs_at + i * parts * ctypes.sizeof(_Iovec)
                header.iovlen = parts
                first.base = received_at + i * RECEIVE_SIZE
                first.len = RECEIVE_SIZE if parts == 1 else _ID
        self._in_view = memoryview(self._received)
        self._in_lengths = memoryview(self._headers[0]).cast("B").cast("I")[_LEN_WORD::_WORDS]
        # Address and size of the second part are the last two of each four numbers.
        self._rest = memoryview(self._iovecs[1]).cast("B").cast("Q")
        self._in_headers = ctypes.byref(self._headers[0])
        step = ctypes.sizeof(_Mmsghdr)
        self._out_headers = [ctypes.byref(self._headers[1], at * step) for at in range(COUNT)]

    def sender(self, index: int) -> tuple[str, int]:
        """Address and port of the sender of the datagram ``index`` of this batch."""
        at = index * _SOCKADDR
        port = int.from_bytes(self._names[at + 2 : at + 4])
        return socket.inet_ntoa(self._names[at + 4 : at + 8]), port

    def serve(self, fd: int, fixed: Fixed, turning: Turning, miss: Miss) -> tuple[int, int, int]:
        """Answer what waits on the UDP socket ``fd``, ``COUNT`` datagrams at most.

        Args:
            fd: the socket.
            fixed: who knows a reply that is always the same.
            turning: who knows one that is another each time.
            miss: makes the reply otherwise.

        Returns:
            Received, of those answered by ``fixed`` and ``turning``, and replies that could not be
            sent.

        Raises:
            OSError: the socket cannot be read: mostly what an earlier reply met.
        """
        number = _libc.recvmmsg(fd, self._in_headers, _NUMBERS[COUNT], _DONTWAIT, None)
        if number < 0:
            code = ctypes.get_errno()
            if code in {errno.EAGAIN, errno.EINTR}:
                return 0, 0, 0
            raise OSError(code, os.strerror(code))
        received = bytes(self._in_view[: number * RECEIVE_SIZE])
        rest, missed, at, part = self._rest, [], 0, 2
        for length in self._in_lengths[:number].tolist():
            key = received[at + _ID : at + length]
            found = fixed(key)
            if found is not None:
                rest[part], rest[part + 1] = found
            else:
                make = turning(key)
                packet = make() if make is not None else b""
                if packet:
                    self._keep(part // 4, packet)
                else:
                    missed.append((part // 4, received[at : at + length]))
            at += RECEIVE_SIZE
            part += 4
        if not missed:
            return number, number, self._send(fd, 0, number)
        lost = self._send_but(fd, number, [slot for slot, _ in missed])
        for slot, query in missed:
            packet = miss(query, slot) or b""
            if packet:
                self._keep(slot, packet)
                lost += self._send(fd, slot, slot + 1)
        return number, number - len(missed), lost

    def _keep(self, slot: int, packet: bytes) -> None:
        """Let the reply of ``slot`` be a copy of ``packet``, but for its ID."""
        size, to = len(packet) - _ID, slot * SEND_SIZE
        self._made[to : to + size] = packet[_ID:]
        self._rest[slot * 4 + 2], self._rest[slot * 4 + 3] = self._made_at + to, size

    def _send_but(self, fd: int, number: int, without: Sequence[int]) -> int:
        """Send the replies of the first ``number`` slots but those; how many could not be."""
        lost = at = 0
        for slot in (*without, number):
            lost += self._send(fd, at, slot)
            at = slot + 1
        return lost

    def _send(self, fd: int, at: int, end: int) -> int:
        """Send the replies of the slots from ``at`` to before ``end``; how many could not be."""
        lost = 0
        while at < end:
            sent = _libc.sendmmsg(fd, self._out_headers[at], _NUMBERS[end - at], _DONTWAIT)
            if sent > 0:
                at += sent
            elif ctypes.get_errno() != errno.EINTR:
                at += 1  # the first of the rest cannot be sent (EPERM, EAGAIN): skip only that one
                lost += 1
        return lost


def _address(buffer: bytearray) -> int:
    """Where ``buffer`` lies. It must not be resized afterwards; the export keeps it from that."""
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))


def lying(reply: bytes) -> tuple[int, int]:
    """Address and size of ``reply`` without its ID, for as long as somebody holds it."""
    at = ctypes.cast(ctypes.c_char_p(reply), ctypes.c_void_p).value or 0
    return at + _ID, len(reply) - _ID
