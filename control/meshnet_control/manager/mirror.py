"""A manager's copy of the store in memory, kept by watching; tells when it changed.

Reads the store once, then follows it. What changes within a few milliseconds is told once.

Be aware: the copy is behind the store by the time a watch takes. Decisions that must not be lost or
doubled read the store and commit with ``expect``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final, cast

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.assignments import Objects
from meshnet_control.cluster.news import Touched, touched
from meshnet_control.store import store as st

DEBOUNCE_S: Final = 0.005
REACH_S: Final = 1.0
REMEMBERED: Final = 128
"""Changes that who was told of older objects can be told of alone."""


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
        self._changed: dict[st.Key, st.Object | None] = {}
        """Since the objects were published last."""
        self._log: deque[tuple[int, Touched]] = deque()
        """What changed, and the objects' number then."""
        self._forgotten = 0
        """Number of the last objects whose changes are in the log no more."""
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
                self._changed[kind, message.id] = message
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
        key = (change.kind, change.id)
        present = self._changed[key] if key in self._changed else self._published_one(*key)
        if present is not None and present.version.index > change.revision:
            return  # read by load() already, in a newer state
        if change.kind is pb.Task:
            versions = (present, change.message)
            self._concerned |= {task.node_id for task in versions if isinstance(task, pb.Task)}
        else:
            self._all = True
        self._changed[key] = change.message

    def _published_one(self, kind: st.Kind, name: str) -> st.Object | None:
        objects = self.objects
        if kind is pb.Cluster:
            return objects.cluster if objects.cluster.id == name else None
        return cast("st.Object | None", objects.of(kind).get(name))

    def _publish(self) -> None:
        self._scheduled = False
        changed, self._changed = self._changed, {}
        old = self.objects
        changes = [(kind, name, each) for (kind, name), each in changed.items()]
        others = [change for change in changes if change[0] is not pb.Cluster]
        new = old.after(others)
        for kind, _, message in changes:
            if kind is pb.Cluster:
                new = new.with_cluster(cast("pb.Cluster | None", message) or pb.Cluster())
        self._note(new.number, touched(old, new, others))
        self.objects = new
        concerned, self._concerned = self._concerned, set()
        everyone, self._all = self._all, False
        self._published = self._revision
        reached, self._reached = self._reached, asyncio.Event()
        reached.set()
        self._on_change(None if everyone else concerned)

    def _note(self, number: int, change: Touched) -> None:
        if not change:
            return
        self._log.append((number, change))
        if len(self._log) > REMEMBERED:
            self._forgotten, _ = self._log.popleft()

    def touched_since(self, seen: Objects) -> Touched | None:
        """What changed after some objects that were published; None: that is too long ago."""
        if seen.number < self._forgotten:
            return None
        found = Touched()
        for number, change in reversed(self._log):
            if number <= seen.number:
                break
            found |= change
        return found
