"""What a manager has to say of nodes, on its way to the store: Ready, Down. Nothing is lost.

    set(node, change) ──> pending, the newest per node ──> read, change, commit with compare
                             ^────── the store cannot be written: wait, again ──────┘

Be aware: a change is applied to the node as it is when it is written. A node that is gone by then
needs no change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeAlias

from meshnet_control.api import control_pb2 as pb
from meshnet_control.store import store as st

_log = logging.getLogger(__name__)

NodeChange: TypeAlias = Callable[[pb.Node], None]
"""Changes a node in place."""


class NodeWriter:
    """Writes changes of nodes one after the other.

    Args:
        store: where nodes are.
    """

    def __init__(self, store: st.Store) -> None:
        self._store = store
        self._pending: dict[str, tuple[NodeChange, asyncio.Future[None]]] = {}
        self._some = asyncio.Event()

    def set(self, node_id: str, change: NodeChange) -> asyncio.Future[None]:
        """Take a change; it replaces one of the same node that is not written yet.

        Returns:
            Done when it is in the store, or was replaced while the store could not be written.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        older = self._pending.get(node_id)
        if older is not None:
            written = older[1]
        self._pending[node_id] = (change, written)
        self._some.set()
        return written

    async def run(self) -> None:
        """Write until cancelled, or until the store is closed."""
        delays = st.retry_delays()
        while True:
            await self._some.wait()
            self._some.clear()
            for node_id in list(self._pending):
                change, written = self._pending.pop(node_id)
                try:
                    await self._write(node_id, change)
                except st.StoreClosedError:
                    return
                except st.StoreError as error:
                    _log.warning("node %s is not written, trying again: %s", node_id, error)
                    if node_id not in self._pending:
                        self._pending[node_id] = (change, written)
                        continue
                if not written.done():
                    written.set_result(None)
            if self._pending:
                await asyncio.sleep(next(delays))
                self._some.set()
            else:
                delays = st.retry_delays()

    async def _write(self, node_id: str, change: NodeChange) -> None:
        while True:
            stored = await self._store.get(pb.Node, node_id)
            if stored is None:
                return
            fresh = pb.Node()
            fresh.CopyFrom(stored)
            change(fresh)
            if fresh == stored:
                return
            try:
                await self._store.commit(
                    [st.Put(fresh)], expect={(pb.Node, node_id): stored.version.index}
                )
            except st.OutOfSequenceError:
                continue  # somebody else wrote it: read again
            return
