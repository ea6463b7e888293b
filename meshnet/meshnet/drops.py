"""How often this process threw away what others sent, by reason: a bound that acts must be seen.

``meshnet status --format json`` shows the counts. A reason names who was refused and which bound
it was, in words the code chose (``gossip: datagram too short``), never in a peer's words.

Be aware: counts last as long as the process, and each process has its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from threading import Lock
from typing import Final

MOST_REASONS: Final = 256
"""Distinct reasons kept; further ones are counted under ``OTHER``."""
OTHER: Final = "other"


class Drops:
    """Counts by reason; safe from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def count(self, reason: str, times: int = 1) -> None:
        """Something was dropped.

        Args:
            reason: one of a few, known when the code is written.
            times: how many things.
        """
        with self._lock:
            known = reason in self._counts or len(self._counts) < MOST_REASONS
            self._counts[reason if known else OTHER] += times

    def snapshot(self) -> Mapping[str, int]:
        """The counts so far, by reason."""
        with self._lock:
            return dict(sorted(self._counts.items()))


_HERE: Final = Drops()
count = _HERE.count
snapshot = _HERE.snapshot
