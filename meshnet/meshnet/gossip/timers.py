"""A queue of named deadlines on the caller's clock."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field


@dataclass(order=True, slots=True, frozen=True)
class Timer:
    """One deadline: ``kind`` says what is due, ``subject`` for whom."""

    when: float
    order: int
    kind: str = field(compare=False)
    subject: str = field(compare=False, default="")


class Timers:
    """Deadlines, earliest first; equal ones in the order they were armed."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._order = 0

    def arm(self, when: float, kind: str, subject: str = "") -> None:
        """Adds a deadline; there is no cancel, whoever handles it checks that it still matters."""
        self._order += 1
        heapq.heappush(self._heap, Timer(when, self._order, kind, subject))

    def next(self) -> float | None:
        """The earliest deadline."""
        return self._heap[0].when if self._heap else None

    def pop_due(self, now: float) -> Timer | None:
        """Removes and returns the earliest deadline that is not after ``now``."""
        if self._heap and self._heap[0].when <= now:
            return heapq.heappop(self._heap)
        return None
