"""Who had this node begin is answered before the node does what nobody waits for.

```
 init, join ── answered ─> the client asks on (docker info, GET /swarm) ── silence ─> over
                           a request that changes something, a task is assigned ────> over
```
``docker swarm init`` asks two things more before it returns. Where one slow processor serves both,
docker_gwbridge and the overlays that begin meanwhile are most of the time that a person waits.

Be aware: a client that is idle for longer than ``QUIET_S`` between two requests has lost its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

QUIET_S: Final = 0.5
"""Without a request: nobody asks on."""
LONGEST_S: Final = 2.0
"""That others are given the turn, whoever asks."""
_READS: Final = frozenset({"GET", "HEAD"})


class Courtesy:
    """Knows who asks, and when they have been answered."""

    def __init__(self) -> None:
        self._asking = 0
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._giving = 0

    @property
    def gives_way(self) -> bool:
        """Somebody waits in ``over`` now."""
        return self._giving > 0

    @contextlib.contextmanager
    def answering(self, method: str) -> Iterator[None]:
        """For as long as a request is answered.

        Args:
            method: of HTTP; what changes something may wait for what is put off.
        """
        if method not in _READS:
            self.hurry()
        self._asking += 1
        self._news.set()
        try:
            yield
        finally:
            self._asking -= 1
            self._news.set()

    def hurry(self) -> None:
        """Somebody waits for what is put off: it is over."""
        self._hurry.set()

    async def over(self) -> None:
        """Until nobody asks any more; ``LONGEST_S`` at most."""
        self._hurry.clear()
        self._giving += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_S):
                    while not self._hurry.is_set() and not await self._quiet():
                        pass
        finally:
            self._giving -= 1

    async def _quiet(self) -> bool:
        """Whether nobody asked for ``QUIET_S``; False: somebody did, look again."""
        self._news.clear()
        heard = asyncio.ensure_future(self._news.wait())
        hurried = asyncio.ensure_future(self._hurry.wait())
        limit = None if self._asking else QUIET_S
        done, left = await asyncio.wait(
            (heard, hurried), timeout=limit, return_when=asyncio.FIRST_COMPLETED
        )
        for each in left:
            each.cancel()
        return not done
