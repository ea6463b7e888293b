"""How the scenario judges what it sees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Answer, Play, StepError, answers, round_robin


class Here(Lab):
    """A lab whose machines are this one."""

    def command(self, name, argv, *, cwd=None):
        return list(argv)


@given(st.lists(st.text("abcdef", min_size=1), unique=True, min_size=1), st.integers(1, 4))
def test_whole_rounds_are_in_turn(names, rounds):
    assert round_robin(names * rounds, len(names))


@given(st.lists(st.text("abcdef", min_size=1), unique=True, min_size=2))
def test_a_member_asked_twice_in_a_round_is_not_in_turn(names):
    assert not round_robin([names[0], *names], len(names))
    assert not round_robin(names + names[::-1], len(names))


@given(st.lists(st.text("abcdef", min_size=1), unique=True, min_size=1))
def test_a_missing_member_is_not_in_turn(names):
    assert not round_robin(names * 2, len(names) + 1)


def test_answers_are_read():
    said = "web:1 3f0c sees 192.168.50.100\nweb:2 77aa sees 10.0.1.5\n"
    assert answers(said) == [
        Answer("1", "3f0c", "192.168.50.100"),
        Answer("2", "77aa", "10.0.1.5"),
    ]


def test_a_failed_request_is_not_an_answer():
    with pytest.raises(StepError, match="Connection refused"):
        answers("curl: (7) Failed to connect: Connection refused")


def test_a_patient_play_waits_longer():
    lab = Here(Layout())
    assert Play(lab, patience=6e7).quietly("h1", "echo done", timeout_s=1e-6) == "done"
    with pytest.raises(StepError, match="no end after"):
        Play(lab).quietly("h1", "exec sleep 60", timeout_s=1e-6)
