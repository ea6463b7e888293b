"""The probes of a lab: commands that show whether it does what it should, tried until they do.

The machines are touched by the commands alone. All probes run at once, as each may have to wait.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from meshnet.patterns import Pattern
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.play import Play
from meshnet_control.lab.topology import Probe

LONGEST: Final = 1 << 20
"""Characters of an output that are looked at."""
_COMMAND_S: Final = 60.0
_PAUSE_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Result:
    """How a probe ended."""

    probe: Probe
    holds: bool
    seconds: float
    why: str
    """What was seen instead; what was seen, if it holds."""


def judged(probe: Probe, code: int, output: str) -> tuple[bool, str]:
    """Whether a run is what the probe expects, and what was seen. Pure."""
    lines = output.strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    if probe.fails and code == 0:
        return False, f"it should fail, and said: {last}"
    if not probe.fails and code != 0:
        return False, f"exit {code}: {last}"
    if probe.expect and not Pattern(probe.expect, longest=LONGEST).within(output[-LONGEST:]):
        return False, f"no {probe.expect!r} in: {last}"
    return True, last


def run(play: Play, probes: Iterable[Probe]) -> list[Result]:
    """All probes, at once; their results in order."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(lambda probe: _tried(play, probe), probes))


def _tried(play: Play, probe: Probe) -> Result:
    began = time.monotonic()
    while True:
        try:
            holds, why = judged(probe, *play.attempt(probe.on, probe.run, timeout_s=_COMMAND_S))
        except LabError as error:  # the machine is off, or the command has no end
            holds, why = False, str(error)
        seconds = time.monotonic() - began
        if holds or seconds >= probe.within_s * play.patience:
            return Result(probe, holds, seconds, why)
        time.sleep(_PAUSE_S)
