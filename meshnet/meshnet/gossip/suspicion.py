"""How long a suspect may stay suspect, and how many packets repeat a message: formulas only."""

from __future__ import annotations

import math


def suspicion_bounds_s(
    members: int, interval_s: float, mult: float, growth: float, max_mult: float
) -> tuple[float, float]:
    """Shortest and longest time a member stays suspect, seconds.

    Args:
        members: size of the cluster, self included.
        interval_s: probe interval.
        mult: shortest = mult * interval, up to ten members.
        growth: part of it that each power of ten above adds: news and refutation travel farther.
        max_mult: longest = shortest * max_mult.

    Source: memberlist util.go suspicionTimeout, whose growth is 1.
    """
    powers = max(0.0, math.log10(max(1, members)) - 1.0)
    low = mult * (1.0 + growth * powers) * interval_s
    return low, low * max_mult


def remaining_suspicion_s(
    confirmed: int, wanted: int, elapsed_s: float, low_s: float, high_s: float
) -> float:
    """Seconds left before a suspect is declared dead; negative when overdue.

    The wait shrinks from ``high_s`` to ``low_s`` on a log scale as independent members confirm.

    Args:
        confirmed: distinct members that confirmed, the first accuser excluded.
        wanted: confirmations after which the wait is shortest; 0 means it is shortest at once.
        elapsed_s: seconds since the suspicion began.
        low_s: the shortest wait.
        high_s: the longest wait.

    Source: memberlist suspicion.go remainingSuspicionTime; differs: no millisecond floor.
    """
    if wanted < 1:
        return low_s - elapsed_s
    fraction = math.log(min(confirmed, wanted) + 1.0) / math.log(wanted + 1.0)
    return max(low_s, high_s - fraction * (high_s - low_s)) - elapsed_s


def retransmit_limit(members: int, mult: int) -> int:
    """Packets a membership message rides on before it is dropped (memberlist retransmitLimit)."""
    return mult * math.ceil(math.log10(members + 1))
