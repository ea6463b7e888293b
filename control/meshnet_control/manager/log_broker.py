"""A manager's log broker: asks nodes for logs of tasks, and hands what comes to a reader.

```
 gateway ── open() ──> Reader ── per task ──> Feed ── subscription ──> node (Listen)
            <── read ──         <── at most QUEUED batches ── Publish ──┘
```

Nodes connect to the manager, never the other way round: a node listens for subscriptions for as
long as it lives, and opens one stream per log it was asked for. A reader that is slow fills its
queues; then the streams are not read, and gRPC's flow control stops the nodes. A node that does not
take what it is asked for is asked for nothing more until it listens anew.

Be aware: a Feed always ends: with the stream, with the node's connection, or when the node is set
Down. A follower begins again, where it was, with a task whose node comes back.

Source: swarmkit api/logbroker.proto and manager/logbroker (what it does, not how).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from meshnet import ends
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.cluster import assignments
from meshnet_control.identity.channel import CallEndedError, call_ends
from meshnet_control.manager.authority import AnyContext
from meshnet_control.manager.listeners import Listeners

QUEUED: Final = 2
"""Batches of one log that wait for a slow reader; a batch is what the engine gave at once."""
ANSWER_S: Final = 10.0
"""A node that has not begun to send by then is not available."""
MOST_UNTAKEN: Final = 4096
"""Messages that wait for one node; with one more it has to listen anew, and its logs end."""


class Feed:
    """One task's log on its way to one reader; changed by the broker, read by the reader."""

    def __init__(self, task: pb.Task, wake: asyncio.Event) -> None:
        self.id = secrets.token_hex(8)
        self.task = task
        self.error = ""
        """Why the log is not complete; empty while nothing is missing."""
        self.lost = False
        """The node went away: worth another try when it is back."""
        self.gone = False
        """The container is not there any more, and its log with it."""
        self.opened = False
        self._batches: deque[pb.LogBatch] = deque()
        self._ended = False
        self._wake, self._room = wake, asyncio.Event()
        self.over = asyncio.Event()
        """Nobody reads on, or nobody sends."""

    @property
    def done(self) -> bool:
        """It has ended and everything was taken."""
        return self._ended and not self._batches

    async def put(self, batch: pb.LogBatch) -> None:
        """Hand over; waits for room."""
        if batch.last:
            self.gone = batch.gone
            self.end(batch.error)
        if not batch.lines or self._ended:
            return
        while len(self._batches) >= QUEUED:
            self._room.clear()
            await self._room.wait()
        self._batches.append(batch)
        self._wake.set()

    def take(self) -> pb.LogBatch | None:
        """The next batch; None when there is none now."""
        if not self._batches:
            return None
        self._room.set()
        return self._batches.popleft()

    def end(self, error: str = "", *, lost: bool = False) -> None:
        """Nothing more comes. The first reason stays."""
        if not self._ended:
            self._ended, self.lost = True, lost
            self.error = self.error or error
            self.over.set()
            self._wake.set()


