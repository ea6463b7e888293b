"""The checker itself: what it must accept, and what it must not."""

from __future__ import annotations

import math

import pytest
from linearizable import Operation, linearizable

UNKNOWN = math.inf


def write(called, answered, value, version, expects=None):
    return Operation(called, answered, expects, value, version)


def read(called, answered, version, value):
    return Operation(called, answered, None, None, version, value)


GOOD = {
    "one after the other": [write(0, 1, 7, 1), read(2, 3, 1, 7)],
    "a read beside a write sees either": [write(0, 9, 7, 1), read(1, 2, 0, 0), read(3, 4, 1, 7)],
    "writes beside each other": [write(0, 9, 7, 2), write(0, 9, 8, 1), read(10, 11, 2, 7)],
    "refused": [write(0, 1, 7, 1), write(2, 3, 8, 0, expects=0), read(4, 5, 1, 7)],
    "unknown and never": [write(0, UNKNOWN, 7, 0), read(1, 2, 0, 0)],
    "unknown and late": [write(0, UNKNOWN, 7, 0), read(1, 2, 0, 0), read(3, 4, 1, 7)],
    "refused because of an unknown": [
        write(0, 1, 6, 1),
        write(1, UNKNOWN, 7, 0),
        write(2, 3, 8, 0, expects=1),
    ],
}
BAD = {
    "a write that was answered is not there": [write(0, 1, 7, 1), read(2, 3, 0, 0)],
    "back to what was": [write(0, 1, 7, 1), write(2, 3, 8, 2), read(4, 5, 1, 7)],
    "seen and unseen": [write(0, 9, 7, 1), read(1, 2, 1, 7), read(3, 4, 0, 0)],
    "both of two": [write(0, 9, 7, 1, expects=0), write(0, 9, 8, 2, expects=0)],
    "refused for nothing": [write(0, 1, 7, 1), write(2, 3, 8, 0, expects=1)],
    "versions that fall": [write(0, 1, 7, 2), write(2, 3, 8, 1)],
    "unknown, before it was called": [read(0, 1, 1, 7), write(2, UNKNOWN, 7, 0)],
    "unknown, there and gone": [write(0, UNKNOWN, 7, 0), read(1, 2, 1, 7), read(3, 4, 0, 0)],
}


@pytest.mark.parametrize("name", GOOD)
def test_what_can_have_been(name):
    assert linearizable(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_have_been(name):
    assert not linearizable(BAD[name])
