"""Nothing is lost while processes, hosts, cables and kernel state are taken away: a short choice.

``./dev bench chaos`` plays them all. The choice is the same each time, so that a failure can be
played again. What costs requests today is never chosen; docs/benchmarks.md says how many.
"""

from __future__ import annotations

import random

import pytest
from bench import chaos

pytestmark = [pytest.mark.lab, pytest.mark.timeout(420)]
SEED = 7946
CHOSEN = 4
ALWAYS = (
    "meshnetd killed (-9), away 12 s",
    "meshnet-manager killed (-9), away 12 s",
    "meshnet-resolver killed (-9), away 0 s",
    "h3 shut down in order (SIGTERM, then off) for 12 s, then on",
)
"""What a daemon's death, or a reboot, must not cost is looked at in every run."""
COSTLY = (
    "engine of h2",  # its programs end before anybody can know that they will
    "on h2: nft flush ruleset",  # refused by the host itself until the table is back
)


def test_no_request_is_lost():
    always = [fault for fault in chaos.FAULTS if fault.what in ALWAYS]
    others = [
        fault
        for fault in chaos.FAULTS
        if fault.what not in ALWAYS and not any(costly in fault.what for costly in COSTLY)
    ]
    chosen = random.Random(SEED).sample(others, CHOSEN)
    lost = {
        account.what: account.lost
        for account in chaos.play([*always, *chosen], SEED)
        if account.lost
    }
    assert lost == {}
