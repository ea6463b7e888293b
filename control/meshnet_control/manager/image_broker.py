"""A manager's image broker: hands images from whoever pushes them to nodes that listen.

```
 meshnetd, or another manager ── Push ──> Transfer ── offer ──> node (Listen)
                                <─ word ──         <── Take ────┘   wants, done, error
                                ── archive, at most QUEUED chunks ──> the node's engine
```
Nodes connect to the manager, never the other way round. A node that takes no more fills the queue;
then the pusher is not read, and gRPC's flow control stops it. Nothing of an image is kept here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from meshnet import ends
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.identity.channel import CallEndedError, call_ends
from meshnet_control.manager.authority import AnyContext
from meshnet_control.manager.listeners import Listeners

QUEUED: Final = 4
"""Chunks of one image that wait for a slow node."""
ANSWER_S: Final = 30.0
"""For a node to say whether it wants an image; its engine is asked."""
MOST_UNTAKEN: Final = 256
"""Offers that wait for one node; with one more it has to listen anew."""
GONE: Final = "the node is not connected, or went away"
NO_ANSWER: Final = "the node does not answer"

Reply = Callable[[mpb.ImagePushed], Awaitable[None]]


class Transfer:
    """One image on its way to one node.

    Args:
        node_id: whose it is; nobody else may take it.
    """

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.words: asyncio.Queue[pb.ImageWord | None] = asyncio.Queue()
        """What the node says; None: it says nothing more."""
        self.chunks: asyncio.Queue[pb.ImageChunk] = asyncio.Queue(QUEUED)
        self.taken = False

    def lost(self) -> None:
        """The node has gone."""
        self.words.put_nowait(None)


class ImageBroker(control_pb2_grpc.ImagesServicer):
    """Images that are pushed now, and the nodes that listen for them.

    Args:
        caller: the id of the node that calls; ends the call of anybody else.
    """

    def __init__(self, caller: Callable[[AnyContext], Awaitable[str]]) -> None:
        self._caller = caller
        self._listeners: Listeners[pb.ImageOffer] = Listeners(
            MOST_UNTAKEN, self._lose, "manager: node does not take offers of images"
        )
        self._transfers: dict[str, Transfer] = {}

    # ---- from who pushes ----

    async def push(
        self, first: mpb.ImagePush, coming: AsyncIterator[mpb.ImagePush], reply: Reply
    ) -> None:
        """One image for one node, until the node has it or has said why not.

        Args:
            first: what goes where.
            coming: its archive; is read only if the node wants it.
            reply: what the node says.

        Raises:
            CallEndedError: who pushes has gone.
        """
        offer = pb.ImageOffer(id=secrets.token_hex(8), image_id=first.image_id, tags=first.tags)
        transfer = self._transfers[offer.id] = Transfer(first.node_id)
        try:
            if not self._listeners.tell(first.node_id, offer):
                await reply(mpb.ImagePushed(error=GONE))
                return
            try:
                async with asyncio.timeout(ANSWER_S):
                    word = await transfer.words.get()
            except TimeoutError:
                await reply(mpb.ImagePushed(error=NO_ANSWER))
                return
            await reply(_told(word))
            if word is None or not word.wants:
                return
            sending = asyncio.ensure_future(_fill(transfer, coming))
            hearing = asyncio.ensure_future(transfer.words.get())
            try:
                await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
                if not hearing.done():
                    sending.result()
                await reply(_told(await hearing))
            finally:
                await ends.ended(sending, hearing)
        finally:
            del self._transfers[offer.id]
            if transfer.taken or first.node_id in self._listeners:
                self._listeners.tell(first.node_id, pb.ImageOffer(id=offer.id, close=True))

    # ---- from nodes ----

    async def Listen(  # noqa: N802 - the service's name
        self, _request: pb.ListenRequest, context: AnyContext
    ) -> None:
        """A node's offers, until it goes or listens anew."""
        await self._listeners.listen(await self._caller(context), context)

    async def Take(  # noqa: N802 - the service's name
        self, requests: AsyncIterator[pb.ImageWord], context: AnyContext
    ) -> None:
        """One image of the calling node."""
        node_id = await self._caller(context)
        coming = aiter(requests)
        try:
            with call_ends():
                first = await anext(coming, pb.ImageWord())
        except CallEndedError:
            return
        transfer = self._transfers.get(first.offer_id)
        if transfer is None or transfer.node_id != node_id or transfer.taken:
            return  # who pushed it was faster
        transfer.taken = True
        transfer.words.put_nowait(first)
        sending = asyncio.ensure_future(_send(transfer, context))
        try:
            while True:
                with call_ends():
                    word = await anext(coming, None)
                if word is None:
                    return
                transfer.words.put_nowait(word)
                if word.done or word.error:
                    return
        except CallEndedError:
            return
        finally:
            transfer.lost()
            await ends.ended(sending)

    def _lose(self, node_id: str) -> None:
        for transfer in self._transfers.values():
            if transfer.node_id == node_id:
                transfer.lost()


def _told(word: pb.ImageWord | None) -> mpb.ImagePushed:
    if word is None:
        return mpb.ImagePushed(error=GONE)
    return mpb.ImagePushed(wants=word.wants, done=word.done, error=word.error)


async def _fill(transfer: Transfer, coming: AsyncIterator[mpb.ImagePush]) -> None:
    while True:
        with call_ends():
            push = await anext(coming, None)
        if push is None:
            raise CallEndedError("who pushed the image has gone")
        await transfer.chunks.put(pb.ImageChunk(data=push.data, last=push.last))
        if push.last:
            return


async def _send(transfer: Transfer, context: AnyContext) -> None:
    while True:
        chunk = await transfer.chunks.get()
        try:
            with call_ends():
                await context.write(chunk)
        except CallEndedError:
            return
        if chunk.last:
            return
