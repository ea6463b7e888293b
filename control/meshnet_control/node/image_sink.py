"""A node's side of the image broker: takes images that managers offer and loads them.

```
 manager ── Listen: offers ──> run ── one task each ──> here already? ──> POST /images/{id}/tag
         <── Take: wants ─────────────────────────────┘ else
         ── archive ─────────────────────────────────────────────────> POST /images/load
```
The archive goes to the engine as it comes: nothing of it is kept here. One that breaks off ends in
the engine's own error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Final, TypeAlias
from urllib.parse import quote, urlencode

import grpc.aio

from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.engine.client import EngineClient, EngineError
from meshnet_control.engine.connection import Request
from meshnet_control.identity.channel import CallEndedError, call_ends
from meshnet_control.node import orders

_log = logging.getLogger(__name__)

AGAIN_S: Final = 1.0
Call: TypeAlias = grpc.aio.StreamStreamCall[pb.ImageWord, pb.ImageChunk]


class ImageSink:
    """Takes images for this node's engine.

    Args:
        engine: the local engine.
    """

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine

    async def run(self, link: grpc.aio.Channel) -> None:
        """Serve one manager until cancelled."""
        stub = control_pb2_grpc.ImagesStub(link)
        await orders.follow(
            lambda: stub.Listen(pb.ListenRequest()),
            pb.ImageOffer,
            lambda offer: self._take(stub, offer),
            "image",
            AGAIN_S,
        )

    async def _take(self, stub: control_pb2_grpc.ImagesStub, offer: pb.ImageOffer) -> None:
        call = stub.Take()
        try:
            word = await self._judged(offer)
            with call_ends():
                await call.write(word)
            if word.wants:
                error = await self._loaded(call)
                with call_ends():
                    await call.write(pb.ImageWord(done=not error, error=error))
            with call_ends():
                await call.done_writing()
                while isinstance(await call.read(), pb.ImageChunk):
                    continue
        except CallEndedError as error:
            _log.debug("image %s: %s", offer.id, error)
        finally:
            call.cancel()

    async def _judged(self, offer: pb.ImageOffer) -> pb.ImageWord:
        """Whether the image is here; then it has its names now."""
        path = f"/images/{quote(offer.image_id, safe=':')}"
        word = pb.ImageWord(offer_id=offer.id)
        try:
            async with self._engine.open(Request("GET", f"{path}/json")) as answer:
                if answer.status == HTTPStatus.NOT_FOUND:
                    word.wants = True
                    return word
                await answer.accepted()
            for name in offer.tags:
                repo, _, tag = name.rpartition(":")
                asked = urlencode({"repo": repo, "tag": tag})
                async with self._engine.open(Request("POST", f"{path}/tag?{asked}")) as answer:
                    await answer.accepted()
        except EngineError as error:
            word.error = str(error)
        else:
            word.done = True
        return word

    async def _loaded(self, call: Call) -> str:
        """Why the image could not be loaded; empty: it was."""
        request = Request(
            "POST",
            "/images/load?quiet=1",
            headers={"Content-Type": "application/x-tar"},
            body=_archive(call),
            limit_s=None,
        )
        try:
            async with self._engine.open(request) as answer:
                await answer.accepted()
                return refused(await answer.read())
        except EngineError as error:
            return str(error)


async def _archive(call: Call) -> AsyncGenerator[bytes, None]:
    """The archive as it comes; it just ends where it breaks off."""
    try:
        while True:
            with call_ends():
                chunk = await call.read()
            if not isinstance(chunk, pb.ImageChunk):
                return
            if chunk.data:
                yield chunk.data
            if chunk.last:
                return
    except CallEndedError as error:
        _log.debug("image: %s", error)


def refused(said: bytes) -> str:
    """What ``POST /images/load`` says of an error, though its status is 200; empty: none. PURE."""
    for line in said.splitlines():
        try:
            error = json.loads(line).get("error")
        except (ValueError, AttributeError, RecursionError):
            continue
        if error:
            return str(error)
    return ""
