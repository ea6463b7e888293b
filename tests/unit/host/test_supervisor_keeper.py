"""A supervisor that goes on dying is started at ever longer intervals, up to a limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.host.supervisor_keeper import LONGEST_PAUSE_S, LOOK_S, pause_after


@given(st.integers(min_value=0, max_value=10_000))
def test_pauses_grow_and_are_bounded(restarts):
    assert LOOK_S <= pause_after(restarts) <= pause_after(restarts + 1) <= LONGEST_PAUSE_S
