"""The store of several managers: etcd holds it, and everything parsed is in memory here as well.

Touches etcd through a client. Two tasks of its own: one follows, one looks whether anybody leads.

    get, list ──> has the memory all that was committed before? (one small read) ──> memory
    commit ─────> check and stamp ──> one transaction that compares the head ──> memory ──> watchers
    follow ─────> commits of other managers, by a watch ──> memory ──> watchers

Layout and the one order of all commits: ``etcd_layout``. What commits: ``etcd_commit``; what
follows, and when a reader may be answered: ``etcd_following``. Be aware:

- A commit that was answered is on the disks of most managers.
- An answer that does not come is asked for again with the same compare: the transaction is carried
  out once. Whether it was is read from the commit that followed the head it compared.
- While an election runs (``quorum``) commits and reads wait; without a quorum reads answer what was
  last known and commits fail at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, TypeVar

from meshnet import ends
from meshnet_control.etcd.api import Etcd
from meshnet_control.etcd.arguments import QUOTA_BYTES
from meshnet_control.store import etcd_reading
from meshnet_control.store.etcd_asking import Asking
from meshnet_control.store.etcd_commit import Committer
from meshnet_control.store.etcd_following import Follower
from meshnet_control.store.etcd_layout import Head
from meshnet_control.store.fenced import Fence, FencedStore
from meshnet_control.store.memory import Memory
from meshnet_control.store.quorum import Quorum
from meshnet_control.store.sealer import Sealer, SealError
from meshnet_control.store.store import (
    Change,
    Delete,
    Expect,
    Object,
    Put,
    StoreClosedError,
    StoreError,
    Where,
)

LOAD_S: Final = 15.0

_M = TypeVar("_M", bound=Object)


class EtcdStore:
    """A ``Store`` in etcd. Made by ``open``."""

    def __init__(
        self,
        asking: Asking,
        sealer: Sealer,
        memory: Memory,
        head: Head,
        clock: Callable[[], float],
    ) -> None:
        self._memory = memory
        self._asking = asking
        self._follower = Follower(self._asking, sealer, memory, head)
        self._committer = Committer(self._asking, self._follower, sealer, clock)
        self._writing = asyncio.Lock()
        self._closed = False
        self._tasks = (
            asyncio.create_task(self._follower.follow(), name="store-follow"),
            asyncio.create_task(self._asking.look(), name="store-look"),
        )

    @classmethod
    async def open(
        cls,
        etcd: Etcd,
        sealer: Sealer,
        clock: Callable[[], float] = time.time,
        within_s: float = LOAD_S,
        quota_bytes: int = QUOTA_BYTES,
        ails: Callable[[], str] = str,
    ) -> EtcdStore:
        """Read everything and follow it from now on.

        Args:
            etcd: the local member; stays the caller's to close, after the store.
            sealer: of the cluster's objects.
            clock: seconds since 1970, for ``created_at`` and ``updated_at``.
            within_s: to wait for a leader.
            quota_bytes: what etcd's database may grow to.
            ails: why the member itself does not run; empty: it does.

        Raises:
            StoreNoLeaderError: there is none in time.
            StoreError: what etcd holds cannot be read with this sealer or version.
        """
        try:
            head, objects = await etcd_reading.first(etcd, sealer, within_s)
        except SealError as error:
            raise StoreError(f"cannot read the store in etcd: {error}") from None
        asking = Asking(etcd, Quorum(clock), quota_bytes, ails)
        return cls(asking, sealer, Memory(head.index, objects), head, clock)

    @property
    def revision(self) -> int:
        """Of the last commit that this manager has seen; 0: nothing was ever written."""
        return self._memory.revision

    @property
    def trouble(self) -> str:
        """Why commits fail now, and since when; empty: they do not."""
        return self._asking.trouble

    async def get(self, kind: type[_M], id: str) -> _M | None:  # noqa: A002 - the field's name
        """An object by its exact id, as of now; without a quorum as last known."""
        await self.caught_up()
        return self._memory.get(kind, id)

    async def list(self, kind: type[_M], where: Where | None = None) -> list[_M]:
        """Objects of a kind, as of now; without a quorum as last known; see ``Store.list``."""
        await self.caught_up()
        return self._memory.all(kind, where)

    async def commit(
        self,
        writes: Sequence[Put | Delete],
        expect: Expect | None = None,
        fence: Fence | None = None,
    ) -> int:
        """Write all or nothing; see ``Store.commit``.

        A caller that is cancelled meanwhile does not stop a commit that has begun.

        Args:
            writes: what to write.
            expect: versions that objects must have.
            fence: what must stand, too.

        Raises:
            NotLeadingError: the fence does not stand any more; nothing is written.
            OutOfSequenceError: an expectation does not hold; nothing is written.
            StoreNoLeaderError: too few managers; see ``uncertain``.
            StoreUnavailableError: no answer; see ``uncertain``.
            StoreError: there is no room, or the store is closed; nothing is written.
        """
        return await ends.finishing(self._commit(writes, expect or {}, fence))

    def fenced(self, fence: Fence) -> FencedStore:
        """The same store, whose commits are written only while the fence stands."""
        return FencedStore(self, fence)

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        """The commits after a revision; see ``Store.watch``.

        Commits that this manager missed while it was away come as one.

        Raises:
            CompactedError: more than 1024 commits ago, or before this process opened the store.
        """
        return self._memory.watch(from_revision)

    async def close(self) -> None:
        """Finish the running commit and end the watches. Twice is fine."""
        async with self._writing:
            if self._closed:
                return
            self._closed = True
            await ends.ended(*self._tasks)
            await self._follower.close()
            self._memory.close()

    async def caught_up(self) -> bool:
        """Wait until the memory has every commit that was answered before this call.

        Returns:
            False: there is no quorum, or the store is closed; what was last known may be old.
        """
        return not self._closed and await self._follower.caught_up()

    async def _commit(
        self, writes: Sequence[Put | Delete], expect: Expect, fence: Fence | None
    ) -> int:
        async with self._writing:
            if self._closed:
                raise StoreClosedError("the store in etcd is closed")
            return await self._committer.commit(writes, expect, fence)
