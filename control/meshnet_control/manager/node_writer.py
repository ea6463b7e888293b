"""What a manager has to say of nodes, on its way to the store: Ready, Down. Nothing is lost.

    set(node, change) ──> pending, the newest of each matter ──> read, change, commit with compare
                             ^──────── the store cannot be written: wait, again ─────────┘

Be aware: a change is applied to the node as it is when it is written. A node that is gone by then
needs no change. Of one matter the newest change counts; one of another never takes its place.
Whether a manager may resign is decided by the nodes as they are then, too: the commit fails when
one of those it counts on has changed, so that two who resign at once do not leave a cluster without
a manager.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.roles import MANAGER, WORKER
from meshnet_control.store import store as st

_log = logging.getLogger(__name__)

NodeChange: TypeAlias = Callable[[pb.Node], None]
"""Changes a node in place."""
STATE: Final = "state"
WAY: Final = "way"
"""What a change is about."""


@dataclass(frozen=True)
class _Pending:
    changes: Mapping[str, NodeChange]
    """By what they are about, the newest last."""
    resigns: bool
    written: asyncio.Future[None]


class NodeWriter:
    """Writes changes of nodes one after the other.

    Args:
        store: where nodes are.
    """

    def __init__(self, store: st.Store) -> None:
        self._store = store
        self._pending: dict[str, _Pending] = {}
        self._some = asyncio.Event()

    def set(
        self, node_id: str, change: NodeChange, *, about: str = STATE, resigns: bool = False
    ) -> asyncio.Future[None]:
        """Take a change; it replaces one of the same node and matter that is not written yet.

        Args:
            node_id: of which node.
            change: of it.
            about: ``STATE`` or ``WAY``.
            resigns: it is to be no manager any more either, unless it is the last one.

        Returns:
            Done when it is in the store, or was replaced while the store could not be written.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        changes: Mapping[str, NodeChange] = {about: change}
        older = self._pending.get(node_id)
        if older is not None:
            changes = _later(older.changes, changes)
            resigns, written = resigns or older.resigns, older.written
        self._pending[node_id] = _Pending(changes, resigns, written)
        self._some.set()
        return written

    async def run(self) -> None:
        """Write until cancelled, or until the store is closed."""
        delays = st.RETRY.delays(random.random)
        while True:
            await self._some.wait()
            self._some.clear()
            for node_id in list(self._pending):
                taken = self._pending.pop(node_id)
                try:
                    await self._write(node_id, taken)
                except st.StoreClosedError:
                    return
                except st.StoreError as error:
                    _log.warning("node %s is not written, trying again: %s", node_id, error)
                    newer = self._pending.get(node_id)
                    if newer is None:
                        self._pending[node_id] = taken
                        continue
                    changes = _later(taken.changes, newer.changes)
                    resigns = taken.resigns or newer.resigns
                    self._pending[node_id] = replace(newer, changes=changes, resigns=resigns)
                if not taken.written.done():
                    taken.written.set_result(None)
            if self._pending:
                await asyncio.sleep(next(delays))
                self._some.set()
            else:
                delays = st.RETRY.delays(random.random)

    async def _write(self, node_id: str, taken: _Pending) -> None:
        while True:
            stored = await self._store.get(pb.Node, node_id)
            if stored is None:
                return
            fresh = pb.Node()
            fresh.CopyFrom(stored)
            for change in taken.changes.values():
                change(fresh)
            expect: dict[st.Key, int] = {(pb.Node, node_id): stored.version.index}
            if taken.resigns:
                nodes = await self._store.list(pb.Node)
                others = [n for n in nodes if n.id != node_id and n.spec.role == MANAGER]
                if others:
                    fresh.spec.role = WORKER
                    fresh.version.ClearField("asked")  # what users have read is not so any more
                    expect |= {(pb.Node, n.id): n.version.index for n in others}
            if fresh == stored:
                return
            try:
                await self._store.commit([st.Put(fresh)], expect=expect)
            except st.OutOfSequenceError:
                continue  # somebody else wrote one of them: read again
            return


def _later(
    older: Mapping[str, NodeChange], newer: Mapping[str, NodeChange]
) -> dict[str, NodeChange]:
    """Both, in the order in which they came; of one matter the newer."""
    return {**{about: older[about] for about in older if about not in newer}, **newer}
