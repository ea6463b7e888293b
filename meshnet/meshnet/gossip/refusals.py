"""What was not taken, counted by reason; a holder of our key is named, once a peer and reason."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from meshnet.gossip.events import Event, Refused
from meshnet.gossip.members import Address

_TOLD: Final = 256
"""(peer, reason) remembered as named; then all may be named again."""


class Refusals:
    """Counts and names.

    Args:
        events: where names are told.
    """

    def __init__(self, events: deque[Event]) -> None:
        self._events = events
        self._told: set[tuple[str, str]] = set()
        self.counts: Counter[str] = Counter()

    def count(self, why: str, times: int = 1) -> None:
        """Anybody can make this happen: it is counted and nothing else."""
        self.counts[why] += times

    def name(self, why: str, peer: Address) -> None:
        """A holder of our key did this."""
        self.counts[why] += 1
        if (peer[0], why) not in self._told:
            if len(self._told) >= _TOLD:
                self._told.clear()
            self._told.add((peer[0], why))
            self._events.append(Refused(peer, why))
