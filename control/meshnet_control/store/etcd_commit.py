"""Commits to a store in etcd: decided on what the memory has, written if that is still the last.

Touches etcd through a client.

    check and stamp ──> one transaction that compares the head ──> memory
         ^ another was quicker: the memory catches up, decide again
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

from meshnet_control.api import etcd_pb2 as pb
from meshnet_control.etcd import client as calls
from meshnet_control.etcd.errors import EtcdError, EtcdNoLeaseError, EtcdUnavailableError
from meshnet_control.store import etcd_layout as layout
from meshnet_control.store.etcd_asking import PAUSE_S, TRY_S, Asking
from meshnet_control.store.etcd_following import Follower
from meshnet_control.store.etcd_layout import HEAD, NOTHING, TURN, Head
from meshnet_control.store.fenced import Fence
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import (
    Change,
    Delete,
    Expect,
    NotLeadingError,
    OutOfSequenceError,
    Put,
    StoreFullError,
    StoreNoLeaderError,
    StoreUnavailableError,
)

STAGED_S: Final = 60
"""For which parts of a commit that never came are kept."""
TURN_S: Final = 5
"""For which others let a commit pass that they forestalled; for as long they wait when it dies."""
FORESTALLED: Final = 10
"""Times that others were quicker, before a commit asks them to let it pass. A large one asks after
the first."""
BULK: Final = 256
"""Changes of one commit from which on they are sealed by a thread."""

Groups: TypeAlias = list[list[pb.RequestOp]]
Txn: TypeAlias = tuple[list[pb.Compare], list[pb.RequestOp], list[pb.RequestOp]]
"""What is compared, what is done when it holds, and when it does not."""


class Committer:
    """Writes one commit at a time.

    Args:
        asking: the local member.
        follower: the memory that commits are decided on.
        sealer: of the cluster's objects.
        clock: seconds since 1970, for ``created_at`` and ``updated_at``.
    """

    def __init__(
        self, asking: Asking, follower: Follower, sealer: Sealer, clock: Callable[[], float]
    ) -> None:
        self._asking, self._etcd, self._follower = asking, asking.etcd, follower
        self._sealer, self._clock = sealer, clock
        self._turn = 0
        """etcd's revision that gave this manager the turn; 0: it has none."""

    async def commit(
        self, writes: Sequence[Put | Delete], expect: Expect, fence: Fence | None
    ) -> int:
        """Write all or nothing; see ``EtcdStore.commit``. One at a time."""
        memory = self._follower.memory
        async with AsyncExitStack() as turn:
            until = self._asking.until()
            sure = False  # that the memory is not behind what was committed before this call
            forestalled = 0
            while True:
                self._asking.bounded(until, uncertain=False)
                try:
                    changes = memory.prepare(writes, expect, int(self._clock() * 1e9))
                except OutOfSequenceError:
                    if sure:
                        raise
                    changes = []
                if not changes and sure:
                    return memory.revision
                if not changes:
                    if not await self._follower.caught_up():
                        raise StoreNoLeaderError
                    sure = True
                elif self._asking.short and self._adds(changes):
                    raise StoreFullError(f"cannot write to the store: {self._asking.short}")
                elif self._follower.head.parts:
                    await self._put_in_place(self._follower.head, until)
                elif await self._propose(changes, fence, until):
                    return changes[0].revision
                else:
                    forestalled += 1 if len(changes) < BULK else FORESTALLED
                    if forestalled >= FORESTALLED and not self._turn:
                        await self._take_turn(turn, until)

    def _adds(self, changes: Sequence[Change]) -> bool:
        """Whether there is an object that was not there."""
        get = self._follower.memory.get
        return any(c.message is not None and get(c.kind, c.id) is None for c in changes)

    # ---- the turn ----

    async def _take_turn(self, stack: AsyncExitStack, until: float) -> None:
        """Have others wait until this commit is through; ``stack`` gives the turn back."""
        tried = self._asking.tried
        lease = 0
        while not self._turn:
            if not lease:
                lease, _ = await tried(partial(self._etcd.lease_grant, TURN_S, TRY_S), until)
                stack.push_async_callback(self._give_back, lease)
            nobody, mine = [calls.is_at(TURN, 0)], [calls.put(TURN, b"", lease)]
            ask = partial(self._etcd.txn, nobody, mine, [calls.get(TURN)], TRY_S)
            try:
                reply = await tried(ask, until)
            except EtcdNoLeaseError:  # the wait for the turn was longer than its life
                lease = 0
                continue
            if reply.succeeded:
                self._turn = reply.header.revision
                return
            (found,) = reply.responses
            for kv in found.response_range.kvs:
                if kv.lease == lease:  # an answer was lost
                    self._turn = kv.mod_revision
            self._asking.bounded(until, uncertain=False)
            await asyncio.sleep(PAUSE_S)

    async def _give_back(self, lease: int) -> None:
        self._turn = 0
        with contextlib.suppress(EtcdError):
            await self._etcd.lease_revoke(lease, TRY_S)

    # ---- one proposal ----

    async def _propose(self, changes: Sequence[Change], fence: Fence | None, until: float) -> bool:
        """Write as the commit after the present head; False: there is another, decide again."""
        with self._follower.comparing() as head:
            return await self._propose_after(head, changes, fence, until)

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
        asking, follower = self._asking, self._follower
        uncertain = False
        while True:
            if follower.next_by:  # the watch was quicker than the answer, which may never come
                return follower.next_by == mine.by
            try:
                reply = await self._etcd.txn(*txn, timeout_s=TRY_S)
            except EtcdUnavailableError as error:
                uncertain = uncertain or error.uncertain
                await asking.unanswered(error, until, uncertain=uncertain)
                continue
            except EtcdError as error:
                raise asking.typed(error) from None
            asking.quorum.answered()
            if reply.succeeded:
                asking.wrote()
                follower.advance(replace(mine, mod_revision=reply.header.revision), changes)
                return True
            head, turn, leader = _found(reply.responses)
            moved = head.mod_revision != txn[0][0].mod_revision
            if moved:
                await follower.reaches(head.mod_revision, until, uncertain=uncertain)
                if follower.next_by == mine.by:
                    return True
                if uncertain and not follower.next_by:  # it is among commits that were missed
                    why = "the store in etcd moved on before this commit was answered"
                    raise StoreUnavailableError(why, uncertain=True)
            if fence is not None and leader != fence.mod_revision:
                raise NotLeadingError("another manager leads now")
            if turn != self._turn:  # another's, or this manager's is over
                self._turn = 0
                await asyncio.sleep(PAUSE_S)
            return False

    # ---- large commits ----

    async def _stage(self, mine: Head, groups: Groups, head: Head, until: float) -> bool:
        """Put the parts of a large commit beside the store; False: decide again, it took long."""
        tried = self._asking.tried
        lease, _ = await tried(partial(self._etcd.lease_grant, STAGED_S, TRY_S), until)
        for key, group in zip(mine.part_keys(), groups, strict=True):
            part = calls.put(key, layout.packed(group), lease)
            try:
                await tried(partial(self._etcd.txn, (), [part], timeout_s=TRY_S), until)
            except EtcdNoLeaseError:  # they were put there too slowly: anew
                return False
            if self._follower.head != head:
                with contextlib.suppress(EtcdError):
                    await self._etcd.lease_revoke(lease, TRY_S)
                return False
        return True

    async def _put_in_place(self, head: Head, until: float) -> None:
        """Carry out what a head's parts say; whoever comes first does, several may."""
        tried = self._asking.tried
        at_head = calls.is_at(HEAD, head.mod_revision)
        first, end = layout.staged_of(head.by)
        settled = replace(head, parts=0)
        for key in head.part_keys():
            found = await tried(partial(self._etcd.range, key, timeout_s=TRY_S), until)
            if not found.kvs:
                break  # somebody else is through
            part = layout.unpacked(found.kvs[0].value)
            await tried(partial(self._etcd.txn, [at_head], part, timeout_s=TRY_S), until)
        last = [calls.put(HEAD, settled.value()), calls.delete(first, end)]
        reply = await tried(
            partial(self._etcd.txn, [at_head], last, [calls.get(HEAD)], TRY_S), until
        )
        if reply.succeeded:
            self._follower.advance(replace(settled, mod_revision=reply.header.revision), ())
        else:
            await self._follower.reaches(_found(reply.responses)[0].mod_revision, until)


def _groups(changes: Sequence[Change], sealer: Sealer) -> Groups:
    return layout.parts_of(layout.operations(changes, sealer))


def _found(responses: Sequence[pb.ResponseOp]) -> tuple[Head, int, int]:
    """What a compare that failed found: the head, the revisions of turn and of the fence's key."""
    head, *others = [each.response_range.kvs for each in responses]
    turn, leader, *_ = [*(kvs[0].mod_revision if kvs else 0 for kvs in others), 0, 0]
    return layout.head_of(head[0]) if head else NOTHING, turn, leader
