"""The cluster's events, from one watch of the store to every client of ``/events``.

```
 store ── watch ──> what was said of each object last ──> event, as text ─┬─> queue of a client
                    (name and a few fields, once for all)                 ├─> queue of a client
```
Starts with the first client, ends with the last; ``remember`` is one that is always there. The last
``MOST_PAST`` events are kept for who asks for the past, in this process alone, as the engine keeps
its own. A client that falls behind further than its queue is long is cut off; nobody waits for it.
What happened while the store did not answer is told when it does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from meshnet import ends
from meshnet_control.gateway.routes import swarm_events
from meshnet_control.store.store import (
    Change,
    CompactedError,
    Key,
    Kind,
    Object,
    Store,
    StoreError,
)

_log = logging.getLogger(__name__)

_MOST_EVENTS: Final = 1024
"""Kept for one client; clients share the text of an event."""
MOST_PAST: Final = 1024
"""The engine keeps 256 (moby daemon/events/events.go)."""
LOOK_S: Final = 0.25
"""How often it is looked whether there is a store, or another one."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the cluster."""

    said: dict[str, Any]
    """Engine JSON; shared: not to be changed."""
    line: bytes
    """The same as it is written into the stream."""


@dataclass(eq=False, slots=True)
class Listener:
    """One client's events, as they happen; iterate once."""

    cut: Callable[[], None]
    before: tuple[Event, ...] = ()
    """What happened before it listened, as far as that is remembered."""
    queue: asyncio.Queue[Event | None] = field(default_factory=lambda: asyncio.Queue(_MOST_EVENTS))

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self.queue.get()) is not None:
            yield event


class ClusterEvents:
    """Where clients listen.

    Args:
        kinds: whose events.
    """

    def __init__(self, kinds: Collection[Kind] = tuple(swarm_events.KINDS)) -> None:
        self._kinds = kinds
        self._feed: _Feed | None = None
        self._opening = asyncio.Lock()
        self._past: deque[Event] = deque(maxlen=MOST_PAST)

    async def remember(self, store: Callable[[], Store | None]) -> None:
        """Keep what happens, whether a client listens or not; until cancelled.

        Args:
            store: that of this moment; None: this node does not manage.
        """
        while True:
            now = store()
            if now is not None:
                behind = asyncio.Event()
                try:
                    async with self.listen(now, behind.set) as listener:
                        reading = asyncio.ensure_future(_read(listener))
                        over = asyncio.ensure_future(behind.wait())
                        try:
                            await asyncio.wait((reading, over), return_when=asyncio.FIRST_COMPLETED)
                        finally:
                            await ends.ended(reading, over)
                except (StoreError, CompactedError) as error:
                    _log.debug("events are not kept now: %s", error)
            await asyncio.sleep(LOOK_S)

    @asynccontextmanager
    async def listen(self, store: Store, cut: Callable[[], None]) -> AsyncIterator[Listener]:
        """Everything committed from now on.

        Args:
            store: of this moment.
            cut: called once the client has fallen behind too far; nothing more will come.
        """
        listener = Listener(cut)
        async with self._opening:
            feed = self._feed
            if feed is None or not feed.follows(store):
                feed = self._feed = await _Feed.open(store, self._past, self._kinds)
            feed.listeners.add(listener)
            listener.before = tuple(self._past)
        try:
            yield listener
        finally:
            feed.listeners.discard(listener)
            if not feed.listeners:
                feed.stop()
                if self._feed is feed:
                    self._feed = None


async def _read(listener: Listener) -> None:
    async for _ in listener:
        pass


class _Feed:
    """One store, watched for all who listen."""

    def __init__(
        self,
        store: Store,
        revision: int,
        known: dict[Key, swarm_events.Known],
        past: deque[Event],
        kinds: Collection[Kind],
    ) -> None:
        self.listeners: set[Listener] = set()
        self._kinds = kinds
        self._store, self._known, self._past = store, known, past
        self._task = asyncio.create_task(self._run(store.watch(revision)), name="events")

    @classmethod
    async def open(cls, store: Store, past: deque[Event], kinds: Collection[Kind]) -> _Feed:
        """What there is now is known; every later commit is told."""
        revision = store.revision
        known = {
            (kind, message.id): swarm_events.known(message)
            for kind in kinds
            for message in await store.list(kind)
        }
        return cls(store, revision, known, past, kinds)

    def follows(self, store: Store) -> bool:
        return self._store is store and not self._task.done() and not self._task.cancelling()

    def stop(self) -> None:
        self._task.cancel()

    async def _run(self, commits: AsyncIterator[Sequence[Change]]) -> None:
        try:
            while True:
                try:
                    async for changes in commits:
                        await self._tell_all(changes)
                except CompactedError:
                    revision = self._store.revision
                    await self._tell_all(await self._missed(revision))
                    commits = self._store.watch(revision)
                else:
                    return
        except StoreError as error:
            _log.warning("events of the cluster end: %s", error)
        finally:
            for listener in tuple(self.listeners):
                self._tell(listener, None)

    async def _missed(self, revision: int) -> list[Change]:
        """What became of the objects in commits that the store does not remember."""
        there: dict[Key, Object] = {
            (kind, message.id): message
            for kind in self._kinds
            for message in await self._store.list(kind)
        }
        gone = [Change(*key, None, revision) for key in self._known.keys() - there.keys()]
        return gone + [
            Change(*key, message, message.version.index) for key, message in there.items()
        ]

    async def _tell_all(self, changes: Sequence[Change]) -> None:
        for event in filter(None, map(self._event, changes)):
            self._past.append(event)
            for listener in tuple(self.listeners):
                self._tell(listener, event)
            await asyncio.sleep(0)  # those who read at once have room for all of a commit

    def _event(self, change: Change) -> Event | None:
        if change.kind not in self._kinds:
            return None
        key = (change.kind, change.id)
        before = self._known.get(key)
        if change.message is None:
            self._known.pop(key, None)
        elif before is not None and before.revision >= change.revision:
            return None  # in the list already
        else:
            self._known[key] = swarm_events.known(change.message)
        said = swarm_events.event(before, change, time.time_ns())
        return None if said is None else Event(said, swarm_events.line(said))

    def _tell(self, listener: Listener, event: Event | None) -> None:
        tell(self.listeners, listener, event)


def tell(listeners: set[Listener], listener: Listener, event: Event | None) -> None:
    """Put an event into one client's queue; one that is full is a client's that does not read."""
    try:
        listener.queue.put_nowait(event)
    except asyncio.QueueFull:
        listeners.discard(listener)
        listener.cut()
