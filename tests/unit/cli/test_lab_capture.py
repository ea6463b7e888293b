"""What ``meshnet lab capture`` says of itself."""

from __future__ import annotations

import pytest

from meshnet_control.cli import lab_capture


@pytest.mark.parametrize(
    ("passed", "want"),
    [
        (0, "no packet went by yet; it is waited for more (Ctrl-C ends)"),
        (1, "1 packet went by and none matched tcp !7946; it is waited for more (Ctrl-C ends)"),
        (7, "7 packets went by and none matched tcp !7946; it is waited for more (Ctrl-C ends)"),
    ],
)
def test_why_a_capture_shows_nothing(passed, want):
    assert lab_capture.unmatched(["tcp", "!7946"], passed) == want
