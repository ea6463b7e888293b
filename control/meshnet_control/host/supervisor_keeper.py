"""meshnetd's side of its supervisor: signs of life to it, and another one when it has died.

Only a supervisor that ``meshnet up`` started is replaced; systemd does not die, and one that was
stopped on purpose has left no process id.

Be aware: the signs of life come from the event loop: a loop that is stuck is a hung meshnetd.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from meshnet.process.notify import Notifier

_log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
STEADY_S: Final = 60.0
"""One that has lived that long is as good as new."""


async def live(notifier: Notifier) -> None:
    """Give signs of life until cancelled."""
    while notifier.period_s is not None:
        notifier.alive()
        await asyncio.sleep(notifier.period_s)


def pause_after(restarts: int) -> float:
    """Seconds until the next look, after so many restarts in a row. Pure."""
    return float(min(LOOK_S * 2 ** min(restarts, 16), LONGEST_PAUSE_S))


async def keep(revive: Callable[[], bool]) -> None:
    """Look until cancelled.

    Args:
        revive: starts the supervisor if it should live and does not; whether it did.
    """
    clock = asyncio.get_running_loop().time
    restarts, last = 0, clock()
    while True:
        await asyncio.sleep(pause_after(restarts) if clock() - last < STEADY_S else LOOK_S)
        try:
            if not revive():
                continue
            _log.warning("meshnet-supervisor had died and was started again")
        except OSError as error:
            _log.warning("meshnet-supervisor cannot be started: %s", error)
        restarts = restarts + 1 if clock() - last < STEADY_S else 0
        last = clock()
