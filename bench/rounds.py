"""Rounds in which every contender is measured once, and the ratios that come of them.

A machine's speed drifts by far more than the differences measured here, so what is compared is
always measured within one round, seconds apart, in an order that turns with each round. A verdict
is the median of the rounds' ratios.

Be aware: a ratio is always "ours over the peer's" as the benchmark names it; whether it has to be
high (speed) or low (time) is said by the goal.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

ROUNDS = 7
"""Rounds of a quick measurement; slow ones say their own number, never under 5."""


class BenchError(Exception):
    """A measurement could not be made. The message says what is missing."""


@dataclass(frozen=True)
class Goal:
    """What the ratio (or the figure itself, without a peer) has to reach."""

    value: float
    at_least: bool
    unit: str = ""

    def holds(self, measured: float) -> bool:
        return measured >= self.value if self.at_least else measured <= self.value

    def __str__(self) -> str:
        return (
            f"{'≥' if self.at_least else '≤'} {self.value:g}{' ' + self.unit if self.unit else ''}"
        )


@dataclass(frozen=True)
class Line:
    """One row of the table: a figure per round, for us and (mostly) for a peer."""

    what: str
    goal: Goal | None
    ours: Sequence[float]
    peer: Sequence[float] = ()
    unit: str = ""
    note: str = ""

    @property
    def values(self) -> list[float]:
        """The ratio of every round; the figures themselves where there is no peer."""
        if not self.peer:
            return list(self.ours)
        return [ours / peer for ours, peer in zip(self.ours, self.peer, strict=True)]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def best_to_best(self) -> float:
        """Our best round over the peer's best, whichever rounds those were."""
        low = self.goal is not None and not self.goal.at_least
        best = min if low else max
        return best(self.ours) / best(self.peer)

    @property
    def holds(self) -> bool | None:
        return None if self.goal is None else self.goal.holds(self.median)


def interleave(
    contenders: Mapping[str, Callable[[], float]],
    rounds: int = ROUNDS,
    say: Callable[[str], None] = print,
) -> dict[str, list[float]]:
    """Measure every contender once per round, the order turned by one place each round.

    Args:
        contenders: name to a measurement that returns its figure, larger than 0.
        rounds: how many times, at least 1.
        say: told each round's figures.

    Raises:
        BenchError: a figure was 0 or less, which no ratio can be made of.
    """
    names = list(contenders)
    seen: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            figure = contenders[name]()
            if figure <= 0:
                raise BenchError(f"{name} measured {figure}: nothing came through")
            seen[name].append(figure)
        say("    " + "   ".join(f"{name} {seen[name][-1]:,.4g}" for name in names))
    return seen