class LogBroker(control_pb2_grpc.LogBrokerServicer):
    """Subscriptions of all readers, and the nodes that listen for them.

    Args:
        caller: the id of the node that calls; ends the call of anybody else.
        objects: the mirror's present objects.
        most_untaken: messages that wait for one node.
    """

    def __init__(
        self,
        caller: Callable[[AnyContext], Awaitable[str]],
        objects: Callable[[], assignments.Objects],
        most_untaken: int = MOST_UNTAKEN,
    ) -> None:
        self._caller, self._objects = caller, objects
        self._listeners: Listeners[pb.LogSubscription] = Listeners(
            most_untaken, self._lose, "manager: node does not take requests for logs"
        )
        self._feeds: dict[str, Feed] = {}
        self._watchers: set[asyncio.Event] = set()

    # ---- from the manager ----

    @property
    def objects(self) -> assignments.Objects:
        """The cluster as of a moment ago."""
        return self._objects()

    @property
    def open_feeds(self) -> int:
        """Logs that somebody reads now."""
        return len(self._feeds)

    def follow(self) -> None:
        """The mirror changed: end the feeds of nodes that are Down; readers look for new tasks."""
        for feed in list(self._feeds.values()):
            if not self._alive(feed.task.node_id):
                feed.end(_unavailable(feed.task), lost=True)
        for watcher in self._watchers:
            watcher.set()

    # ---- from readers ----

    def watch(self, wake: asyncio.Event) -> None:
        """``wake`` is set whenever tasks or nodes changed, until ``unwatch``."""
        self._watchers.add(wake)

    def unwatch(self, wake: asyncio.Event) -> None:
        """No longer."""
        self._watchers.discard(wake)

    def available(self, node_id: str) -> bool:
        """The node can be asked now."""
        return node_id in self._listeners and self._alive(node_id)

    def subscribe(self, task: pb.Task, options: pb.LogOptions, wake: asyncio.Event) -> Feed:
        """Ask the task's node for its log; ``close`` the feed in the end.

        Args:
            task: with a container.
            options: of the reader.
            wake: set when the feed has something, or has ended.
        """
        feed = Feed(task, wake)
        if not self.available(task.node_id):
            feed.end(_unavailable(task), lost=True)
            return feed
        self._feeds[feed.id] = feed
        self._listeners.tell(
            task.node_id,
            pb.LogSubscription(
                id=feed.id,
                container_id=task.status.container_status.container_id,
                tty=task.spec.container_spec.tty,
                options=options,
            ),
        )
        asyncio.get_running_loop().call_later(ANSWER_S, _expect, feed)
        return feed

    def close(self, feed: Feed) -> None:
        """Nobody reads this feed any more; its node is told."""
        if self._feeds.pop(feed.id, None) is None:
            return
        self._listeners.tell(feed.task.node_id, pb.LogSubscription(id=feed.id, close=True))
        feed.end()

    # ---- from nodes ----

    async def Listen(  # noqa: N802 - the service's name
        self, _request: pb.ListenRequest, context: AnyContext
    ) -> None:
        """A node's subscriptions, until it goes or listens anew."""
        await self._listeners.listen(await self._caller(context), context, self.follow)

    async def Publish(  # noqa: N802 - the service's name
        self, requests: AsyncIterator[pb.LogBatch], context: AnyContext
    ) -> pb.PublishReply:
        """One log of the calling node."""
        node_id = await self._caller(context)
        coming = aiter(requests)
        try:
            with call_ends():
                first = await anext(coming, pb.LogBatch())
        except CallEndedError:
            return pb.PublishReply()
        feed = self._feeds.get(first.subscription_id)
        if feed is None or feed.task.node_id != node_id:
            return pb.PublishReply()  # its reader was faster
        feed.opened = True
        copying = asyncio.ensure_future(_copy(first, coming, feed))
        ending = asyncio.ensure_future(feed.over.wait())
        try:
            await asyncio.wait({copying, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await ends.ended(copying, ending)
            feed.end(_unavailable(feed.task), lost=True)  # it has said no last word
        return pb.PublishReply()

    def _alive(self, node_id: str) -> bool:
        node = self._objects().nodes.get(node_id)
        return node is not None and node.status.state != "down"

    def _lose(self, node_id: str) -> None:
        for feed in list(self._feeds.values()):
            if feed.task.node_id == node_id:
                feed.end(_unavailable(feed.task), lost=True)


async def _copy(first: pb.LogBatch, requests: AsyncIterator[pb.LogBatch], feed: Feed) -> None:
    batch: pb.LogBatch | None = first
    while batch is not None:
        await feed.put(batch)
        with call_ends():
            batch = await anext(requests, None)


def _expect(feed: Feed) -> None:
    if not feed.opened:
        feed.end(_unavailable(feed.task), lost=True)


def _unavailable(task: pb.Task) -> str:
    return f"node {task.node_id} is not available"
