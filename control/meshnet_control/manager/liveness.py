"""When a manager gives a node up. Pure: every method takes the time.

A node is overdue when it has not been heard for three heartbeat periods, or, sooner, when gossip
misses it too: then a broken stream is enough, or a stream silent for two seconds.

Be aware: gossip alone never makes a node Down. A node whose stream speaks is there, whatever a lost
datagram made others believe.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

MISSED: Final = 3
SILENT_S: Final = 2.0


@dataclass
class _Seen:
    last: float
    open: bool


class Liveness:
    """Who was heard when. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._missed: frozenset[str] = frozenset()

    def expect(self, node_id: str, now: float) -> None:
        """A node that was ready before this manager began to listen."""
        self._seen.setdefault(node_id, _Seen(now, open=False))

    def opened(self, node_id: str, now: float) -> None:
        """A stream begins."""
        self._seen[node_id] = _Seen(now, open=True)

    def heard(self, node_id: str, now: float) -> None:
        """Something came over the stream."""
        if node_id in self._seen:
            self._seen[node_id].last = now

    def closed(self, node_id: str, now: float) -> None:
        """The stream broke; silence counts from here."""
        if node_id in self._seen:
            self._seen[node_id] = _Seen(now, open=False)

    def forget(self, node_id: str) -> None:
        """Nobody waits for this node: it left, was removed, or is Down already."""
        self._seen.pop(node_id, None)

    def gossip_misses(self, node_ids: AbstractSet[str]) -> None:
        """The nodes gossip holds for dead now."""
        self._missed = frozenset(node_ids)

    def overdue(self, now: float, period: float) -> list[str]:
        """Nodes to set Down.

        Args:
            now: the clock.
            period: of heartbeats, seconds.
        """
        return [
            node_id
            for node_id, seen in self._seen.items()
            if now - seen.last > MISSED * period
            or (node_id in self._missed and (not seen.open or now - seen.last > SILENT_S))
        ]
