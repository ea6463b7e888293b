"""The leader's loop: the store's objects in, the orchestration's writes out. Effects only here.

While this manager leads (``leadership``), with a store that writes only as long as it does:

    watch ──> StoreView ──converge──> commit with compare ──> wait: next change, or wake_at ──┐
      ^                             │ out of sequence: list everything again             │
      └─────────────────────────────┴────────────────────────────────────────────────────┘

Be aware: a commit names the version of every object it changes, so a decision made from an older
picture is never written; it is made again. So is one that could not be written because the disk
was full or failed. Changes that arrive close together (5 ms) are decided on together. Errors of our
own code end ``run``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from meshnet import ends
from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.manager.leadership import Leadership, Sole
from meshnet_control.orchestrate.pipeline import converge, find, key_of
from meshnet_control.orchestrate.store_view import Delete, Put, StoreView
from meshnet_control.store.store import (
    Change,
    CompactedError,
    Key,
    NotLeadingError,
    Object,
    OutOfSequenceError,
    Store,
    StoreClosedError,
    StoreError,
    retry_delays,
)

_log = logging.getLogger(__name__)

DEBOUNCE_S = 0.005
KINDS = (pb.Cluster, pb.Node, pb.Service, pb.Task, pb.Network)


class Manager:
    """Keeps the cluster's tasks as its services want them, for as long as this node leads.

    Args:
        store: the cluster's objects.
        rng: for the ids of new objects.
        clock: wall-clock time in Unix seconds.
        leadership: when this manager leads; None: it is the only one.
    """

    def __init__(
        self,
        store: Store,
        rng: Rng,
        clock: Callable[[], float],
        leadership: Leadership | None = None,
    ) -> None:
        self._store = store
        self._leadership = leadership or Sole(store)
        self._rng = rng
        self._clock = clock
        self._view = StoreView()
        self._seen = 0
        self._woken = asyncio.Event()
        self._closed = False
        self._arrived: list[Change] = []
        self._delays = retry_delays()

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
            except (OutOfSequenceError, CompactedError):
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
        """A fresh StoreView, and the changes after it."""
        self._arrived.clear()
        while True:
            before = self._store.revision
            objects: list[Object] = []
            for kind in KINDS:
                objects.extend(await self._store.list(kind))
            if self._store.revision == before:
                break
        self._view, self._seen = StoreView.of(objects), before
        return self._store.watch(before)

    async def _watch(self, changes: AsyncIterator[Sequence[Change]]) -> None:
        async for batch in changes:
            self._arrived.extend(batch)
            self._woken.set()
        self._closed = True

    async def _lead(self, watcher: asyncio.Task[None]) -> None:
        """Decide, commit, wait; until the store closes or the StoreView proves to be old."""
        while not self._closed:
            self._woken.clear()
            self._take_in()
            step = converge(self._view, self._clock(), self._rng)
            if step.writes:
                await self._commit(step.writes, watcher)
            else:
                await self._wait(step.wake_at, watcher)
                await asyncio.sleep(DEBOUNCE_S)

    def _take_in(self) -> None:
        """Bring the StoreView up to what arrived; changes older than the StoreView are dropped."""
        arrived, self._arrived = self._arrived, []
        new = [change for change in arrived if change.revision > self._seen and _ours(change)]
        if arrived:
            self._seen = max(self._seen, arrived[-1].revision)
        if new:
            self._view = self._view.apply(
                Delete(change.kind, change.id) if change.message is None else Put(change.message)
                for change in new
            )

    async def _commit(self, writes: Sequence[Put | Delete], watcher: asyncio.Task[None]) -> None:
        expect: dict[Key, int] = {}
        for write in writes:
            key = key_of(write)
            old = find(self._view, key)
            expect[key] = old.version.index if old is not None else 0
        revision = await self._store.commit(writes, expect)
        self._delays = retry_delays()
        while self._seen < revision and not self._closed:  # our own commit comes back, stamped
            await self._wait(None, watcher)
            self._woken.clear()
            self._take_in()

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
