"""One nfnetlink socket: the nftables generation, and conntrack entries that are older than rules.

Touches nothing but its own socket. It stays in the network namespace in which it was opened,
whatever its thread does later, and keeps that namespace alive until it is closed.

The model: two questions that libnftables has no call for. ``generation`` grows with every nftables
commit in the namespace, by one, so an unchanged number means an unchanged ruleset (sources: kernel
``net/netfilter/nf_tables_api.c`` nf_tables_getgen, ``nf_conntrack_netlink.c``). Raw messages, as
pyroute2's sockets cost an event loop each and there is one of these per container.

A connection that a backend has not answered yet hangs on it like a UDP flow: its next packet goes
there again. Whether a backend is there is not known here, so an entry is taken for unanswered when
it still is some moments after it was first seen so; forgotten, its next packet is led elsewhere.

Be aware: ``forget`` walks the machine's whole conntrack table, however few entries the
namespace has (10 to 17 ms measured); it is for the moment a backend leaves, not for every round,
and asks first whether there is any entry.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address

from meshnet.errors import KernelError
from meshnet.kernel import nlmsg
from meshnet.kernel.nlmsg import NESTED, NlmF, Nlmsg, attribute, attributes
from meshnet.nft.flows import Fate, Flow, Protocol, Stale

NETLINK_NETFILTER = 12
GETGEN = 10 << 8 | 16
CT_GET = 1 << 8 | 1
CT_GET_STATS = 1 << 8 | 5
CT_DELETE = 1 << 8 | 2
GEN_ID = 1
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_PROTOINFO, CTA_ID, CTA_ZONE = 1, 2, 4, 12, 18
CTA_COUNTERS = (9, 10)
"""Of the original direction and of the replies."""
CTA_COUNTERS_PACKETS, CTA_COUNTERS_BYTES = 1, 2
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST = 1, 2, 3, 4
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
CTA_STATS_GLOBAL_ENTRIES = 1
CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE = 1, 1
_PROTOCOLS: Mapping[int, Protocol] = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}
SYN_SENT = 1
"""TCP_CONNTRACK_SYN_SENT (linux/netfilter/nf_conntrack_tcp.h)."""
ENDED = frozenset({6, 7, 8})
"""LAST_ACK, TIME_WAIT, CLOSE (ibid.)."""
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What became of entries that go where no rule leads any more.

    Attributes:
        unanswered: those to backends that left that nobody has answered yet; they are there still.
        broken: connections in progress that were deleted.
    """

    unanswered: frozenset[bytes] = frozenset()
    broken: tuple[Flow, ...] = ()


class NfnetlinkSocket:
    """Opened in the calling thread's current network namespace.

    Raises:
        KernelError: No descriptor is left.
    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
        except OSError as error:
            raise KernelError("open", "nfnetlink socket", error.errno or 0) from error
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

    def forget(self, stale: Stale, waited: Collection[bytes] = ()) -> Forgotten:
        """Delete the entries that go where no rule leads any more.

        Args:
            stale: tells them.
            waited: what an earlier call returned: entries to delete if nobody answered yet.

        Raises:
            KernelError: The kernel refused; an entry that ended meanwhile is no error.
        """
        if not self._any():
            return Forgotten()
        dumped = self._checked("list", "conntrack", CT_GET, NlmF.DUMP, socket.AF_UNSPEC)
        unanswered: dict[bytes, dict[int, bytes]] = {}
        broken: list[Flow] = []
        for entry in map(attributes, dumped):
            flow = _flow(entry)
            fate = stale.fate(flow) if flow is not None else Fate.STAYS
            if fate is Fate.DOUBTED:
                unanswered[_name_of(entry)] = entry
            elif flow is not None and fate is Fate.FORGOTTEN:
                self._delete(entry)
                if flow.protocol == "tcp" and not (flow.unanswered or flow.ended):
                    broken.append(flow)
        for name in unanswered.keys() & set(waited):
            self._delete(unanswered[name])
        return Forgotten(frozenset(unanswered.keys() - set(waited)), tuple(broken))

    def flows(self) -> list[Flow]:
        """Every entry of this namespace that has ports, with what it counts.

        Raises:
            KernelError: The kernel refused, or did not answer.
        """
        if not self._any():
            return []
        dumped = self._checked("list", "conntrack", CT_GET, NlmF.DUMP, socket.AF_UNSPEC)
        found = (_flow(attributes(entry)) for entry in dumped)
        return [flow for flow in found if flow is not None]

    def _any(self) -> bool:
        """Whether there is any entry: a dump walks the machine's whole table for none."""
        (stats,) = self._checked("count", "conntrack", CT_GET_STATS, 0, socket.AF_UNSPEC)
        return any(attributes(stats).get(CTA_STATS_GLOBAL_ENTRIES, b"?"))

    def _delete(self, entry: dict[int, bytes]) -> None:
        try:
            self._ask(CT_DELETE, NlmF.ACK, _name_of(entry), _family_of(entry))
        except FileNotFoundError:
            return
        except OSError as error:
            raise KernelError("delete", "conntrack entry", error.errno or 0) from error

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


