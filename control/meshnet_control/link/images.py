"""Images for other nodes from meshnetd: through the managers, to the node's engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import grpc.aio

from meshnet import ends
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.api import manager_pb2_grpc
from meshnet_control.identity.channel import CallEndedError, call_ends

STALLED_S: Final = 60.0
"""A node that takes nothing for so long is given up."""
LOADS_S: Final = 600.0
"""For the engine to unpack what it has been sent."""
ENDED: Final = "meshnet-manager ended, or was started again: push again"
STALLED: Final = f"the node has taken nothing for {STALLED_S:.0f} s"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an image is."""

    sent: int
    """Bytes of its archive."""
    done: bool = False
    error: str = ""


class RemoteImages:
    """Sends images through meshnet-manager.

    Args:
        channel: to it.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = manager_pb2_grpc.ImagesStub(channel)

    async def push(
        self, node_id: str, image_id: str, tags: Sequence[str], archive: AsyncIterator[bytes]
    ) -> AsyncGenerator[Progress, None]:
        """Progress after each chunk; the last one is done or has an error.

        Args:
            node_id: who gets it.
            image_id: ``sha256:…``; a node that has it is not sent it.
            tags: ``name:tag`` that it gets there.
            archive: as ``docker save`` writes it; is begun only if the node wants it.
        """
        call = self._stub.Push()
        hearing: asyncio.Task[object] | None = None
        sent = 0
        try:
            with call_ends():
                await call.write(mpb.ImagePush(node_id=node_id, image_id=image_id, tags=tags))
                said = await call.read()
            if not isinstance(said, mpb.ImagePushed) or not said.wants:
                yield _last(said, 0)
                return
            hearing = asyncio.ensure_future(call.read())
            async for data in archive:
                if hearing.done():
                    break
                async with asyncio.timeout(STALLED_S):
                    with call_ends():
                        await call.write(mpb.ImagePush(data=data))
                sent += len(data)
                yield Progress(sent)
            if not hearing.done():
                with call_ends():
                    await call.write(mpb.ImagePush(last=True))
            async with asyncio.timeout(LOADS_S):
                with call_ends():
                    yield _last(await hearing, sent)
        except CallEndedError:
            yield await _last_word(hearing, sent)
        except TimeoutError:
            yield Progress(sent, error=STALLED)
        finally:
            call.cancel()
            if hearing is not None:
                await ends.ended(hearing)


async def _last_word(hearing: asyncio.Task[object] | None, sent: int) -> Progress:
    """Of a call that is over: what was said before its end, else that it has ended."""
    if hearing is not None:
        with contextlib.suppress(CallEndedError), call_ends():
            return _last(await hearing, sent)
    return Progress(sent, error=ENDED)


def _last(said: object, sent: int) -> Progress:
    if not isinstance(said, mpb.ImagePushed):
        return Progress(sent, error=ENDED)
    return Progress(sent, done=said.done, error=said.error or ("" if said.done else ENDED))
