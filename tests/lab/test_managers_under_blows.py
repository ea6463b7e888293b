"""Five managers under kills, power cuts and partitions, while services change and requests come.

``MESHNET_FIVE_S`` says for how long (60 s), ``MESHNET_SEED`` with what chance.
"""

from __future__ import annotations

import os

import pytest
from bench import five

SECONDS = float(os.environ.get("MESHNET_FIVE_S", "60"))
SEED = int(os.environ.get("MESHNET_SEED", "5"))
AROUND_S = 600
"""To make the lab, to wait until it is whole in the end, and to remove it."""

pytestmark = [pytest.mark.lab, pytest.mark.etcd, pytest.mark.timeout(SECONDS + AROUND_S)]


def test_nothing_diverges_is_lost_or_doubled():
    report = five.play(SECONDS, SEED)
    assert report.problems == [], str(report)
    assert sum(count for (_, what), count in report.changes.items() if what == "ok") > 0
    assert report.looks > 0
