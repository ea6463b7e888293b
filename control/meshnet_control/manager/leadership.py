"""Leading: when this manager may orchestrate, and the store it does so with.

Touches one key of etcd through a client; what to do next is decided in ``campaign``.

    watch of the key ─┐
    etcd's leader ────┴─> next_move ──> claim ──> Term: a store that is fenced by the key's revision
    lease, kept alive ──────────────────────────> the term's end, when it could not be

A single manager on SQLite leads from the first moment on and needs nothing of this (``Sole``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Final, Protocol

from meshnet import ends
from meshnet_control.api import etcd_pb2 as pb
from meshnet_control.etcd import client as calls
from meshnet_control.etcd.api import Etcd
from meshnet_control.etcd.errors import EtcdError
from meshnet_control.manager.campaign import Holder, Move, next_move
from meshnet_control.store.fenced import Fence, FenceableStore, FencedStore
from meshnet_control.store.store import Store

_log = logging.getLogger(__name__)

KEY: Final = b"/meshnet/leader"
TTL_S: Final = 3
LOOK_S: Final = 0.2
"""Between two looks at who leads etcd; local, and cheap."""
TRY_S: Final = 1.0
"""For one answer."""
PAUSE_S: Final = 0.1
"""Before a watch that ended is begun again."""


class Term:
    """A time in which this manager leads.

    Args:
        store: what a leader writes to.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.over = asyncio.Event()


class Leadership(Protocol):
    """Who leads, and when it is this manager."""

    @property
    def leader(self) -> str:
        """The id of the node that leads, as last known; empty: nobody, or unknown."""
        ...

    async def term(self) -> Term:
        """Wait until this manager leads."""
        ...


class Sole:
    """The one manager of a cluster: leads at once and without end.

    Args:
        store: the cluster's objects.
        node_id: of this node.
    """

    def __init__(self, store: Store, node_id: str = "") -> None:
        self.leader = node_id
        self._term = Term(store)

    async def term(self) -> Term:
        """The only one there is; none any more once it has ended."""
        while self._term.over.is_set():
            await asyncio.Event().wait()
        return self._term

    def end(self) -> None:
        """There are others from now on: another kind of leadership decides."""
        self._term.over.set()


class MovingLeadership:
    """A ``Leadership`` that can become another one while it is waited for.

    Args:
        behind: the first one.
    """

    def __init__(self, behind: Leadership) -> None:
        self._behind = behind
        self._moved = asyncio.Event()

    @property
    def leader(self) -> str:
        """The id of the node that leads, as last known; empty: nobody, or unknown."""
        return self._behind.leader

    async def term(self) -> Term:
        """Wait until this manager leads."""
        while True:
            term = asyncio.create_task(self._behind.term(), name="term")
            moved = asyncio.create_task(self._moved.wait(), name="leadership moved")
            try:
                await asyncio.wait((term, moved), return_when=asyncio.FIRST_COMPLETED)
                if not moved.done():
                    return term.result()
            finally:
                await ends.ended(term, moved)

    def move(self, to: Leadership) -> None:
        """Go on with another one; whoever waits goes on waiting there."""
        self._behind = to
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


