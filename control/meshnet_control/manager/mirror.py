"""A manager's copy of the store in memory, kept by watching; tells when it changed.

Reads the store once, then follows it. What changes within a few milliseconds is told once.

Be aware: the copy is behind the store by the time a watch takes. Decisions that must not be lost or
doubled read the store and commit with ``expect``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final, TypeVar, cast

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.assignments import Objects
from meshnet_control.store import store as st

DEBOUNCE_S: Final = 0.005
REACH_S: Final = 1.0
T = TypeVar("T", bound=st.Object)


class Mirror:
    """The cluster's objects as of a moment ago.

    Args:
        store: what to follow.
        on_change: called after ``objects`` changed, with the nodes whose assignments may differ:
            a task concerns its node alone. None: all of them.
    """

    def __init__(
        self, store: st.Store, on_change: Callable[[AbstractSet[str] | None], None]
    ) -> None:
        self._store, self._on_change = store, on_change
        self._by_kind: dict[st.Kind, dict[str, st.Object]] = {kind: {} for kind in st.KINDS}
        self._revision = 0
        self._scheduled = False
        self._concerned: set[str] = set()
        self._all = True
        self._reached = asyncio.Event()
        """Replaced as it is set: what is published is newer."""
        self._published = 0
        self.objects = Objects(cluster=pb.Cluster())

    async def load(self) -> None:
        """Read everything; call once, before ``run``."""
        self._revision = self._store.revision
        for kind in st.KINDS:
            for message in await self._store.list(kind):
                self._by_kind[kind][message.id] = message
        self._publish()

    async def run(self) -> None:
        """Follow the store until it closes, or cancelled."""
        async for batch in self._store.watch(self._revision):
            for change in batch:
                self._apply(change)
                self._revision = max(self._revision, change.revision)
            if not self._scheduled:
                self._scheduled = True
                asyncio.get_running_loop().call_later(DEBOUNCE_S, self._publish)

    async def reach(self, revision: int) -> None:
        """Wait until ``objects`` has what was committed up to a revision; not for ever.

        The last commits may leave nothing to see: an object made and removed while nobody looked.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REACH_S):
                while self._published < revision:
                    await self._reached.wait()

    def _apply(self, change: st.Change) -> None:
        known = self._by_kind[change.kind]
        present = known.get(change.id)
        if present is not None and present.version.index > change.revision:
            return  # read by load() already, in a newer state
        if change.kind is pb.Task:
            versions = (present, change.message)
            self._concerned |= {task.node_id for task in versions if isinstance(task, pb.Task)}
        else:
            self._all = True
        if change.message is None:
            known.pop(change.id, None)
        else:
            known[change.id] = change.message

    def _publish(self) -> None:
        self._scheduled = False
        clusters = list(self._of(pb.Cluster).values())
        self.objects = Objects(
            cluster=clusters[0] if clusters else pb.Cluster(),
            nodes=self._of(pb.Node),
            services=self._of(pb.Service),
            tasks=self._of(pb.Task),
            networks=self._of(pb.Network),
            secrets=self._of(pb.Secret),
            configs=self._of(pb.Config),
        )
        concerned, self._concerned = self._concerned, set()
        everyone, self._all = self._all, False
        self._published = self._revision
        reached, self._reached = self._reached, asyncio.Event()
        reached.set()
        self._on_change(None if everyone else concerned)

    def _of(self, kind: type[T]) -> dict[str, T]:
        return cast("dict[str, T]", dict(self._by_kind[cast("st.Kind", kind)]))
