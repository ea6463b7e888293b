"""How long to wait before something is tried again: longer each time, and never all at once.

    first_s   2 first_s   4 first_s  ...  last_s   last_s      less up to a half of each, by chance

The chance keeps apart those that failed together: a thousand nodes whose manager is gone. Pure.

Source: AWS Architecture Blog, "Exponential Backoff and Jitter" ("equal jitter"). The libraries for
this (tenacity, backoff, stamina) are decorators and loops that sleep by themselves; here the caller
waits, for an event or a cancellation as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Delays, from the first to the longest."""

    first_s: float
    last_s: float

    def delays(self, chance: Callable[[], float]) -> Iterator[float]:
        """Seconds to wait before each new attempt, without end; begun anew after a success.

        Args:
            chance: from 0 to 1, ``random.random``; 1: the whole delay.
        """
        delay = self.first_s
        while True:
            yield delay * (0.5 + 0.5 * chance())
            delay = min(delay * 2, self.last_s)