class EtcdLeadership:
    """One of several managers.

    Args:
        etcd: the local member.
        store: the cluster's objects.
        node_id: of this node.
        on_change: told the id of the node that leads, each time it is another.
    """

    def __init__(
        self,
        etcd: Etcd,
        store: FenceableStore,
        node_id: str,
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._etcd, self._store, self._node_id = etcd, store, node_id
        self._on_change = on_change
        self._holder: Holder | None = None
        self._known = False
        """The key was read since the watch was begun."""
        self._lease = 0
        self._kept = 0.0
        """When the last keep-alive that was answered was sent."""
        self._term: Term | None = None
        self._fence: Fence | None = None
        self._changed = asyncio.Event()
        self._elected = asyncio.Event()

    @property
    def leader(self) -> str:
        """The id of the node that leads, as last known; empty: nobody, or unknown."""
        return self._holder.node_id if self._holder is not None else ""

    async def term(self) -> Term:
        """Wait until this manager leads."""
        while self._term is None:
            await self._elected.wait()
        return self._term

    async def run(self) -> None:
        """Campaign and lead until cancelled; then the key is left to who comes next."""
        watching = asyncio.create_task(self._watch(), name="leadership-watch")
        try:
            while True:
                self._changed.clear()
                try:
                    await self._step()
                except EtcdError as error:
                    _log.debug("%s", error)
                self._end_if_over()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), LOOK_S)
        finally:
            self._end()
            await ends.ended(watching)

    async def resign(self) -> None:
        """Give the key up at once; to be called when ``run`` has ended. Fails silently."""
        lease, self._lease = self._lease, 0
        if lease:
            with contextlib.suppress(EtcdError):
                await self._etcd.lease_revoke(lease, TRY_S)

    # ---- inside ----

    async def _step(self) -> None:
        if not self._known:
            return
        await self._keep_lease()
        status = await self._etcd.status(TRY_S)
        beside = status.leader != 0 and status.leader == status.header.member_id
        holder = self._holder
        move = next_move(self._node_id, self._lease, holder, beside_leader=beside)
        if move is Move.CLAIM:
            await self._claim(holder)
        elif move is Move.LEAD and holder is not None:
            self._begin(holder)

    async def _keep_lease(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._lease and now - self._kept < TTL_S / 3:
            return
        if self._lease and not await self._etcd.lease_keep_alive(self._lease, TRY_S):
            self._lease = 0
            self._end()
        if not self._lease:
            self._lease, _ = await self._etcd.lease_grant(TTL_S, TRY_S)
        self._kept = now

    async def _claim(self, holder: Holder | None) -> None:
        """Write the key, if it is as it was seen; an answer that is lost comes by the watch."""
        at = holder.mod_revision if holder is not None else 0
        value = json.dumps({"node": self._node_id}).encode()
        reply = await self._etcd.txn(
            [calls.is_at(KEY, at)], [calls.put(KEY, value, self._lease)], [calls.get(KEY)], TRY_S
        )
        if reply.succeeded:
            mine = Holder(self._node_id, self._lease, reply.header.revision)
            self._take_in(mine)
            self._begin(mine)

    def _begin(self, holder: Holder) -> None:
        if self._fence is not None and self._fence.mod_revision == holder.mod_revision:
            return
        self._end()
        self._fence = Fence(KEY, holder.mod_revision)
        self._term = Term(FencedStore(self._store, self._fence))
        self._elected.set()
        _log.info("this manager leads")

    def _end_if_over(self) -> None:
        """Whoever cannot keep its lease leads no more, whatever it can see."""
        if self._term is not None and asyncio.get_running_loop().time() - self._kept >= TTL_S:
            self._end()

    def _end(self) -> None:
        if self._term is not None:
            self._term.over.set()
            self._term, self._fence = None, None
            self._elected = asyncio.Event()
            _log.info("this manager leads no more")

    async def _watch(self) -> None:
        while True:
            try:
                found = await self._etcd.range(KEY, timeout_s=TRY_S)
                self._take_in(_holder(found.kvs[0]) if found.kvs else None)
                self._known = True
                self._changed.set()
                await self._watch_from(found.header.revision + 1)
            except EtcdError as error:
                _log.debug("%s", error)
            await asyncio.sleep(PAUSE_S)

    async def _watch_from(self, revision: int) -> None:
        async with contextlib.aclosing(self._etcd.watch(KEY, b"", revision)) as watch:
            async for events in watch:
                for event in events:
                    gone = event.type == pb.Event.DELETE
                    self._take_in(None if gone else _holder(event.kv), event.kv.mod_revision)
                    self._changed.set()

    def _take_in(self, holder: Holder | None, at: int = 0) -> None:
        """Know who holds the key; what is older than what is known is dropped."""
        known = self._holder
        revision = holder.mod_revision if holder is not None else at
        if known is not None and revision and revision < known.mod_revision:
            return
        before = self.leader
        self._holder = holder
        mine = holder is not None and holder.lease == self._lease and self._lease != 0
        if self._term is not None and not (
            mine and self._fence == Fence(KEY, holder.mod_revision if holder else 0)
        ):
            self._end()
        if self.leader != before:
            self._on_change(self.leader)


def _holder(kv: pb.KeyValue) -> Holder:
    try:
        said = json.loads(kv.value)
        node_id = str(said["node"])
    except (ValueError, LookupError, TypeError):
        node_id = ""
    return Holder(node_id, kv.lease, kv.mod_revision)
