"""The leader's loop: the store's objects in, the orchestration's writes out. Effects only here.

While this manager leads (``leadership``), with a store that writes only as long as it does:

    watch ──> Plan ──decide (in a thread)──> commits with compare ──> wait: a change, the time ──┐
      ^                             │ out of sequence: a moment, then from what is there now     │
      └─────────────────────────────┴────────────────────────────────────────────────────────────┘

Be aware: a commit names the version of every object it changes, so a decision made from an older
picture is never written; it is made again. So is one that could not be written because the disk
was full or failed. Changes that arrive close together (5 ms) are decided on together; where they go
on coming, so are those of as long as the decision before took. Every few minutes everything is
looked at, whether it changed or not. Errors of our own code end ``run``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from itertools import groupby
from typing import Final, TypeAlias

from meshnet import ends
from meshnet.backoff import Backoff
from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.manager.leadership import Leadership, Sole
from meshnet_control.orchestrate.pipeline import find, key_of
from meshnet_control.orchestrate.plan import Decision, Plan, decide
from meshnet_control.orchestrate.store_view import Delete, Put, Write
from meshnet_control.store.store import (
    RETRY,
    Change,
    CompactedError,
    Key,
    NotLeadingError,
    Object,
    OutOfSequenceError,
    Store,
    StoreClosedError,
    StoreError,
)

_log = logging.getLogger(__name__)

DEBOUNCE_S: Final = 0.005
PAUSE_S: Final = 0.05
"""The longest time for which more is let come after a decision that took as long."""
ANEW_S: Final = 300.0
"""Between two looks at everything."""
CONFLICTS: Final = 10
"""In a row, after which everything is read again: what is kept here must be wrong."""
CONFLICT: Final = Backoff(0.01, 1.0)
Decide: TypeAlias = Callable[[Plan, float, Rng], Awaitable[Decision]]
KINDS = (pb.Cluster, pb.Node, pb.Service, pb.Task, pb.Network)


async def beside(plan: Plan, now: float, rng: Rng) -> Decision:
    """Decide in a thread: whatever else is asked here is answered meanwhile."""
    return await asyncio.to_thread(decide, plan, now, rng)


class Manager:
    """Keeps the cluster's tasks as its services want them, for as long as this node leads.

    Args:
        store: the cluster's objects.
        rng: for the ids of new objects.
        clock: wall-clock time in Unix seconds.
        leadership: when this manager leads; None: it is the only one.
        deciding: decides; where there is no time that passes, not in a thread.
    """

    def __init__(
        self,
        store: Store,
        rng: Rng,
        clock: Callable[[], float],
        leadership: Leadership | None = None,
        deciding: Decide = beside,
    ) -> None:
        self._store, self._deciding = store, deciding
        self._leadership = leadership or Sole(store)
        self._rng = rng
        self._clock = clock
        self._plan = Plan()
        self._seen = 0
        self._anew_at = 0.0
        self._woken = asyncio.Event()
        self._closed = False
        self._arrived: list[Change] = []
        self._delays = RETRY.delays(random.random)
        self._conflicts = CONFLICT.delays(random.random)

    async def run(self) -> None:
        """Work until cancelled; returns when the store closes."""
        while not self._closed:
            term = await self._leadership.term()
            self._store = term.store
            leading = asyncio.create_task(self._orchestrate(), name="manager-leads")
            over = asyncio.create_task(term.over.wait(), name="manager-term")
            try:
                await asyncio.wait((leading, over), return_when=asyncio.FIRST_COMPLETED)
                if leading.done():
                    leading.result()
            except NotLeadingError as error:
                _log.info("%s", error)
                await over
            finally:
                await ends.ended(leading, over)

    async def _orchestrate(self) -> None:
        """Until the store closes, or says that another manager leads."""
        while not self._closed:
            changes = await self._read()
            watcher = asyncio.create_task(self._watch(changes), name="manager-watch")
            try:
                await self._lead(watcher)
            except OutOfSequenceError:
                _log.warning("decisions are out of sequence again and again: reading everything")
            except CompactedError:
                continue
            except StoreClosedError:
                self._closed = True
                return
            except NotLeadingError:
                raise
            except StoreError as error:
                _log.warning("decisions are not written, deciding again: %s", error)
            finally:
                await ends.ended(watcher)
            await asyncio.sleep(next(self._delays))

    async def _read(self) -> AsyncIterator[Sequence[Change]]:
        """A fresh Plan, and the changes after it."""
        self._arrived.clear()
        while True:
            before = self._store.revision
            objects: list[Object] = []
            for kind in KINDS:
                objects.extend(await self._store.list(kind))
            if self._store.revision == before:
                break
        self._plan, self._seen = Plan.of(objects), before
        self._anew_at = self._clock() + ANEW_S
        return self._store.watch(before)

    async def _watch(self, changes: AsyncIterator[Sequence[Change]]) -> None:
        async for batch in changes:
            self._arrived.extend(batch)
            self._woken.set()
        self._closed = True

    async def _lead(self, watcher: asyncio.Task[None]) -> None:
        """Decide, commit, wait; until the store closes or what is known proves to be old."""
        conflicts = 0
        clock = asyncio.get_running_loop().time
        while not self._closed:
            self._woken.clear()
            self._take_in()
            now = self._clock()
            if now >= self._anew_at or self._anew_at > now + ANEW_S:  # or the clock went back
                self._plan, self._anew_at = self._plan.anew(), now + ANEW_S
            due_at = self._plan.due_at()
            if due_at is None or due_at > now:
                await self._wait(min(due_at or self._anew_at, self._anew_at), watcher)
                await asyncio.sleep(DEBOUNCE_S)
                continue
            began = clock()
            decision = await self._deciding(self._plan, now, self._rng)
            try:
                revisions = [await self._commit(batch) for batch in decision.batches]
            except OutOfSequenceError:
                conflicts += 1
                if conflicts >= CONFLICTS:
                    raise
                await asyncio.sleep(next(self._conflicts))
                continue
            if revisions:
                conflicts = 0
                self._conflicts = CONFLICT.delays(random.random)
                self._delays = RETRY.delays(random.random)
            await self._reach(max(revisions, default=0), watcher)
            self._plan = decision.after
            self._take_in(revisions)
            if self._plan.is_small():
                await asyncio.sleep(min(clock() - began, PAUSE_S))

    def _take_in(self, ours: Collection[int] = ()) -> None:
        """Bring the Plan up to what arrived; changes older than it are dropped.

        Args:
            ours: revisions that are what the Plan decided.
        """
        arrived, self._arrived = self._arrived, []
        new = [change for change in arrived if change.revision > self._seen and _ours(change)]
        if arrived:
            self._seen = max(self._seen, arrived[-1].revision)
        for by_us, group in groupby(new, lambda change: change.revision in ours):
            writes = [_write(change) for change in group]
            self._plan = self._plan.written(writes) if by_us else self._plan.noted(writes)

    async def _commit(self, writes: Sequence[Write]) -> int:
        expect: dict[Key, int] = {}
        for write in writes:
            key = key_of(write)
            old = find(self._plan.view, key)
            expect[key] = old.version.index if old is not None else 0
        return await self._store.commit(writes, expect)

    async def _reach(self, revision: int, watcher: asyncio.Task[None]) -> None:
        """Wait until our own commits have come back, stamped."""
        while not self._closed:
            self._woken.clear()
            newest = self._arrived[-1].revision if self._arrived else self._seen
            if newest >= revision:
                return
            await self._wait(None, watcher)

    async def _wait(self, wake_at: float | None, watcher: asyncio.Task[None]) -> None:
        """Until something changed, ``wake_at``, or the end of the watch."""
        seconds = None if wake_at is None else max(DEBOUNCE_S, wake_at - self._clock())
        woken = asyncio.create_task(self._woken.wait(), name="manager-woken")
        try:
            await asyncio.wait(
                (woken, watcher), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            woken.cancel()
        if watcher.done():
            watcher.result()


def _ours(change: Change) -> bool:
    return change.kind in KINDS


def _write(change: Change) -> Write:
    return Delete(change.kind, change.id) if change.message is None else Put(change.message)
