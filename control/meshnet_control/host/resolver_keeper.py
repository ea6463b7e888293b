"""Starts the resolver again when it died, on a host where nobody else does.

meshnetd looks every second. Only a resolver that ``meshnet up`` started is kept: systemd keeps its
own, and one that was stopped on purpose has left no process id.

Be aware: a resolver that goes on dying is started at ever longer intervals. What it answered it
finds in its own state file; what changed meanwhile the reconciler tells it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

_log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
STEADY_S: Final = 60.0
"""One that has lived that long is as good as new."""


def pause_after(restarts: int) -> float:
    """Seconds until the next look, after so many restarts in a row. Pure."""
    return float(min(LOOK_S * 2 ** min(restarts, 16), LONGEST_PAUSE_S))


async def keep(revive: Callable[[], bool]) -> None:
    """Look until cancelled.

    Args:
        revive: starts the resolver if it should live and does not; whether it did.
    """
    clock = asyncio.get_running_loop().time
    restarts, last = 0, clock()
    while True:
        await asyncio.sleep(pause_after(restarts) if clock() - last < STEADY_S else LOOK_S)
        try:
            if not revive():
                continue
            _log.warning("meshnet-resolver had died and was started again")
        except OSError as error:
            _log.warning("meshnet-resolver cannot be started: %s", error)
        restarts = restarts + 1 if clock() - last < STEADY_S else 0
        last = clock()
