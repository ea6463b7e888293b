"""The store for meshnetd: ``link/remote_store.py``'s other end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

from meshnet import ends
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.api import manager_pb2_grpc
from meshnet_control.identity.channel import CallEndedError, call_ends
from meshnet_control.link import wire
from meshnet_control.manager.authority import AnyContext
from meshnet_control.store.store import CompactedError, Store, StoreError

LOOK_S: Final = 1.0
"""How often a trouble is looked for when nothing is written."""
_R = TypeVar("_R", mpb.GetReply, mpb.ListReply, mpb.CommitReply)


class StoreService(manager_pb2_grpc.StoreServicer):
    """Serves a store.

    Args:
        store: the one of now.
        trouble: of what keeps the store; told where the store has none.

    Raises: ``store`` may raise a StoreError: there is none.
    """

    def __init__(self, store: Callable[[], Store], trouble: Callable[[], str] = str) -> None:
        self._store, self._trouble = store, trouble

    async def Get(  # noqa: N802 - the service's name
        self, request: mpb.ObjectKey, _context: AnyContext
    ) -> mpb.GetReply:
        """One object."""
        reply = mpb.GetReply()
        try:
            found = await self._store().get(wire.KIND[request.kind], request.id)
            if found is not None:
                reply.object.CopyFrom(wire.stored(found))
        except StoreError as error:
            reply.fault.CopyFrom(wire.fault(error))
        return self._stated(reply)

    async def List(  # noqa: N802 - the service's name
        self, request: mpb.ListRequest, _context: AnyContext
    ) -> mpb.ListReply:
        """All objects of a kind."""
        reply = mpb.ListReply()
        try:
            found = await self._store().list(*wire.listed(request))
            reply.objects.extend(map(wire.stored, found))
        except StoreError as error:
            reply.fault.CopyFrom(wire.fault(error))
        return self._stated(reply)

    async def Commit(  # noqa: N802 - the service's name
        self, request: mpb.CommitRequest, _context: AnyContext
    ) -> mpb.CommitReply:
        """Write, with compare."""
        reply = mpb.CommitReply()
        try:
            reply.revision = await self._store().commit(*wire.asked(request))
        except wire.CARRIED as error:
            reply.fault.CopyFrom(wire.fault(error))
        return self._stated(reply)

    async def Watch(  # noqa: N802 - the service's name
        self, request: mpb.WatchRequest, context: AnyContext
    ) -> None:
        """The commits after a revision, until the store closes."""
        last = mpb.WatchReply(closed=True)
        try:
            async for changes in self._store().watch(request.from_revision):
                with call_ends():
                    await context.write(wire.batch(changes))
            self._store()  # gone for a while: that is said as a fault
        except CallEndedError:
            return
        except (StoreError, CompactedError) as error:
            last = mpb.WatchReply(fault=wire.fault(error))
        with call_ends():
            await context.write(last)

    async def Follow(  # noqa: N802 - the service's name
        self, _request: mpb.FollowRequest, context: AnyContext
    ) -> None:
        """The store's state, now and whenever it changed, until it closes."""
        try:
            store = self._store()
            changed = asyncio.Event()
            watching = asyncio.create_task(
                _tell(store.watch(store.revision), changed), name="follow"
            )
        except StoreError:
            return
        said: mpb.StoreState | None = None
        try:
            while True:
                changed.clear()
                state = self._state(store)
                if state != said:
                    said = state
                    with call_ends():
                        await context.write(said)
                if watching.done():
                    return
                try:
                    async with asyncio.timeout(LOOK_S):
                        await changed.wait()
                except TimeoutError:
                    pass
        except CallEndedError:
            return
        finally:
            await ends.ended(watching)

    def _state(self, store: Store) -> mpb.StoreState:
        return mpb.StoreState(revision=store.revision, trouble=store.trouble or self._trouble())

    def _stated(self, reply: _R) -> _R:
        try:
            reply.state.CopyFrom(self._state(self._store()))
        except StoreError as error:
            reply.state.trouble = f"store: {error}"
        return reply


async def _tell(commits: AsyncIterator[object], changed: asyncio.Event) -> None:
    async for _ in commits:
        changed.set()
    changed.set()
