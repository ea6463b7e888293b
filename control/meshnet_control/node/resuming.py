"""Going on in a cluster after a start: now, or again and again until what is in the way is gone.

Source: moby daemon/cluster/noderunner.go, which reconnects likewise.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from meshnet import ends
from meshnet.backoff import Backoff
from meshnet_control.dataplane.reconcilers import Spawn
from meshnet_control.identity.identity import Identity

AGAIN: Final = Backoff(1.0, 30.0)
"""Between two attempts."""


class Resuming:
    """Tries for as long as it takes, or until it is given up.

    Args:
        spawn: starts a task whose failure ends the process.
        attempt: goes on in the cluster now; whether it could.
    """

    def __init__(self, spawn: Spawn, attempt: Callable[[Identity], Awaitable[bool]]) -> None:
        self._spawn, self._attempt = spawn, attempt
        self._again: asyncio.Task[None] | None = None

    async def begin(self, who: Identity) -> None:
        """Try once; where that fails the others follow after this has returned."""
        if not await self._attempt(who):
            self._again = self._spawn(self._try_again(who), "resume")

    async def give_up(self) -> None:
        """Try no more; an attempt that goes on is cancelled and waited for, within bounds."""
        again, self._again = self._again, None
        if again is not None:
            await ends.ended(again)

    async def _try_again(self, who: Identity) -> None:
        for delay in AGAIN.delays(random.random):
            await asyncio.sleep(delay)
            if await self._attempt(who):
                return
