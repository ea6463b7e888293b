"""Counts of what was dropped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from meshnet.drops import MOST_REASONS, OTHER, Drops


def test_counts_are_by_reason_and_a_snapshot_does_not_change():
    drops = Drops()
    drops.count("b")
    drops.count("a", 2)
    seen = drops.snapshot()
    drops.count("a")
    assert list(seen.items()) == [("a", 2), ("b", 1)]
    assert drops.snapshot() == {"a": 3, "b": 1}


def test_reasons_are_bounded_and_none_is_lost():
    drops = Drops()
    for number in range(MOST_REASONS + 10):
        drops.count(f"reason {number}")
    drops.count("reason 0")
    seen = drops.snapshot()
    assert len(seen) == MOST_REASONS + 1
    assert (seen["reason 0"], seen[OTHER]) == (2, 10)


def test_threads_lose_no_count():
    drops = Drops()
    with ThreadPoolExecutor(8) as threads:
        for _ in range(8):
            for _ in range(1000):
                threads.submit(drops.count, "x")
    assert drops.snapshot() == {"x": 8000}
