"""An image on its way from a manager's meshnetd: handed to nodes here, or by the one that leads.

The nodes' streams are at the leader, so it alone can offer them images.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from meshnet import ends
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.api import manager_pb2_grpc
from meshnet_control.identity.channel import CallEndedError, call_ends, channel
from meshnet_control.identity.identity import Certificates
from meshnet_control.manager.authority import AnyContext
from meshnet_control.manager.image_broker import ImageBroker

NO_LEADER: Final = "no manager leads"
_LEADER_WENT: Final = "the manager that led has gone: push again"
_log = logging.getLogger(__name__)


async def take(
    images: ImageBroker, requests: AsyncIterator[mpb.ImagePush], context: AnyContext
) -> None:
    """One image for one node, by this manager."""

    async def reply(said: mpb.ImagePushed) -> None:
        with call_ends():
            await context.write(said)

    coming = aiter(requests)
    try:
        with call_ends():
            first = await anext(coming, None)
        if first is not None:
            await images.push(first, coming, reply)
    except CallEndedError:
        return  # who pushes has gone


async def pass_on(
    leader: str,
    certs: Certificates,
    requests: AsyncIterator[mpb.ImagePush],
    context: AnyContext,
) -> None:
    """The same, by the manager that leads.

    Args:
        leader: ``host:port`` of its port 2377.
        certs: of this manager.
        requests: what is pushed.
        context: of the call.
    """
    async with channel(leader, certs) as link:
        call = manager_pb2_grpc.ImagesStub(link).Push()

        async def onwards() -> None:
            coming = aiter(requests)
            with call_ends():
                while (push := await anext(coming, None)) is not None:
                    await call.write(push)
                await call.done_writing()

        sending = asyncio.ensure_future(onwards())
        try:
            while True:
                with call_ends():
                    said = await call.read()
                if not isinstance(said, mpb.ImagePushed):
                    return
                with call_ends():
                    await context.write(said)
        except CallEndedError as error:
            _log.info("image by the manager that leads: %s", error)
            await say(context, _LEADER_WENT)
        finally:
            call.cancel()
            await ends.ended(sending)


async def say(context: AnyContext, why: str) -> None:
    """Why nothing is pushed."""
    try:
        with call_ends():
            await context.write(mpb.ImagePushed(error=why))
    except CallEndedError:
        return
