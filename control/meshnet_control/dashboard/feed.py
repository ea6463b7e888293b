"""The newest picture of the cluster, for as long as somebody looks.

```
 store ── watch ──> objects ── once a second at most ──> picture ─┬─> a page
                                                                  └─> a page
```
Starts with the first page and ends with the last. No page has a queue: one that is slow gets the
difference between what it has and the newest picture, whatever was between.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from meshnet import ends
from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi.services import with_status
from meshnet_control.dashboard import view
from meshnet_control.store.store import Change, CompactedError, Kind, Store, StoreError

_log = logging.getLogger(__name__)

PACE_S: Final = 1.0
"""Between two pictures, at least."""
LOOK_S: Final = 1.0
"""How often it is looked whether there is a store, another one, or trouble with it."""
NO_STORE: Final = "this node is no manager, or cannot manage now: open a manager's dashboard"


@dataclass(frozen=True)
class Seen:
    """One moment.

    Attributes:
        picture: of the cluster.
        trouble: why it may be old; empty: it is not.
    """

    picture: view.Picture = field(default_factory=lambda: view.EMPTY)
    trouble: str = ""


@dataclass(frozen=True)
class _Objects:
    """What the store has, by id."""

    nodes: dict[str, pb.Node]
    services: dict[str, pb.Service]
    tasks: dict[str, pb.Task]
    networks: dict[str, pb.Network]

    def apply(self, change: Change) -> bool:
        """Whether a change is one of what is shown; what was read later already stays."""
        kinds: Mapping[Kind, dict[str, Any]] = {
            pb.Node: self.nodes,
            pb.Service: self.services,
            pb.Task: self.tasks,
            pb.Network: self.networks,
        }
        there = kinds.get(change.kind)
        if there is None:
            return False
        if change.message is None:
            return there.pop(change.id, None) is not None
        old = there.get(change.id)
        if old is not None and old.version.index >= change.message.version.index:
            return False
        there[change.id] = change.message
        return True

    def picture(self) -> view.Picture:
        theirs: defaultdict[str, list[pb.Task]] = defaultdict(list)
        for task in self.tasks.values():
            theirs[task.service_id].append(task)
        services = [with_status(each, theirs[each.id]) for each in self.services.values()]
        return view.picture(
            self.nodes.values(), services, self.tasks.values(), self.networks.values()
        )


class Feed:
    """Follows the store of this moment for all pages.

    Args:
        store: None: this node does not manage now.
        pace_s: between two pictures.
    """

    def __init__(self, store: Callable[[], Store | None], pace_s: float = PACE_S) -> None:
        self._store, self._pace_s = store, pace_s
        self._looking = 0
        self._running: asyncio.Task[None] | None = None
        self._seen = Seen()
        self._known = asyncio.Event()
        self._changed = asyncio.Event()
        """Replaced as it is set."""

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[AsyncIterator[Seen]]:
        """What is seen now and each time it is something else, while the context lasts."""
        self._looking += 1
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="dashboard")
        try:
            yield self._each()
        finally:
            self._looking -= 1
            if not self._looking:
                running, self._running = self._running, None
                self._known.clear()
                self._seen = Seen()
                if running is not None:
                    await ends.ended(running)

    async def _each(self) -> AsyncIterator[Seen]:
        await self._known.wait()
        while True:
            changed = self._changed
            yield self._seen
            await changed.wait()

    async def _run(self) -> None:
        while True:
            store = self._store()
            if store is None:
                self._tell(Seen(trouble=NO_STORE))
                await asyncio.sleep(LOOK_S)
                continue
            following = asyncio.create_task(self._follow(store), name="dashboard's watch")
            try:
                while not following.done() and self._store() is store:
                    await asyncio.wait({following}, timeout=LOOK_S)
                    if self._known.is_set() and not following.done():
                        self._tell(Seen(self._seen.picture, store.trouble))
            finally:
                await ends.ended(following)
            await asyncio.sleep(LOOK_S)

    async def _follow(self, store: Store) -> None:
        """Until the store closes, or does not remember as far."""
        loop = asyncio.get_running_loop()
        due: asyncio.TimerHandle | None = None
        try:
            revision = store.revision
            objects = _Objects(
                {each.id: each for each in await store.list(pb.Node)},
                {each.id: each for each in await store.list(pb.Service)},
                {each.id: each for each in await store.list(pb.Task)},
                {each.id: each for each in await store.list(pb.Network)},
            )
            self._show(objects, store)
            last = loop.time()
            async for changes in store.watch(revision):
                changed = [change for change in changes if objects.apply(change)]
                if changed and (due is None or due.when() <= loop.time()):
                    last = max(loop.time(), last + self._pace_s)
                    due = loop.call_at(last, self._show, objects, store)
        except CompactedError:
            _log.debug("the dashboard begins anew")
        except StoreError as error:
            self._tell(Seen(self._seen.picture, str(error)))
        finally:
            if due is not None:
                due.cancel()

    def _show(self, objects: _Objects, store: Store) -> None:
        self._tell(Seen(objects.picture(), store.trouble))

    def _tell(self, seen: Seen) -> None:
        if self._known.is_set() and seen == self._seen:
            return
        self._seen = seen
        self._known.set()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
