"""Makes who only waits on a connection that leads nowhere any more hear of its end.

A connection whose backend is gone is forgotten by conntrack, and reset at its client's next packet
by whoever that is led to. A client that only reads sends none, and would wait for ever. So it is
made to speak: a SYN on a connection that is established is answered by an ACK with the numbers
that the client expects (RFC 5961 section 4.2, a challenge ACK), and that is its next packet. Nobody
needs to know the connection's numbers, and a client that has ended it resets whom it hears.

The segment has FIN besides SYN: conntrack takes no such segment for a connection
(net/netfilter/nf_conntrack_proto_tcp.c, tcp_valid_flags), so it makes no entry that would take the
answer for its own.

Be aware: a firewall on the client's way that drops what is part of no connection drops this as
well; such a client waits until it speaks.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from ipaddress import IPv6Address, ip_address
from typing import Final

from meshnet.kernel import netns
from meshnet.kernel.netns import Identity
from meshnet.model.families import Address
from meshnet.nft.flows import Flow

_IP: Final = struct.Struct("!BBHHHBBH4s4s")
_IP6: Final = struct.Struct("!IHBB16s16s")
_TCP: Final = struct.Struct("!HHIIBBHHH")
_VERSION_AND_WORDS: Final = 0x45
_VERSION6: Final = 6 << 28
_TTL: Final = 64
_WORDS: Final = 5 << 4
_FIN_AND_SYN: Final = 0x03


def wake(path: str, identity: Identity, flows: Iterable[Flow]) -> None:
    """Have the clients of these flows speak.

    Args:
        path: of the network namespace that has led them.
        identity: of it; nothing is done when the path leads elsewhere by now.
        flows: connections of TCP, forgotten already.

    Raises:
        NotFoundError: the namespace is not there (any more).
        KernelError: it cannot be entered.
    """
    every = list(flows)
    with ExitStack() as stack:
        with netns.inside(path) as entered:
            if entered != identity:
                return
            raw: dict[int, socket.socket] = {}
            for family in {_family(flow) for flow in every}:
                with suppress(OSError):  # no right to, or no descriptor: they wait till they speak
                    made = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
                    raw[family] = stack.enter_context(made)
        for flow in every:
            if _family(flow) in raw:
                with suppress(OSError):  # no way to that client
                    raw[_family(flow)].sendto(segment(flow), (flow.source, 0))


def segment(flow: Flow) -> bytes:
    """What the client of a flow gets, as from whom it asked; the kernel fills in the rest of IP."""
    asked, client = ip_address(flow.asked), ip_address(flow.source)
    ports, rest = (flow.port, flow.source_port), (0, 0, _WORDS, _FIN_AND_SYN, 0)
    # Of IPv6 the two numbers have four bytes each (RFC 8200 section 8.1), of which two are 0.
    pseudo = asked.packed + client.packed + struct.pack("!HH", socket.IPPROTO_TCP, _TCP.size)
    checksum = _checksum(pseudo + _TCP.pack(*ports, *rest, 0, 0))
    return _head(asked, client) + _TCP.pack(*ports, *rest, checksum, 0)


def _family(flow: Flow) -> int:
    return socket.AF_INET6 if ":" in flow.source else socket.AF_INET


def _head(source: Address, destination: Address) -> bytes:
    tcp, ends = socket.IPPROTO_TCP, (source.packed, destination.packed)
    if isinstance(source, IPv6Address):
        return _IP6.pack(_VERSION6, _TCP.size, tcp, _TTL, *ends)
    return _IP.pack(_VERSION_AND_WORDS, 0, 0, 0, 0, _TTL, tcp, 0, *ends)


def _checksum(data: bytes) -> int:
    """RFC 1071; of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
