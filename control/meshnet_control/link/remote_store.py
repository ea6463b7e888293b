"""The cluster's store from meshnetd: each call is one to meshnet-manager, over a unix socket.

    get, list, commit ── one call ──> meshnet-manager ──> its store
    watch ── stream, begun anew after the last revision when meshnet-manager was started again
    revision, trouble <── Follow ── told whenever they change, and with each answer

Be aware: while meshnet-manager is away a call waits for it, for ``PATIENCE_S`` at most. A commit
that broke half-way may have been written. It is sent again with the same ``expect``: should that
not hold any more, the objects tell whether it was ours that came first. One that puts objects
without an ``expect`` for each is not sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from meshnet import ends
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.api import manager_pb2_grpc
from meshnet_control.identity.channel import CallEndedError, call_ends
from meshnet_control.link import wire
from meshnet_control.store.store import (
    Change,
    CompactedError,
    Delete,
    Expect,
    Key,
    Object,
    OutOfSequenceError,
    Put,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
    Where,
    key_of,
)

PATIENCE_S: Final = 15.0
"""For one call, the absence of meshnet-manager included; it is back within two seconds."""
AGAIN_S: Final = 0.1
ABSENT: Final = "meshnet-manager does not answer: try again, or see its log on this manager"
UNSURE: Final = (
    "meshnet-manager ended while it was writing: look whether it is done, then try again"
)
_M = TypeVar("_M", bound=Object)
_R = TypeVar("_R", mpb.GetReply, mpb.ListReply, mpb.CommitReply)
_S = TypeVar("_S", mpb.WatchReply, mpb.StoreState)
if TYPE_CHECKING:  # no generic class when it runs
    _WatchCall = grpc.aio.UnaryStreamCall[mpb.WatchRequest, mpb.WatchReply]


class _BrokenError(Exception):
    """The call may have been done or not."""


class RemoteStore:
    """A ``Store``. ``follow`` is to run as long as it is used.

    Args:
        channel: to meshnet-manager.
        patience_s: for one call.
    """

    def __init__(self, channel: grpc.aio.Channel, patience_s: float = PATIENCE_S) -> None:
        self._stub = manager_pb2_grpc.StoreStub(channel)
        self._patience_s = patience_s
        self._state = mpb.StoreState()
        self._answers = False
        self._closed = False
        self._commits: set[asyncio.Future[int]] = set()
        self._watches: set[_WatchCall] = set()

    @property
    def revision(self) -> int:
        """Of the last commit that was heard of; 0: nothing was ever written."""
        return self._state.revision

    @property
    def trouble(self) -> str:
        """Why commits fail now; empty: they do not."""
        return self._state.trouble if self._answers else f"store: {ABSENT}"

    async def follow(self) -> None:
        """Hear of revisions and troubles, until cancelled or closed."""
        while not self._closed:
            call = self._stub.Follow(mpb.FollowRequest(), wait_for_ready=True)
            try:
                while True:
                    self._heard(await _next(call))
            except CallEndedError:
                self._answers = False
            finally:
                call.cancel()
            await asyncio.sleep(AGAIN_S)

    async def get(self, kind: type[_M], id: str) -> _M | None:  # noqa: A002 - the field's name
        """An object by its exact id; None when there is none."""
        reply = await self._read(self._stub.Get, wire.key(cast("Key", (kind, id))))
        return wire.found(reply.object, kind) if reply.HasField("object") else None

    async def list(self, kind: type[_M], where: Where | None = None) -> list[_M]:
        """The objects of a kind that meet the conditions, in no promised order."""
        reply = await self._read(self._stub.List, wire.listing(kind, where or Where()))
        return [wire.found(each, kind) for each in reply.objects]

    async def commit(self, writes: Sequence[Put | Delete], expect: Expect | None = None) -> int:
        """Write all or nothing; see ``Store.commit``.

        A caller that is cancelled meanwhile does not stop a commit that has begun.

        Raises:
            OutOfSequenceError: an expectation does not hold; nothing is written.
            StoreUnavailableError: ``ABSENT`` or ``UNSURE``: it may be written.
            StoreError: as the store behind says; nothing is written.
        """
        last = {key_of(write): write for write in writes}
        running = asyncio.ensure_future(self._commit(last, dict(expect or {})))
        self._commits.add(running)
        running.add_done_callback(self._ended)
        return await asyncio.shield(running)

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        """The commits after a revision; see ``Store.watch``.

        Raises:
            CompactedError: that revision is too long ago; raised by the first step.
        """
        return self._walk(from_revision, self._watch(from_revision))

    async def close(self) -> None:
        """Finish the running commits, end the watches. Twice is fine."""
        self._closed = True
        if self._commits:
            await asyncio.wait(set(self._commits), timeout=ends.STEP_S)
        for call in self._watches:
            call.cancel()

    # ---- inside ----

    def _ended(self, commit: asyncio.Future[int]) -> None:
        self._commits.discard(commit)
        if not commit.cancelled():
            commit.exception()  # whoever asked may have gone

    def _heard(self, said: mpb.StoreState) -> None:
        self._answers = True
        newest = max(said.revision, self._state.revision)
        self._state = mpb.StoreState(revision=newest, trouble=said.trouble)

    async def _read(self, call: Callable[..., Awaitable[_R]], asked: Message) -> _R:
        until = asyncio.get_running_loop().time() + self._patience_s
        while True:
            try:
                return await self._ask(call, asked, until)
            except _BrokenError:
                await asyncio.sleep(AGAIN_S)

    async def _commit(self, writes: dict[Key, Put | Delete], expect: Expect) -> int:
        until = asyncio.get_running_loop().time() + self._patience_s
        asked = wire.request(list(writes.values()), expect)
        broken = False
        while True:
            try:
                return (await self._ask(self._stub.Commit, asked, until)).revision
            except _BrokenError:
                puts = {key for key, write in writes.items() if isinstance(write, Put)}
                if not puts <= expect.keys():
                    raise StoreUnavailableError(UNSURE, uncertain=True) from None
                broken = True
                await asyncio.sleep(AGAIN_S)
            except OutOfSequenceError:
                revision = await self._done(writes, expect) if broken else None
                if revision is None:
                    raise
                return revision

    async def _done(self, writes: dict[Key, Put | Delete], expect: Expect) -> int | None:
        """The revision of a commit of ours that broke, if it was written before it did."""
        revisions = [self.revision]
        for (kind, name), write in writes.items():
            there = await self.get(kind, name)
            if isinstance(write, Delete):
                if there is not None:
                    return None
                continue
            if there is None or (expect[kind, name] and not _same(there, write.message)):
                return None  # an object that is new has an id that nobody else would give it
            revisions.append(there.version.index)
        return max(revisions)

    async def _ask(self, call: Callable[..., Awaitable[_R]], asked: Message, until: float) -> _R:
        """One attempt.

        Raises:
            _BrokenError: it began, and its end was not heard.
        """
        if self._closed:
            raise StoreClosedError("the store is closed")
        left = until - asyncio.get_running_loop().time()
        if left <= 0:
            raise StoreUnavailableError(ABSENT, uncertain=True)
        try:
            with call_ends():
                reply = await call(asked, timeout=left, wait_for_ready=True)
        except CallEndedError as error:
            if error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise StoreUnavailableError(ABSENT, uncertain=True) from None
            if error.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, None}:
                raise _BrokenError from None
            raise StoreError(f"meshnet-manager: {error}") from None
        self._heard(reply.state)
        if reply.HasField("fault"):
            raise wire.error(reply.fault)
        return reply

    def _watch(self, from_revision: int) -> _WatchCall:
        asked = mpb.WatchRequest(from_revision=from_revision)
        call = self._stub.Watch(asked, wait_for_ready=True)
        self._watches.add(call)
        return call

    async def _walk(self, seen: int, call: _WatchCall) -> AsyncIterator[Sequence[Change]]:
        try:
            while not self._closed:
                reply = mpb.WatchReply()
                with contextlib.suppress(CallEndedError):
                    reply = await _next(call)
                failed = wire.error(reply.fault) if reply.HasField("fault") else None
                if isinstance(failed, CompactedError):
                    raise failed
                if not reply.changes and not reply.closed:  # it has no store now: there will be one
                    self._watches.discard(call)
                    await asyncio.sleep(AGAIN_S)
                    call = self._watch(seen)
                    continue
                if reply.closed:
                    return
                batch = wire.changes(reply)
                seen = max(seen, *(change.revision for change in batch))
                yield batch
        finally:
            self._watches.discard(call)
            call.cancel()


async def _next(call: grpc.aio.UnaryStreamCall[Any, _S]) -> _S:
    """The next message of a stream.

    Raises:
        CallEndedError: there is none.
    """
    with call_ends():
        said = await call.read()
    if not isinstance(said, Message):  # grpc.aio.EOF
        raise CallEndedError("the stream has ended")
    return said  # type: ignore[return-value] # either a message of the stream's, or EOF


def _same(one: Object, other: Object) -> bool:
    """Whether two objects differ in nothing but what the store sets."""
    bare = []
    for message in (one, other):
        copied = type(message).FromString(message.SerializeToString())
        for field in ("version", "created_at", "updated_at"):
            copied.ClearField(field)
        bare.append(copied)
    return bare[0] == bare[1]
