"""Asks addresses whether packets of a size come there uncut: ICMP echo with DF (RFC 792, RFC 1191).

Be aware: blocks for up to its bound; ICMP is filtered in places, so silence of a small packet says
nothing of larger ones.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from typing import Final

from meshnet.errors import KernelError

_IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE = 10, 3
"""linux/in.h: DF is set, what is known of the path is not asked."""
_HEADERS: Final = 28
"""IPv4 and ICMP, bytes."""
_REQUEST, _REPLY = 8, 0
_HEAD: Final = struct.Struct(">BBHHH")
_MOST_BYTES: Final = 65535
_SO_RCVBUFFORCE: Final = 33
"""asm-generic/socket.h: above net.core.rmem_max too."""
_ROOM_BYTES: Final = 4 << 20
"""For answers that come all at once; the kernel counts a packet for up to twice its size."""
_SOL_RAW, _ICMP_FILTER = 255, 1
"""linux/icmp.h: a bit for each type that is kept from the socket."""
_ALL_BUT_REPLIES: Final = struct.pack("=I", 0xFFFFFFFF & ~(1 << 0))

Probe = tuple[str, int]
"""An address, and the size of the whole IP packet in bytes."""


def heard(wanted: Iterable[Probe], within_s: float) -> Mapping[Probe, bool]:
    """Which of them are answered in time.

    Raises:
        KernelError: no right to.
    """
    found: dict[Probe, bool] = {}
    waiting: dict[bytes, Probe] = {}
    with _asking() as asking:
        for probe in wanted:
            found[probe] = False
            token = os.urandom(8)
            try:
                asking.sendto(request(token, probe[1]), (probe[0], 0))
            except OSError:  # no route, or larger than its own interface takes
                continue
            waiting[token] = probe
        ends = time.monotonic() + within_s
        while waiting and (left := ends - time.monotonic()) > 0:
            asking.settimeout(left)
            try:
                packet = asking.recv(_MOST_BYTES)
            except OSError:
                break
            probe_ = waiting.pop(token_of(packet), None)
            if probe_ is not None:
                found[probe_] = True
    return found


def _asking() -> socket.socket:
    try:
        made = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except OSError as error:
        raise KernelError("open", "ICMP socket", error.errno or 0) from error
    try:
        made.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM_BYTES)
        made.setsockopt(_SOL_RAW, _ICMP_FILTER, _ALL_BUT_REPLIES)
    except OSError as error:
        made.close()
        raise KernelError("set options of", "ICMP socket", error.errno or 0) from error
    return made


def request(token: bytes, size: int) -> bytes:
    """An echo request that makes an IP packet of ``size`` bytes. Pure."""
    data = token.ljust(max(len(token), size - _HEADERS), b"\0")
    bare = _HEAD.pack(_REQUEST, 0, 0, 0, 0) + data
    return _HEAD.pack(_REQUEST, 0, checksum(bare), 0, 0) + data


def token_of(packet: bytes) -> bytes:
    """What was asked with, of an IP packet with an echo reply; empty: it is none. Pure."""
    at = (packet[0] & 0x0F) * 4 if packet else 0
    if len(packet) < at + 16 or packet[at] != _REPLY:
        return b""
    return packet[at + 8 : at + 16]


def checksum(data: bytes) -> int:
    """RFC 1071. Pure."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
