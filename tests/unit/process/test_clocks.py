"""What two readings of the clocks tell: a step, a sleep, or nothing."""

from __future__ import annotations

import pytest

from meshnet.process.clocks import Reading, differences, read

BEFORE = Reading(wall=1000.0, awake=50.0, all=70.0)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (Reading(1002.0, 52.0, 72.0), []),
        (Reading(1002.9, 52.0, 72.0), []),
        (Reading(4602.0, 52.0, 72.0), ["the clock of this host was set by +3600 s"]),
        (Reading(-2598.0, 52.0, 72.0), ["the clock of this host was set by -3600 s"]),
        (Reading(1062.0, 52.0, 132.0), ["this host slept for 60 s"]),
        (Reading(1060.0, 110.0, 130.0), []),  # a busy host: nothing but late
        (
            Reading(1002.0, 52.0, 132.0),
            ["this host slept for 60 s", "the clock of this host was set by -60 s"],
        ),
    ],
)
def test_clocks_that_go_apart_are_told(after, said):
    assert differences(BEFORE, after) == said


def test_the_clocks_of_this_host_go_as_one():
    assert differences(read(), read()) == []
