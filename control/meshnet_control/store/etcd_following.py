"""The memory of a store in etcd, kept at what all managers commit.

Touches etcd through a client.

    watch ──> commits of any manager, in order ──> memory ──> watchers
    gap, compacted ──> everything anew, seen as one commit
    reader ──> the head's revision, one small read that readers share ──> memory has it? ──> answer
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from meshnet import ends
from meshnet_control.api import etcd_pb2 as pb
from meshnet_control.etcd import client as calls
from meshnet_control.etcd.errors import EtcdCompactedError, EtcdError
from meshnet_control.store import etcd_layout as layout
from meshnet_control.store import etcd_reading
from meshnet_control.store.etcd_asking import PAUSE_S, TRY_S, Asking
from meshnet_control.store.etcd_layout import HEAD, PREFIX, Head
from meshnet_control.store.memory import Memory
from meshnet_control.store.sealer import Sealer, SealError
from meshnet_control.store.store import Change, StoreError

_log = logging.getLogger(__name__)

AGAIN_S: Final = 1.0
"""Before a store that cannot be read is read again."""
_UNREADABLE: Final = "unreadable"


class _GapError(Exception):
    """The memory is not the state before the commit that was told: read everything."""


class Follower:
    """The memory and the head it is at.

    Args:
        asking: the local member.
        sealer: of the cluster's objects.
        memory: what was read first.
        head: of it.
    """

    def __init__(self, asking: Asking, sealer: Sealer, memory: Memory, head: Head) -> None:
        self._asking, self._etcd, self._sealer = asking, asking.etcd, sealer
        self.memory, self.head = memory, head
        self._seen = head.mod_revision
        """etcd's revision up to which the watch has told everything."""
        self._loop = asyncio.get_running_loop()
        self._moved = asyncio.Event()
        """Replaced, and set, each time the head moves."""
        self._followed: tuple[int, str] | None = None
        """While a commit is proposed: the head it compares, and who wrote the next one."""
        self._round: asyncio.Task[bool] | None = None
        self._next_round: asyncio.Task[bool] | None = None

    async def caught_up(self) -> bool:
        """Wait until the memory has every commit that was answered before this call.

        Returns:
            False: there is no quorum; what was last known may be old.
        """
        if self._asking.lost:
            return False
        if self._next_round is None:  # who comes while one runs waits for one that begins later
            self._next_round = asyncio.create_task(self._barrier(self._round), name="store-read")
        running = self._next_round
        await asyncio.wait({running})
        return not running.cancelled() and running.result()

    async def reaches(self, mod_revision: int, until: float, *, uncertain: bool = False) -> None:
        """Wait until the memory has that commit; see ``Asking.bounded``."""
        while self.head.mod_revision < mod_revision:
            moved = self._moved
            try:
                async with asyncio.timeout_at(min(until, self._loop.time() + TRY_S)):
                    await moved.wait()
            except TimeoutError:
                self._asking.bounded(until, uncertain=uncertain)

    @contextlib.contextmanager
    def comparing(self) -> Iterator[Head]:
        """While a commit is proposed: the head it compares; ``next_by`` tells what followed it."""
        self._followed = (self.head.mod_revision, "")
        try:
            yield self.head
        finally:
            self._followed = None

    @property
    def next_by(self) -> str:
        """Who wrote the commit after the head that is compared; empty: nobody yet, or unknown."""
        return self._followed[1] if self._followed is not None else ""

    def advance(self, head: Head, changes: Sequence[Change]) -> None:
        """Make a commit seen, unless it was: its writer and the watch both tell of it."""
        if head.mod_revision <= self.head.mod_revision:
            return
        before, self.head = self.head, head
        if changes:
            self.memory.apply(changes)
            if self._followed is not None and self._followed[0] == before.mod_revision:
                self._followed = (before.mod_revision, head.by)
        self._wake()

    async def follow(self) -> None:
        """What anybody commits, until cancelled."""
        while True:
            try:
                await self._follow_once()
            except (_GapError, EtcdCompactedError):
                await self._reload()
            except EtcdError as error:
                _log.debug("the watch of the store ended: %s", error)
            except (SealError, StoreError) as error:
                self._asking.quorum.refused(_UNREADABLE, str(error))
                _log.warning("the store cannot be followed: %s", error)
                await asyncio.sleep(AGAIN_S)
                await self._reload()
            await asyncio.sleep(PAUSE_S)

    async def close(self) -> None:
        """End what readers wait for."""
        await ends.ended(*filter(None, (self._round, self._next_round)))

    # ---- inside ----

    async def _barrier(self, before: asyncio.Task[bool] | None) -> bool:
        if before is not None:
            await asyncio.wait({before})
        self._round, self._next_round = self._next_round, None
        until = self._asking.until()
        ask = partial(self._etcd.range, HEAD, timeout_s=TRY_S)
        try:
            found = await self._asking.tried(ask, until)
            await self.reaches(found.kvs[0].mod_revision if found.kvs else 0, until)
        except StoreError:
            return False
        return True

    async def _follow_once(self) -> None:
        end = calls.prefix_end(PREFIX)
        watch = self._etcd.watch(PREFIX, end, self._seen + 1)
        async with contextlib.aclosing(watch):
            async for told in watch:
                by_revision = itertools.groupby(told, lambda event: event.kv.mod_revision)
                for revision, events in by_revision:
                    await self._take(revision, tuple(events))
                    self._seen = max(self._seen, revision)

    async def _take(self, revision: int, events: Sequence[pb.Event]) -> None:
        """One commit of anybody's, or a part of a large one that is put in its place."""
        if revision <= self.head.mod_revision:
            return
        heads = [layout.head_of(event.kv) for event in events if event.kv.key == HEAD]
        if not heads:
            return
        (head,) = heads
        if head.index == self.head.index:
            self.advance(head, ())
            return
        if head.index != self.head.index + 1:
            raise _GapError
        if head.parts:
            operations = await etcd_reading.staged(self._etcd, head, revision)
            changes = layout.changes_of(operations, head.index, self._sealer)
        else:
            changes = layout.changes_in(events, head.index, self._sealer)
        self.advance(head, changes)

    async def _reload(self) -> None:
        """Read everything again; watchers see what they missed as one commit."""
        quorum = self._asking.quorum
        try:
            head, objects = await etcd_reading.load(self._etcd, self._sealer)
        except EtcdError as error:
            _log.info("the store cannot be read again yet: %s", error)
            return
        except (SealError, StoreError) as error:
            quorum.refused(_UNREADABLE, str(error))
            return
        quorum.refused(_UNREADABLE, "")
        self._seen = max(self._seen, head.mod_revision)
        if head.mod_revision <= self.head.mod_revision:
            return
        if head.index != self.memory.revision:
            self.memory.become(head.index, objects)
        self.head = head
        self._wake()

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
