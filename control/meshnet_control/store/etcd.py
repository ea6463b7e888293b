"""The store of several managers: etcd holds it, and everything parsed is in memory here as well.

Touches etcd through a client. Two tasks of its own: one follows, one looks whether anybody leads.

    get, list ──> has the memory all that was committed before? (one small read) ──> memory
    commit ─────> check and stamp ──> one transaction that compares the head ──> memory ──> watchers
    follow ─────> commits of other managers, by a watch ──> memory ──> watchers

Layout and the one order of all commits: ``etcd_layout``. Be aware:

- A commit that was answered is on the disks of most managers.
- An answer that does not come is asked for again with the same compare: the transaction is carried
  out once. Whether it was is read from the commit that followed the head it compared.
- While an election runs (``quorum``) commits and reads wait; without a quorum reads answer what was
  last known and commits fail at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias, TypeVar

from meshnet import ends
from meshnet_control.api import etcd_pb2 as pb
from meshnet_control.etcd import client as calls
from meshnet_control.etcd.api import Etcd
from meshnet_control.etcd.errors import (
    EtcdCompactedError,
    EtcdError,
    EtcdFullError,
    EtcdTooLargeError,
    EtcdUnavailableError,
)
from meshnet_control.store import etcd_layout as layout
from meshnet_control.store import etcd_reading
from meshnet_control.store.etcd_layout import HEAD, NOTHING, PREFIX, TURN, Head
from meshnet_control.store.fenced import Fence, FencedStore
from meshnet_control.store.memory import Memory
from meshnet_control.store.quorum import Quorum
from meshnet_control.store.sealer import Sealer, SealError
from meshnet_control.store.store import (
    Change,
    Delete,
    Expect,
    NotLeadingError,
    Object,
    OutOfSequenceError,
    Put,
    StoreClosedError,
    StoreError,
    StoreFullError,
    StoreNoLeaderError,
    StoreTooLargeError,
    StoreUnavailableError,
)

_log = logging.getLogger(__name__)

TRY_S: Final = 1.0
"""For one answer, before the same is asked again."""
COMMIT_S: Final = 10.0
"""For a commit while there is a leader."""
LOAD_S: Final = 15.0
LOOK_S: Final = 1.0
"""Between two looks at who leads."""
PAUSE_S: Final = 0.05
"""Between two tries."""
AGAIN_S: Final = 1.0
"""Before a store that cannot be read is read again."""
STAGED_S: Final = 60
"""For which parts of a commit that never came are kept."""
TURN_S: Final = 5
"""For which others let a commit pass that they forestalled; for as long they wait when it dies."""
FORESTALLED: Final = 10
"""Times that others were quicker, before a commit asks them to let it pass. A large one asks after
the first."""
BULK: Final = 256
"""Changes of one commit from which on they are sealed by a thread."""
_FULL: Final = "full"
_UNREADABLE: Final = "unreadable"

_M = TypeVar("_M", bound=Object)
_R = TypeVar("_R")
Groups: TypeAlias = list[list[pb.RequestOp]]
Txn: TypeAlias = tuple[list[pb.Compare], list[pb.RequestOp], list[pb.RequestOp]]
"""What is compared, what is done when it holds, and when it does not."""


class _GapError(Exception):
    """The memory is not the state before the commit that was told: read everything."""


class EtcdStore:
    """A ``Store`` in etcd. Made by ``open``."""

    def __init__(
        self, etcd: Etcd, sealer: Sealer, memory: Memory, head: Head, clock: Callable[[], float]
    ) -> None:
        self._etcd = etcd
        self._sealer = sealer
        self._memory = memory
        self._head = head
        self._clock = clock
        self._seen = head.mod_revision
        """etcd's revision up to which the watch has told everything."""
        self._loop = asyncio.get_running_loop()
        self._quorum = Quorum(clock)
        self._writing = asyncio.Lock()
        self._moved = asyncio.Event()
        """Replaced, and set, each time the head moves."""
        self._followed: tuple[int, str] | None = None
        """While a commit is proposed: the head it compares, and who wrote the next one."""
        self._turn = 0
        """etcd's revision that gave this manager the turn; 0: it has none."""
        self._round: asyncio.Task[bool] | None = None
        self._next_round: asyncio.Task[bool] | None = None
        self._closed = False
        self._tasks = (
            asyncio.create_task(self._follow(), name="store-follow"),
            asyncio.create_task(self._look(), name="store-look"),
        )

    @classmethod
    async def open(
        cls,
        etcd: Etcd,
        sealer: Sealer,
        clock: Callable[[], float] = time.time,
        within_s: float = LOAD_S,
    ) -> EtcdStore:
        """Read everything and follow it from now on.

        Args:
            etcd: the local member; stays the caller's to close, after the store.
            sealer: of the cluster's objects.
            clock: seconds since 1970, for ``created_at`` and ``updated_at``.
            within_s: to wait for a leader.

        Raises:
            StoreNoLeaderError: there is none in time.
            StoreError: what etcd holds cannot be read with this sealer or version.
        """
        try:
            head, objects = await etcd_reading.first(etcd, sealer, within_s)
        except SealError as error:
            raise StoreError(f"cannot read the store in etcd: {error}") from None
        return cls(etcd, sealer, Memory(head.index, objects), head, clock)

    @property
    def revision(self) -> int:
        """Of the last commit that this manager has seen; 0: nothing was ever written."""
        return self._memory.revision

    @property
    def trouble(self) -> str:
        """Why commits fail now, and since when; empty: they do not."""
        return self._quorum.trouble(self._loop.time())

    async def get(self, kind: type[_M], id: str) -> _M | None:  # noqa: A002 - the field's name
        """An object by its exact id, as of now; without a quorum as last known."""
        await self.caught_up()
        return self._memory.get(kind, id)

    async def list(self, kind: type[_M]) -> list[_M]:
        """Every object of a kind, as of now; without a quorum as last known."""
        await self.caught_up()
        return self._memory.all(kind)

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
        work = self._commit(writes, expect or {}, fence)
        return await asyncio.shield(asyncio.ensure_future(work))

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
            await ends.ended(*self._tasks, *filter(None, (self._round, self._next_round)))
            self._memory.close()

    async def caught_up(self) -> bool:
        """Wait until the memory has every commit that was answered before this call.

        Returns:
            False: there is no quorum, or the store is closed; what was last known may be old.
        """
        if self._closed or self._quorum.lost(self._loop.time()):
            return False
        if self._next_round is None:  # who comes while one runs waits for one that begins later
            self._next_round = asyncio.create_task(self._barrier(self._round), name="store-read")
        running = self._next_round
        await asyncio.wait({running})
        return not running.cancelled() and running.result()

    # ---- commits ----

    async def _commit(
        self, writes: Sequence[Put | Delete], expect: Expect, fence: Fence | None
    ) -> int:
        async with self._writing, AsyncExitStack() as turn:
            until = self._loop.time() + COMMIT_S
            sure = False  # that the memory is not behind what was committed before this call
            forestalled = 0
            while True:
                if self._closed:
                    raise StoreClosedError("the store in etcd is closed")
                self._bounded(until, uncertain=False)
                try:
                    changes = self._memory.prepare(writes, expect, int(self._clock() * 1e9))
                except OutOfSequenceError:
                    if sure:
                        raise
                    changes = []
                if not changes and sure:
                    return self._memory.revision
                if not changes:
                    if not await self.caught_up():
                        raise StoreNoLeaderError
                    sure = True
                elif self._head.parts:
                    await self._put_in_place(self._head, until)
                elif await self._propose(changes, fence, until):
                    return changes[0].revision
                else:
                    forestalled += 1 if len(changes) < BULK else FORESTALLED
                    if forestalled >= FORESTALLED and not self._turn:
                        await self._take_turn(turn, until)

    async def _take_turn(self, stack: AsyncExitStack, until: float) -> None:
        """Have others wait until this commit is through; ``stack`` gives the turn back."""
        lease, _ = await self._tried(partial(self._etcd.lease_grant, TURN_S, TRY_S), until)
        stack.push_async_callback(self._give_back, lease)
        nobody, mine = [calls.is_at(TURN, 0)], [calls.put(TURN, b"", lease)]
        while not self._turn:
            ask = partial(self._etcd.txn, nobody, mine, [calls.get(TURN)], TRY_S)
            reply = await self._tried(ask, until)
            if reply.succeeded:
                self._turn = reply.header.revision
                return
            (found,) = reply.responses
            for kv in found.response_range.kvs:
                if kv.lease == lease:  # an answer was lost
                    self._turn = kv.mod_revision
            self._bounded(until, uncertain=False)
            await asyncio.sleep(PAUSE_S)

    async def _give_back(self, lease: int) -> None:
        self._turn = 0
        with contextlib.suppress(EtcdError):
            await self._etcd.lease_revoke(lease, TRY_S)

    async def _propose(self, changes: Sequence[Change], fence: Fence | None, until: float) -> bool:
        """Write as the commit after the present head; False: there is another, decide again."""
        self._followed = (self._head.mod_revision, "")
        try:
            return await self._propose_after(self._head, changes, fence, until)
        finally:
            self._followed = None

    async def _propose_after(
        self, head: Head, changes: Sequence[Change], fence: Fence | None, until: float
    ) -> bool:
        mine = Head(head.index + 1, secrets.token_hex(8))
        compare = [calls.is_at(HEAD, head.mod_revision), calls.is_at(TURN, self._turn)]
        if fence is not None:
            compare.append(calls.is_at(fence.key, fence.mod_revision))
        if len(changes) < BULK:
            groups = _groups(changes, self._sealer)
        else:
            groups = await asyncio.to_thread(_groups, changes, self._sealer)
        if len(groups) == 1:
            success = groups[0]
        else:
            mine = replace(mine, parts=len(groups))
            if not await self._stage(mine, groups, head, until):
                return False
            compare += [calls.exists(key) for key in mine.part_keys()]
            success = [calls.keep(key) for key in mine.part_keys()]
        success = [*success, calls.put(HEAD, mine.value())]
        failure = [calls.get(HEAD), calls.get(TURN)]
        if fence is not None:
            failure.append(calls.get(fence.key))
        return await self._write(mine, changes, (compare, success, failure), fence, until)

    async def _write(
        self,
        mine: Head,
        changes: Sequence[Change],
        txn: Txn,
        fence: Fence | None,
        until: float,
    ) -> bool:
        uncertain = False
        while True:
            if self._next_by():  # the watch was quicker than the answer, which may never come
                return self._next_by() == mine.by
            try:
                reply = await self._etcd.txn(*txn, timeout_s=TRY_S)
            except EtcdUnavailableError as error:
                uncertain = uncertain or error.uncertain
                await self._unanswered(error, until, uncertain=uncertain)
                continue
            except EtcdError as error:
                raise self._typed(error) from None
            self._quorum.answered()
            if reply.succeeded:
                self._quorum.refused(_FULL, "")
                self._advance(replace(mine, mod_revision=reply.header.revision), changes)
                return True
            head, turn, leader = _found(reply.responses)
            moved = head.mod_revision != txn[0][0].mod_revision
            if moved:
                await self._reaches(head.mod_revision, until, uncertain=uncertain)
                if self._next_by() == mine.by:
                    return True
                if uncertain and not self._next_by():  # it is among commits that were missed
                    why = "the store in etcd moved on before this commit was answered"
                    raise StoreUnavailableError(why, uncertain=True)
            if fence is not None and leader != fence.mod_revision:
                raise NotLeadingError("another manager leads now")
            if turn != self._turn:  # another's, or this manager's is over
                self._turn = 0
                await asyncio.sleep(PAUSE_S)
            return False

    def _next_by(self) -> str:
        """Who wrote the commit after the head that is compared; empty: nobody yet, or unknown."""
        return self._followed[1] if self._followed is not None else ""

    async def _stage(self, mine: Head, groups: Groups, head: Head, until: float) -> bool:
        """Put the parts of a large commit beside the store; False: the head moved meanwhile."""
        lease, _ = await self._tried(partial(self._etcd.lease_grant, STAGED_S, TRY_S), until)
        for key, group in zip(mine.part_keys(), groups, strict=True):
            part = calls.put(key, layout.packed(group), lease)
            await self._tried(partial(self._etcd.txn, (), [part], timeout_s=TRY_S), until)
            if self._head != head:
                with contextlib.suppress(EtcdError):
                    await self._etcd.lease_revoke(lease, TRY_S)
                return False
        return True

    async def _put_in_place(self, head: Head, until: float) -> None:
        """Carry out what a head's parts say; whoever comes first does, several may."""
        at_head = calls.is_at(HEAD, head.mod_revision)
        first, end = layout.staged_of(head.by)
        settled = replace(head, parts=0)
        for key in head.part_keys():
            found = await self._tried(partial(self._etcd.range, key, timeout_s=TRY_S), until)
            if not found.kvs:
                break  # somebody else is through
            part = layout.unpacked(found.kvs[0].value)
            await self._tried(partial(self._etcd.txn, [at_head], part, timeout_s=TRY_S), until)
        last = [calls.put(HEAD, settled.value()), calls.delete(first, end)]
        reply = await self._tried(
            partial(self._etcd.txn, [at_head], last, [calls.get(HEAD)], TRY_S), until
        )
        if reply.succeeded:
            self._advance(replace(settled, mod_revision=reply.header.revision), ())
        else:
            await self._reaches(_found(reply.responses)[0].mod_revision, until)

    # ---- what others write ----

    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_once()
            except (_GapError, EtcdCompactedError):
                await self._reload()
            except EtcdError as error:
                _log.debug("the watch of the store ended: %s", error)
            except (SealError, StoreError) as error:
                self._quorum.refused(_UNREADABLE, str(error))
                _log.warning("the store cannot be followed: %s", error)
                await asyncio.sleep(AGAIN_S)
                await self._reload()
            await asyncio.sleep(PAUSE_S)

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
        if revision <= self._head.mod_revision:
            return
        heads = [layout.head_of(event.kv) for event in events if event.kv.key == HEAD]
        if not heads:
            return
        (head,) = heads
        if head.index == self._head.index:
            self._advance(head, ())
            return
        if head.index != self._head.index + 1:
            raise _GapError
        if head.parts:
            operations = await etcd_reading.staged(self._etcd, head, revision)
            changes = layout.changes_of(operations, head.index, self._sealer)
        else:
            changes = layout.changes_in(events, head.index, self._sealer)
        self._advance(head, changes)

    async def _reload(self) -> None:
        """Read everything again; watchers see what they missed as one commit."""
        try:
            head, objects = await etcd_reading.load(self._etcd, self._sealer)
        except EtcdError as error:
            _log.info("the store cannot be read again yet: %s", error)
            return
        except (SealError, StoreError) as error:
            self._quorum.refused(_UNREADABLE, str(error))
            return
        self._quorum.refused(_UNREADABLE, "")
        self._seen = max(self._seen, head.mod_revision)
        if head.mod_revision <= self._head.mod_revision:
            return
        if head.index != self._memory.revision:
            self._memory.become(head.index, objects)
        self._head = head
        self._wake()

    def _advance(self, head: Head, changes: Sequence[Change]) -> None:
        """Make a commit seen, unless it was: its writer and the watch both tell of it."""
        if head.mod_revision <= self._head.mod_revision:
            return
        before, self._head = self._head, head
        if changes:
            self._memory.apply(changes)
            if self._followed is not None and self._followed[0] == before.mod_revision:
                self._followed = (before.mod_revision, head.by)
        self._wake()

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    # ---- waiting ----

    async def _barrier(self, before: asyncio.Task[bool] | None) -> bool:
        if before is not None:
            await asyncio.wait({before})
        self._round, self._next_round = self._next_round, None
        until = self._loop.time() + COMMIT_S
        try:
            found = await self._tried(partial(self._etcd.range, HEAD, timeout_s=TRY_S), until)
            await self._reaches(found.kvs[0].mod_revision if found.kvs else 0, until)
        except StoreError:
            return False
        return True

    async def _reaches(self, mod_revision: int, until: float, *, uncertain: bool = False) -> None:
        """Until the memory has that commit."""
        while self._head.mod_revision < mod_revision:
            moved = self._moved
            try:
                async with asyncio.timeout_at(min(until, self._loop.time() + TRY_S)):
                    await moved.wait()
            except TimeoutError:
                self._bounded(until, uncertain=uncertain)

    async def _tried(self, call: Callable[[], Awaitable[_R]], until: float) -> _R:
        """The answer to what may be asked twice."""
        while True:
            try:
                answer = await call()
            except EtcdUnavailableError as error:
                await self._unanswered(error, until)
                continue
            except EtcdError as error:
                raise self._typed(error) from None
            self._quorum.answered()
            return answer

    async def _unanswered(self, error: EtcdError, until: float, *, uncertain: bool = False) -> None:
        _log.debug("%s", error)
        self._quorum.unanswered(self._loop.time())
        self._bounded(until, uncertain=uncertain)
        await asyncio.sleep(PAUSE_S)

    def _bounded(self, until: float, *, uncertain: bool) -> None:
        now = self._loop.time()
        if self._quorum.lost(now):
            raise StoreNoLeaderError(uncertain=uncertain)
        if now >= until:
            raise StoreUnavailableError("the store in etcd does not answer", uncertain=uncertain)

    def _typed(self, error: EtcdError) -> StoreError:
        if isinstance(error, EtcdFullError):
            self._quorum.refused(_FULL, error.details)
            return StoreFullError(f"cannot write to the store in etcd: {error.details}")
        if isinstance(error, EtcdTooLargeError):
            return StoreTooLargeError(f"cannot write to the store in etcd: {error.details}")
        return StoreError(f"cannot write to the store in etcd: {error.details}")

    async def _look(self) -> None:
        """See that nobody leads, or that somebody does again, though nobody asks for anything."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                if self._quorum.doubtful:
                    await self._etcd.range(HEAD, timeout_s=TRY_S)
                    self._quorum.answered()
                    continue
                status = await self._etcd.status(timeout_s=TRY_S)
                if not status.leader:
                    self._quorum.unanswered(self._loop.time())
                full = [said for said in status.errors if "NOSPACE" in said]
                self._quorum.refused(_FULL, "".join(full))
            except EtcdError as error:
                _log.debug("%s", error)
                self._quorum.unanswered(self._loop.time())


def _groups(changes: Sequence[Change], sealer: Sealer) -> Groups:
    return layout.parts_of(layout.operations(changes, sealer))


def _found(responses: Sequence[pb.ResponseOp]) -> tuple[Head, int, int]:
    """What a compare that failed found: the head, the revisions of turn and of the fence's key."""
    head, *others = [each.response_range.kvs for each in responses]
    turn, leader, *_ = [*(kvs[0].mod_revision if kvs else 0 for kvs in others), 0, 0]
    return layout.head_of(head[0]) if head else NOTHING, turn, leader
