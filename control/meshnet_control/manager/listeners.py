"""Nodes that listen for what a broker of the manager has to say: one stream each, with a bound.

```
 broker ── tell ──> queue of the node, at most ``most`` ──> its stream (Listen)
        <── lost ── the stream ended, or the node did not take what was said
```
Nodes connect to the manager, never the other way round. A node listens once: with a newer stream
the older ends. One that does not take what it is told has to listen anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from meshnet import drops
from meshnet_control.identity.channel import CallEndedError, call_ends
from meshnet_control.manager.authority import AnyContext

Message = TypeVar("Message")


class Listeners(Generic[Message]):
    """The nodes that listen now, of one broker.

    Args:
        most: messages that wait for one node; with one more it has to listen anew.
        lost: called with the id of a node that listens no more.
        full: what is counted when a node does not take its messages.
    """

    def __init__(self, most: int, lost: Callable[[str], None], full: str) -> None:
        self._most, self._lost, self._full = most, lost, full
        self._queues: dict[str, asyncio.Queue[Message | None]] = {}

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._queues

    async def listen(
        self, node_id: str, context: AnyContext, begun: Callable[[], None] | None = None
    ) -> None:
        """Write to the node's stream what it is told, until it goes or listens anew.

        Args:
            node_id: of the caller, authenticated.
            context: of its call.
            begun: called once the node can be told something.
        """
        if node_id in self._queues:
            _end(self._queues[node_id])
        queue: asyncio.Queue[Message | None] = asyncio.Queue(self._most)
        self._queues[node_id] = queue
        try:
            if begun is not None:
                begun()
            while (message := await queue.get()) is not None:
                with call_ends():
                    await context.write(message)
        except CallEndedError:
            pass  # the node went away; it listens anew
        finally:
            if self._queues.get(node_id) is queue:
                del self._queues[node_id]
                self._lost(node_id)

    def tell(self, node_id: str, message: Message) -> bool:
        """Say something to a node; whether it listens."""
        queue = self._queues.get(node_id)
        if queue is None:
            return False
        try:
            queue.put_nowait(message)
        except asyncio.QueueFull:
            drops.count(self._full, queue.qsize() + 1)
            del self._queues[node_id]
            _end(queue)
            self._lost(node_id)
            return False
        return True


def _end(queue: asyncio.Queue[Message | None]) -> None:
    """Say nothing more, not even what waits."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)
