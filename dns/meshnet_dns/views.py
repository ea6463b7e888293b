"""From a query's bytes to a reply's bytes, for all containers on the same networks.

A View is a tuple of zones and what was answered of them. The key is the query without its ID, so
that names spelt differently, other types and other EDNS sizes are other keys. A reply of one record
or none is always the same, and lies where the kernel reads it (``mmsg``); A records rotate, so that
each packet is another. A new zone empties what the views that have it keep: at most one parse per
question and change.

Be aware: a cache that is full is emptied, not trimmed: real clients ask few questions, and one that
asks thousands of different ones gains nothing from any order of eviction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count, repeat
from typing import Final

from meshnet.model.ids import NetworkId
from meshnet_dns import wire
from meshnet_dns.answer import Decision, Question, answer, decide
from meshnet_dns.mmsg import lying
from meshnet_dns.zone import Zone

FORWARD: Final = b""
"""Instead of a reply: ask the upstreams."""
CACHE_ENTRIES: Final = 2048
CACHE_BYTES: Final = 512
"""Of a query that is worth an entry."""

Make = Callable[[], bytes]
_forward: Final[Make] = repeat(FORWARD).__next__


class View:
    """Answers for containers of one stack with the same networks in the same order.

    Attributes:
        fixed: query without ID -> where the reply lies.
        turning: query without ID -> makes the next reply, its first two bytes to be overwritten.
    """

    __slots__ = (
        "_fixed",
        "_held",
        "_turn",
        "_turning",
        "_zones",
        "fixed",
        "networks",
        "stack",
        "turning",
    )

    def __init__(self, networks: Sequence[NetworkId], stack: str = "") -> None:
        self.networks, self.stack = tuple(networks), stack
        self._zones: tuple[Zone, ...] = ()
        self._turn = count()  # where rotations begin: queries that are not cached rotate too
        self._fixed: dict[bytes, tuple[int, int]] = {}
        self._held: list[bytes] = []
        self._turning: dict[bytes, Make] = {}
        self.fixed = self._fixed.get
        self.turning = self._turning.get

    def refresh(self, zones: Mapping[NetworkId, Zone]) -> None:
        """Use these zones from now on; networks without one have no names."""
        self._zones = tuple(zones[network] for network in self.networks if network in zones)
        self._forget()

    def datagram(self, packet: bytes) -> bytes:
        """The reply to a query by UDP, or ``FORWARD``. Its ID is the query's.

        Raises:
            WireError: not a query; drop it.
        """
        if self._turning.get(packet[2:]) is _forward:
            return FORWARD
        try:
            query = wire.parse(packet)
        except wire.RefusedQueryError as refused:
            return wire.refusal(packet, refused.rcode)
        said = answer(query.question, self._zones, self.stack)
        if said is None:
            if query.cacheable:
                self._keep(packet, _forward)
            return FORWARD
        reply = wire.reply(query, said, query.udp_limit)
        make = reply.packets(next(self._turn)).__next__
        made = make()
        if query.cacheable:
            self._keep(packet, make if reply.rotates else made)
        return _numbered(packet, made)

    def _keep(self, packet: bytes, reply: bytes | Make) -> None:
        if len(packet) > CACHE_BYTES:
            return
        if len(self._fixed) + len(self._turning) >= CACHE_ENTRIES:
            self._forget()
        if isinstance(reply, bytes):
            self._held.append(reply)
            self._fixed[packet[2:]] = lying(reply)
        else:
            self._turning[packet[2:]] = reply

    def _forget(self) -> None:
        self._fixed.clear()
        self._turning.clear()
        self._held.clear()

    def decide(self, question: Question) -> Decision:
        """What is answered to it now, and why."""
        return decide(question, self._zones, self.stack)

    def message(self, packet: bytes) -> bytes:
        """The reply to a query by TCP, or ``FORWARD``; not cached.

        Raises:
            WireError: not a query; drop it.
        """
        try:
            query = wire.parse(packet)
        except wire.RefusedQueryError as refused:
            return wire.refusal(packet, refused.rcode)
        said = answer(query.question, self._zones, self.stack)
        if said is None:
            return FORWARD
        return _numbered(packet, next(wire.reply(query, said, wire.TCP).packets(next(self._turn))))


def _numbered(query: bytes, reply: bytes) -> bytes:
    return query[:2] + reply[2:] if reply else FORWARD
