"""A process's side of its supervisor: signs of life to it, and another one when it has died.

Be aware: the signs of life come from the event loop: a loop that is stuck is a hung process,
unless it is starved (``meshnet.process.starving``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from meshnet.process.notify import Notifier
from meshnet.process.revival import Pace
from meshnet.process.starving import Witness

_log = logging.getLogger(__name__)


async def live(notifier: Notifier) -> None:
    """Give signs of life until cancelled."""
    with Witness(notifier) as witness:
        while notifier.period_s is not None:
            witness.beat()
            await asyncio.sleep(notifier.period_s)


async def keep(revive: Callable[[], bool]) -> None:
    """Look until cancelled.

    Args:
        revive: starts the supervisor if it should live and does not; whether it did.
    """
    clock = asyncio.get_running_loop().time
    pace = Pace(clock())
    while True:
        await asyncio.sleep(pace.pause_s(clock()))
        try:
            if not revive():
                continue
            _log.warning("meshnet-supervisor had died and was started again")
        except OSError as error:
            _log.warning("meshnet-supervisor cannot be started: %s", error)
        pace.started(clock())
