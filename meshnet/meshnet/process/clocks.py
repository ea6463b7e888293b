"""Whether the clocks of this host went on as one: a clock that is set, a host that slept.

Nothing of ours counts by the wall clock what it can count by another, so a step changes nothing;
but who reads logs, certificates' ends or ages has to know of it.

Source: clock_gettime(2): CLOCK_MONOTONIC is not set and does not count sleep, CLOCK_BOOTTIME does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LOOKS_S: Final = 2.0
NOTICED_S: Final = 2.0
"""Less is an ordinary correction."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All clocks at one moment, seconds.

    Attributes:
        wall: unix time.
        awake: since some moment, without sleep.
        all: the same with sleep.
    """

    wall: float
    awake: float
    all: float


def read() -> Reading:
    """The clocks now."""
    return Reading(time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))


def differences(before: Reading, after: Reading) -> list[str]:
    """What happened to the clocks between two readings, a sentence each. Pure."""
    found = []
    slept = (after.all - before.all) - (after.awake - before.awake)
    if slept >= NOTICED_S:
        found.append(f"this host slept for {slept:.0f} s")
    stepped = (after.wall - before.wall) - (after.all - before.all)
    if abs(stepped) >= NOTICED_S:
        found.append(f"the clock of this host was set by {stepped:+.0f} s")
    return found


async def watch(notice: Callable[[str], None]) -> None:
    """Look for differences until cancelled."""
    before = read()
    while True:
        await asyncio.sleep(LOOKS_S)
        after = read()
        for sentence in differences(before, after):
            notice(sentence)
        before = after
