"""Delays grow to a longest one, and are never all the same."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from meshnet.backoff import Backoff


def test_delays_double_to_the_longest() -> None:
    assert list(islice(Backoff(0.1, 0.5).delays(lambda: 1.0), 5)) == [0.1, 0.2, 0.4, 0.5, 0.5]


@given(st.floats(0, 1), st.floats(0.001, 10), st.floats(10, 100))
def test_chance_takes_off_a_half_at_most(chance: float, first: float, last: float) -> None:
    whole = islice(Backoff(first, last).delays(lambda: 1.0), 20)
    given_off = islice(Backoff(first, last).delays(lambda: chance), 20)
    for most, delay in zip(whole, given_off, strict=True):
        assert most * 0.5 <= delay <= most * 1.0000001
