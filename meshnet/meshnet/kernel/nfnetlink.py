"""One nfnetlink socket: the nftables generation, and conntrack entries of a backend that left.

Touches nothing but its own socket. It stays in the network namespace in which it was opened,
whatever its thread does later, and keeps that namespace alive until it is closed.

The model: two questions that libnftables has no call for. ``generation`` grows with every nftables
commit in the namespace, by one, so an unchanged number means an unchanged ruleset (sources: kernel
``net/netfilter/nf_tables_api.c`` nf_tables_getgen, ``nf_conntrack_netlink.c``). Raw messages, as
pyroute2's sockets cost an event loop each and there is one of these per container.

Be aware: ``forget_udp`` walks the machine's whole conntrack table, however few entries the
namespace has (10 to 17 ms measured); it is for the moment a backend leaves, not for every round,
and asks first whether there is any entry.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address

from meshnet.errors import KernelError
from meshnet.kernel import nlmsg
from meshnet.kernel.nlmsg import NESTED, NlmF, Nlmsg, attribute, attributes

NETLINK_NETFILTER = 12
GETGEN = 10 << 8 | 16
CT_GET = 1 << 8 | 1
CT_GET_STATS = 1 << 8 | 5
CT_DELETE = 1 << 8 | 2
GEN_ID = 1
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE = 1, 2, 12, 18
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST = 1, 2
CTA_PROTO_NUM = 1
CTA_STATS_GLOBAL_ENTRIES = 1
TIMEOUT_S = 5.0


class NfnetlinkSocket:
    """Opened in the calling thread's current network namespace."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
        )
        self._socket.settimeout(TIMEOUT_S)
        self._sequence = 0

    def close(self) -> None:
        """Give the namespace free."""
        self._socket.close()

    def generation(self) -> int:
        """Number of the last nftables commit in this namespace.

        Raises:
            KernelError: The kernel has no nf_tables, or did not answer.
        """
        (answer,) = self._checked(
            "get", "nftables generation", GETGEN, NlmF.REQUEST, socket.AF_UNSPEC
        )
        generation = attributes(answer).get(GEN_ID, b"")
        return int.from_bytes(generation, "big")

    def forget_udp(self, backends: Collection[str]) -> int:
        """Delete the UDP entries that send to one of these addresses by DNAT.

        Returns:
            How many were deleted.

        Raises:
            KernelError: The kernel refused; an entry that ended meanwhile is no error.
        """
        (stats,) = self._checked("count", "conntrack", CT_GET_STATS, 0, socket.AF_UNSPEC)
        if not any(attributes(stats).get(CTA_STATS_GLOBAL_ENTRIES, b"?")):
            return 0
        addresses = {IPv4Address(backend).packed for backend in backends}
        dumped = self._checked("list", "conntrack", CT_GET, NlmF.DUMP, socket.AF_INET)
        gone = [entry for entry in map(attributes, dumped) if _sends_to(entry, addresses)]
        for entry in gone:
            kept = (CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE)
            body = b"".join(
                attribute(kind | (NESTED if kind == CTA_TUPLE_ORIG else 0), entry[kind])
                for kind in kept
                if kind in entry
            )
            try:
                self._ask(CT_DELETE, NlmF.ACK, body, socket.AF_INET)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise KernelError("delete", "conntrack entry", error.errno or 0) from error
        return len(gone)

    def _checked(self, op: str, target: str, kind: int, flags: int, family: int) -> list[bytes]:
        try:
            return self._ask(kind, flags, b"", family)
        except OSError as error:
            raise KernelError(op, target, error.errno or errno.ETIMEDOUT) from error

    def _ask(self, kind: int, flags: int, body: bytes, family: int) -> list[bytes]:
        """Send one request; bodies (behind nfgenmsg) of its answers.

        Raises:
            OSError: The kernel's answer is an error.
        """
        self._sequence += 1
        payload = struct.pack(">BBH", family, 0, 0) + body
        self._socket.send(nlmsg.message(kind, NlmF.REQUEST | flags, self._sequence, payload))
        answers: list[bytes] = []
        while True:
            for answered, message in self._received():
                if answered == Nlmsg.ERROR:
                    code = nlmsg.errno_of(message)
                    if code:
                        raise OSError(code, os.strerror(code))
                    return answers
                if answered == Nlmsg.DONE:
                    return answers
                answers.append(message[4:])
                if not flags & (NlmF.DUMP | NlmF.ACK):
                    return answers

    def _received(self) -> Iterator[tuple[int, bytes]]:
        for kind, _, sequence, body in nlmsg.messages(self._socket.recv(1 << 17)):
            if sequence == self._sequence:
                yield kind, body


def _sends_to(entry: dict[int, bytes], addresses: Collection[bytes]) -> bool:
    """Whether it is a UDP flow that was changed to go to one of the addresses."""
    original, reply = (attributes(entry[kind]) for kind in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY))
    protocol = attributes(reply[CTA_TUPLE_PROTO])[CTA_PROTO_NUM][0]
    source = attributes(reply[CTA_TUPLE_IP]).get(CTA_IP_V4_SRC)
    asked = attributes(original[CTA_TUPLE_IP]).get(CTA_IP_V4_DST)
    return protocol == socket.IPPROTO_UDP and source in addresses and source != asked
