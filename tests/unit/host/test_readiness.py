"""A start is waited for while it goes on, however long; what will not come is not waited for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.host.readiness import (
    Seen,
    failed,
    is_ready,
    least,
    pause_after,
    waiting_for,
)

SEEN = st.builds(Seen, st.booleans(), st.integers(0, 5), st.booleans(), st.sampled_from(["", "x"]))
LOOKS = st.fixed_dictionaries({"a": SEEN, "b": SEEN})


def test_one_that_is_on_its_way_is_waited_for_whatever_it_did_before():
    before = {"a": Seen(ready=False, ends=7)}
    assert failed(before, {"a": Seen(ready=False, ends=7, doing="asking the engine")}) is None


def test_one_that_ended_meanwhile_has_failed():
    assert failed({"a": Seen(ready=False)}, {"a": Seen(ready=False, ends=1)}) == "a"


def test_one_end_that_somebody_asked_for_is_none():
    before = {"a": Seen(ready=False, ends=3, spared=1)}
    assert failed(before, {"a": Seen(ready=False, ends=4, spared=1)}) is None
    assert failed(before, {"a": Seen(ready=False, ends=5, spared=1)}) == "a"


def test_one_that_ended_and_is_back_has_not():
    assert failed({"a": Seen(ready=False)}, {"a": Seen(ready=True, ends=1)}) is None


def test_one_that_nobody_starts_has_failed():
    before = {"a": Seen(ready=True), "b": Seen(ready=False)}
    assert failed(before, before | {"b": Seen(ready=False, lost=True)}) == "b"


def test_ends_before_the_start_count_for_nothing_when_the_count_begins_anew():
    anew = {"a": Seen(ready=False, ends=0)}
    before = least({"a": Seen(ready=False, ends=3)}, anew)
    assert failed(before, {"a": Seen(ready=False, ends=1)}) == "a"


@given(LOOKS, st.lists(LOOKS))
def test_who_waits_ends_or_says_for_what(before, looks):
    for now in looks:
        before = least(before, now)
        assert all(before[name].ends <= now[name].ends for name in now)
        assert is_ready(now) == (waiting_for(now) == "")
        name = failed(before, now)
        assert name is None or not now[name].ready


def test_what_it_does_is_told():
    now = {"a": Seen(ready=False, doing="asking"), "b": Seen(ready=True), "c": Seen(ready=False)}
    assert waiting_for(now) == "a (asking); c"


@given(st.floats(0.0, 60.0))
def test_looking_leaves_the_processor_to_who_is_waited_for(look_s):
    pause = pause_after(look_s)
    assert 0.05 <= pause <= 3.0
    assert look_s <= 0.1 * (look_s + pause) * 1.001 or pause == 3.0