def _name_of(entry: dict[int, bytes]) -> bytes:
    """What tells an entry from all others, as a request has it."""
    return b"".join(
        attribute(kind | (NESTED if kind == CTA_TUPLE_ORIG else 0), entry[kind])
        for kind in (CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE)
        if kind in entry
    )


def _family_of(entry: dict[int, bytes]) -> int:
    addresses = attributes(attributes(entry[CTA_TUPLE_ORIG])[CTA_TUPLE_IP])
    return socket.AF_INET6 if CTA_IP_V6_SRC in addresses else socket.AF_INET


def _flow(entry: dict[int, bytes]) -> Flow | None:
    """An entry as a value; None: it has no ports."""
    original, reply = (attributes(entry[kind]) for kind in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY))
    there, back = attributes(original[CTA_TUPLE_IP]), attributes(reply[CTA_TUPLE_IP])
    protocol = attributes(original[CTA_TUPLE_PROTO])
    port = protocol.get(CTA_PROTO_DST_PORT)
    if port is None:
        return None
    state = _tcp_state(entry)
    counted = [attributes(entry.get(kind, b"")) for kind in CTA_COUNTERS]
    return Flow(
        protocol=_PROTOCOLS.get(protocol[CTA_PROTO_NUM][0], "other"),
        source=_text(there, CTA_IP_V4_SRC, CTA_IP_V6_SRC),
        asked=_text(there, CTA_IP_V4_DST, CTA_IP_V6_DST),
        port=int.from_bytes(port, "big"),
        backend=_text(back, CTA_IP_V4_SRC, CTA_IP_V6_SRC),
        answers_to=_text(back, CTA_IP_V4_DST, CTA_IP_V6_DST),
        unanswered=state == SYN_SENT,
        ended=state in ENDED,
        packets=sum(_number(each, CTA_COUNTERS_PACKETS) for each in counted),
        source_port=int.from_bytes(protocol.get(CTA_PROTO_SRC_PORT, b""), "big"),
        octets=sum(_number(each, CTA_COUNTERS_BYTES) for each in counted),
    )


def _text(addresses: dict[int, bytes], v4: int, v6: int) -> str:
    """As nft and ``ipaddress`` write it."""
    if v4 in addresses:
        return socket.inet_ntop(socket.AF_INET, addresses[v4])
    return str(IPv6Address(addresses[v6]))


def _tcp_state(entry: dict[int, bytes]) -> int:
    """0: another protocol's."""
    tcp = attributes(attributes(entry.get(CTA_PROTOINFO, b"")).get(CTA_PROTOINFO_TCP, b""))
    return int.from_bytes(tcp.get(CTA_PROTOINFO_TCP_STATE, b"")[:1], "big")


def _number(counters: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(counters.get(kind, b""), "big")
