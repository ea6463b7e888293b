"""When a supervisor starts again, who is hung, and how an end is told."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.host import supervision, supervisor
from meshnet_control.host.supervision import (
    ABORTS_S,
    LONGEST_PAUSE_S,
    STARTS_S,
    STEADY_S,
    WATCHDOG_S,
    aborted,
    begun,
    end_of,
    failures_after,
    overdue_at,
    parsed,
    pause_after,
    told,
    was_asked,
)


def test_the_first_end_costs_no_pause_and_a_few_more_cost_less_than_two_seconds():
    assert pause_after(0) == pause_after(1) == 0
    assert sum(pause_after(failures) for failures in range(5)) < 2


@given(st.integers(0, 10_000))
def test_pauses_grow_and_are_bounded(failures):
    assert 0 <= pause_after(failures) <= pause_after(failures + 1) <= LONGEST_PAUSE_S


@given(st.floats(0, 100), st.integers(0, 50))
def test_one_that_has_lived_a_while_is_as_good_as_new(lived_s, failures):
    life = begun(10.0, failures)
    expected = 0 if lived_s >= STEADY_S else failures + 1
    assert failures_after(life, 10.0 + lived_s) in {expected, failures + 1}
    assert failures_after(life, 10.0 + STEADY_S + 1) == 0


def test_a_process_that_starts_may_be_silent_for_long_and_one_that_serves_not():
    starting = begun(100.0)
    assert overdue_at(starting, WATCHDOG_S) == 100 + STARTS_S
    ready = told(starting, {"READY": "1"}, 130.0)
    assert overdue_at(ready, WATCHDOG_S) == 130 + WATCHDOG_S
    alive = told(ready, {"WATCHDOG": "1"}, 140.0)
    assert alive.ready
    assert overdue_at(alive, WATCHDOG_S) == 140 + WATCHDOG_S


def test_one_that_does_not_end_when_aborted_is_killed_soon():
    hung = aborted(told(begun(0.0), {"READY": "1"}, 1.0), 50.0)
    assert overdue_at(hung, WATCHDOG_S) == 50 + ABORTS_S


@pytest.mark.parametrize(
    ("said", "status", "meant"),
    [
        ({"STOPPING": "1"}, 0, True),
        ({"STOPPING": "1"}, None, True),
        ({"STOPPING": "1"}, -9, False),
        ({"STOPPING": "1"}, 1, False),
        ({}, 0, False),
        ({}, None, False),
        ({}, -9, False),
        ({}, -15, True),
    ],
)
def test_only_one_that_was_asked_to_end_and_did_has_not_failed(said, status, meant):
    assert was_asked(told(begun(0.0), said, 1.0), status) is meant


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit status 0"),
        (3, "exit status 3"),
        (-9, "killed by SIGKILL"),
        (-11, "killed by SIGSEGV"),
        (-40, "killed by signal 40"),
        (None, "ended"),
    ],
)
def test_an_end_in_words(status, words):
    assert end_of(status) == words


@given(st.sampled_from(sorted(supervision._SIGNALS)))
def test_signals_have_their_names(number):
    assert end_of(-number) == f"killed by {signal.Signals(number).name}"


@given(st.binary(max_size=200))
def test_no_message_is_a_fault(datagram):
    for key, value in parsed(datagram).items():
        assert "=" not in key
        assert "\n" not in value


def test_messages_are_lines_of_assignments():
    assert parsed(b"FDSTORE=1\nFDNAME=a=b\nnonsense\n") == {"FDSTORE": "1", "FDNAME": "a=b"}


def test_a_log_on_a_full_disk_ends_no_supervisor(monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stderr", full)
        supervisor.say("meshnetd died")
