"""How large packets may be between this node and others: what to ask, and what to believe. Pure.

A ``Search`` finds the largest packet that comes to one peer uncut; it says which sizes to ask and
is told which were answered, so that searches of many peers share one wait (RFC 4821 section 7, by
echoes instead of data: whether errors of routers come does not matter). ``Paths`` believes it:

```
 interface ──two searches in a row find less──> narrow ──three in a row find more──> as found
     every EVERY_S, and no more than a peer a second; a peer that is silent keeps what is known
```

Be aware: whose small packets are not answered (away, or ICMP is filtered) is not searched further.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from meshnet.model.ids import NodeId
from meshnet.model.snapshot import Snapshot

EVERY_S: Final = 60.0
"""Between two searches of a way, seconds: how long a way that narrowed can go unnoticed."""
PEER_S: Final = 1.0
"""The same for each peer there is: a thousand are asked at the rate of sixty."""
SOON_S: Final = 2.0
"""Before what was found is looked at once more."""
RAISES: Final = 3
"""Searches in a row that find a wider way before it is believed: ways of several legs flap."""
SMALLEST: Final = 576
"""Bytes that every host takes (RFC 791)."""
_SILENT_ROUNDS: Final = 2
_AT_ONCE: Final = 8
"""Sizes of one round: 576 to 1500 takes three rounds, 576 to 9000 five."""


@dataclass
class Search:
    """Of the largest packet, in bytes of IP, that comes to one peer; ``full`` is tried first."""

    full: int
    found: int | None = None
    """Once it is over; None: nothing is answered, nothing is known."""
    over: bool = False
    _low: int | None = None
    _high: int = 0
    _rounds: int = 0

    @property
    def copies(self) -> int:
        """How often each size is asked now: packets are lost for other reasons too."""
        return 2 if self._rounds else 1

    def sizes(self) -> list[int]:
        """Which to ask now."""
        if self._low is None or self._rounds < _SILENT_ROUNDS:
            return [SMALLEST, self.full]
        gap = self._high - self._low
        inner = {self._low + gap * at // (_AT_ONCE + 1) for at in range(1, _AT_ONCE + 1)}
        return sorted((inner - {self._low}) | {self._high - 1})

    def heard(self, sizes: Set[int]) -> None:
        """Which of those were answered."""
        asked = self.sizes()
        self._rounds += 1
        if self.full in sizes:
            self.found, self.over = self.full, True
            return
        if self._low is None:
            self._high = self.full + 1
        self._low = max(sizes, default=self._low)
        if self._low is None:
            self.over = self._rounds >= _SILENT_ROUNDS
            return
        if self._rounds > _SILENT_ROUNDS:
            self._high = min((size for size in asked if size > self._low), default=self._high)
        if self._high - self._low <= 1:
            self.found, self.over = self._low, True


@dataclass
class _Way:
    full: int
    size: int
    due: float
    others: list[int] = field(default_factory=list)
    """What searches in a row found that is not ``size``: all below, or all above."""


@dataclass
class Paths:
    """What is believed of the ways to the other nodes."""

    _ways: dict[NodeId, _Way] = field(default_factory=dict)

    def follow(self, peers: Mapping[NodeId, int], now: float) -> None:
        """Ways to these, and to no others.

        Args:
            peers: node -> bytes that the interfaces at both ends take.
            now: seconds, monotonic.
        """
        self._ways = {
            peer: known
            if (known := self._ways.get(peer)) is not None and known.full == full
            else _Way(full, full, now)
            for peer, full in peers.items()
        }

    def due(self, now: float) -> dict[NodeId, Search]:
        """Whom to search for now."""
        return {p: Search(way.full) for p, way in self._ways.items() if way.due <= now}

    @property
    def next_due(self) -> float | None:
        """When, or None: there is nobody."""
        return min((way.due for way in self._ways.values()), default=None)

    def took(self, peer: NodeId, found: int | None, now: float) -> None:
        """What a search found; None: the peer is silent."""
        way = self._ways.get(peer)
        if way is None:
            return
        way.due = now + max(EVERY_S, PEER_S * len(self._ways))
        if found is None or found == way.size:
            way.others.clear()
            return
        if way.others and (way.others[-1] < way.size) != (found < way.size):
            way.others.clear()
        way.others.append(found)
        if found < way.size:
            if len(way.others) < 2:  # noqa: PLR2004 - once more
                way.due = now + SOON_S
                return
            way.size = max(way.others)
        elif len(way.others) >= RAISES:
            way.size = min(way.others)
        else:
            return
        way.others.clear()

    def narrow(self) -> dict[NodeId, int]:
        """Bytes that ways take, of those that take less than the interfaces at their ends."""
        return {peer: way.size for peer, way in self._ways.items() if way.size < way.full}


def peers_of(snapshot: Snapshot) -> dict[NodeId, int]:
    """The nodes that packets go to, and the bytes that the interfaces at both ends take."""
    own = snapshot.nodes.get(snapshot.self_id)
    if own is None:
        return {}
    return {
        node.id: min(own.underlay_mtu, node.underlay_mtu)
        for node in snapshot.nodes.values()
        if node.id != own.id and node.vtep != own.vtep and not node.down
    }
