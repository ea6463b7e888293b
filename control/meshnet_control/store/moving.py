"""A store that can move to another backend while it is used: nobody who has it notices.

Touches nothing itself.

    commits ──> wait while it moves ──> the backend of the moment
    watches ──> the old backend's to its end ──> the new one's, from the revision reached

Be aware: the new backend must hold what the old one held, at the same revision.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar, cast

from meshnet import ends, measures
from meshnet_control.store.fenced import Fence, FenceableStore
from meshnet_control.store.layered import LayeredStore
from meshnet_control.store.store import (
    Change,
    Delete,
    Expect,
    Put,
    Store,
    StoreUnavailableError,
)

WAIT_S: Final = 10.0
"""For a commit while the store moves."""

_S = TypeVar("_S", bound=Store)


class MovingStore(LayeredStore[Store]):
    """A ``FenceableStore``; commits with a fence only once the backend knows fences.

    Args:
        behind: the first backend.
    """

    def __init__(self, behind: Store) -> None:
        super().__init__(behind)
        self._still = asyncio.Event()
        self._still.set()
        self._running: set[asyncio.Future[int]] = set()

    @property
    def behind(self) -> Store:
        """The backend of the moment."""
        return self._behind

    async def commit(
        self,
        writes: Sequence[Put | Delete],
        expect: Expect | None = None,
        fence: Fence | None = None,
    ) -> int:
        """Write all or nothing; see ``Store.commit``.

        Raises:
            StoreUnavailableError: the store moves for longer than anybody waits.
            StoreError: the backend's.
        """
        try:
            if not self._still.is_set():
                await asyncio.wait_for(self._still.wait(), WAIT_S)
        except TimeoutError:
            raise StoreUnavailableError("the store is moving", uncertain=False) from None
        if fence is None:
            commit = self._behind.commit(writes, expect)
        else:
            commit = cast("FenceableStore", self._behind).commit(writes, expect, fence)
        work = asyncio.ensure_future(commit)
        self._running.add(work)  # also when who asked is cancelled, and it goes on
        work.add_done_callback(self._running.discard)
        work.add_done_callback(partial(_measured, time.perf_counter()))
        return await ends.finishing(work)

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        """The commits after a revision; see ``Store.watch``.

        Raises:
            CompactedError: that revision is too long ago.
        """
        return self._walk(self._behind, self._behind.watch(from_revision))

    async def _walk(
        self, behind: Store, watch: AsyncIterator[Sequence[Change]]
    ) -> AsyncIterator[Sequence[Change]]:
        while True:
            async for batch in watch:
                yield batch
            if behind is self._behind:
                return
            reached, behind = behind.revision, self._behind
            watch = behind.watch(reached)

    async def move(self, carry: Callable[[], Awaitable[_S]]) -> _S:
        """Go on with another backend.

        Args:
            carry: makes it, while nothing is written. When it fails the old one goes on.
        """
        self._still.clear()
        try:
            if self._running:
                await asyncio.wait(set(self._running))
            old, new = self._behind, await carry()
            self._behind = new
        finally:
            self._still.set()
        await ends.closed(old.close)
        return new


def _measured(began: float, commit: asyncio.Future[int]) -> None:
    written = not commit.cancelled() and commit.exception() is None
    result = "written" if written else "refused"
    measures.commit_seconds.labels(result).observe(time.perf_counter() - began)
