"""When what was started is ready, when it never will be, and what is waited for meanwhile. PURE.

Nothing here asks how long it took: a slow machine is no fault. A start has failed when a process
ended while it was waited for, or when nobody is there who would start it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

QUIET_S: Final = 3.0
"""Who waits for less long is told nothing."""
AGAIN_S: Final = 15.0
"""The same is said again after that long."""
_PAUSES_S: Final = (0.05, 3.0)


@dataclass(frozen=True, slots=True)
class Seen:
    """One process, as whoever keeps it sees it.

    Attributes:
        ready: it serves.
        ends: how often it has ended so far.
        lost: it does not run and nobody is about to start it.
        doing: what it says it does; empty: it has said nothing.
    """

    ready: bool
    ends: int = 0
    lost: bool = False
    doing: str = ""
    spared: int = 0
    """So many ends are no failure: meshnetd has one end that is not to be, or to begin anew."""


Look = Mapping[str, Seen]
"""Name of each process that is waited for -> how it is."""


def is_ready(now: Look) -> bool:
    """Whether all serve."""
    return all(seen.ready for seen in now.values())


def least(before: Look, now: Look) -> Look:
    """``before`` with what was counted anew since: systemd counts from 0 at each start."""
    return {
        name: replace(before.get(name, seen), ends=min(before.get(name, seen).ends, seen.ends))
        for name, seen in now.items()
    }


def failed(before: Look, now: Look) -> str | None:
    """The process that will not become ready, if there is one.

    Args:
        before: when the waiting began (``least`` since).
        now: at this moment.
    """
    for name, seen in now.items():
        if not seen.ready and (seen.lost or seen.ends > before[name].ends + seen.spared):
            return name
    return None


def waiting_for(now: Look) -> str:
    """What is waited for, in words."""
    return "; ".join(
        f"{name} ({seen.doing})" if seen.doing else name
        for name, seen in now.items()
        if not seen.ready
    )


def pause_after(look_s: float) -> float:
    """Seconds until the next look: looking takes a tenth of a processor, mostly.

    On a slow machine it takes a second, and who is waited for needs the processor.

    Args:
        look_s: how long the last one took.
    """
    least, most = _PAUSES_S
    return min(max(9 * look_s, least), most)
