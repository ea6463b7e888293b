"""From a query's bytes to a reply's bytes, for all containers on the same networks.

A View is a tuple of zones and a cache. The cache's key is the query without its ID, so that names
spelt differently, other types and other EDNS sizes are other keys; its value makes the next packet
(A records rotate). A new zone empties the caches of the views that have it: at most one parse per
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
from meshnet_dns.zone import Zone

FORWARD: Final = b""
"""Instead of a reply: ask the upstreams."""
CACHE_ENTRIES: Final = 2048
CACHE_BYTES: Final = 512
"""Of a query that is worth an entry."""

Make = Callable[[], bytes]
_forward: Final[Make] = repeat(FORWARD).__next__


class View:
    """Answers for containers with the same networks in the same order.

    Attributes:
        cached: query without ID -> reply whose first two bytes are to be overwritten.
    """

    __slots__ = ("_cache", "_turn", "_zones", "cached", "networks")

    def __init__(self, networks: Sequence[NetworkId]) -> None:
        self.networks = tuple(networks)
        self._zones: tuple[Zone, ...] = ()
        self._turn = count()  # where rotations begin: queries that are not cached rotate too
        self._cache: dict[bytes, Make] = {}
        self.cached: Callable[[bytes], Make | None] = self._cache.get

    def refresh(self, zones: Mapping[NetworkId, Zone]) -> None:
        """Use these zones from now on; networks without one have no names."""
        self._zones = tuple(zones[network] for network in self.networks if network in zones)
        self._cache.clear()

    def datagram(self, packet: bytes) -> bytes:
        """The reply to a query by UDP, or ``FORWARD``. Its ID is the query's.

        Raises:
            WireError: not a query; drop it.
        """
        if self._cache.get(packet[2:]) is _forward:
            return FORWARD
        try:
            query = wire.parse(packet)
        except wire.RefusedQueryError as refused:
            return wire.refusal(packet, refused.rcode)
        said = answer(query.question, self._zones)
        if said is None:
            make = _forward
        else:
            make = wire.reply(query, said, query.udp_limit).packets(next(self._turn)).__next__
        if query.cacheable and len(packet) <= CACHE_BYTES:
            if len(self._cache) >= CACHE_ENTRIES:
                self._cache.clear()
            self._cache[packet[2:]] = make
        return _numbered(packet, make())

    def decide(self, question: Question) -> Decision:
        """What is answered to it now, and why."""
        return decide(question, self._zones)

    def message(self, packet: bytes) -> bytes:
        """The reply to a query by TCP, or ``FORWARD``; not cached.

        Raises:
            WireError: not a query; drop it.
        """
        try:
            query = wire.parse(packet)
        except wire.RefusedQueryError as refused:
            return wire.refusal(packet, refused.rcode)
        said = answer(query.question, self._zones)
        if said is None:
            return FORWARD
        return _numbered(packet, next(wire.reply(query, said, wire.TCP).packets(next(self._turn))))


def _numbered(query: bytes, reply: bytes) -> bytes:
    return query[:2] + reply[2:] if reply else FORWARD
