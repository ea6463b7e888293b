"""What this node's attached containers want, said to one manager after the other.

The whole is said each time it changes, and every half minute; whoever answers has it all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import grpc
import grpc.aio

from meshnet.errors import ControlError
from meshnet_control.agent.attachments import Attachments
from meshnet_control.agent.node_networks import NodeNetworks
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.cluster.attachments import could_not, not_attachable, unavailable
from meshnet_control.identity.channel import CallEndedError, call_ends

_log = logging.getLogger(__name__)

ASK_S: Final = 5.0
LOOK_S: Final = 30.0
LACKING_S: Final = 0.5
"""Between two questions while a container waits for an address."""
_NOBODY: Final = "no manager is connected"

Work = Callable[[grpc.aio.Channel], Awaitable[None]]


class AttachLink:
    """Speaks for a node's attached containers.

    Args:
        attachments: they.
        networks: of the cluster that this node's engine makes.
    """

    def __init__(self, attachments: Attachments, networks: NodeNetworks) -> None:
        self.containers, self.networks = attachments, networks
        self._stub: control_pb2_grpc.AttachmentsStub | None = None
        self._trouble = ""
        """Why the last word was not heard; empty: it was."""

    async def find(self, reference: str) -> pb.Network:
        """The network of the cluster that a user means, if containers may be attached to it.

        Raises:
            ControlError: there is none (404), it is for services alone, or nobody can be asked.
        """
        if self._stub is None:
            raise _refused(reference, unavailable(_NOBODY))
        try:
            with call_ends():
                asked = pb.FindNetworkRequest(reference=reference)
                network = (await self._stub.Find(asked, timeout=ASK_S)).network
        except CallEndedError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                raise ControlError(error.why, HTTPStatus.NOT_FOUND) from None
            raise _refused(reference, unavailable(error.why)) from None
        if not network.spec.attachable:
            raise _refused(network.spec.name, not_attachable(network.spec.name))
        return network

    async def leave(self) -> None:
        """The node leaves its cluster: what its containers were given is the managers' again."""
        await self.containers.leave()
        if self._stub is not None:
            with suppress(CallEndedError), call_ends():
                await self._stub.Attach(pb.AttachRequest(), timeout=ASK_S)

    async def run(self, link: grpc.aio.Channel) -> None:
        """Tell one manager what is wanted, until cancelled."""
        dirty = self.containers.dirty
        stub = self._stub = control_pb2_grpc.AttachmentsStub(link)
        dirty.set()
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LACKING_S if self.containers.lacking else LOOK_S):
                        await dirty.wait()
                dirty.clear()
                if self.containers.adopted and not await self._said(stub):
                    dirty.set()
                    await asyncio.sleep(LACKING_S)
        finally:
            if self._stub is stub:
                self._stub = None

    async def _said(self, stub: control_pb2_grpc.AttachmentsStub) -> bool:
        """Says the whole; whether it was heard."""
        wanted = self.containers.wanted()
        try:
            with call_ends():
                reply = await stub.Attach(pb.AttachRequest(attachments=wanted), timeout=ASK_S)
        except CallEndedError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                _log.warning("attachments of containers are not told: %s", error)
            return False
        self._trouble = ""
        self.containers.answered(reply.states)
        return True


async def together(link: grpc.aio.Channel, *works: Work) -> None:
    """Several works on one connection; when one ends, all do."""
    jobs = [asyncio.ensure_future(work(link)) for work in works]
    try:
        done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        for job in done:
            job.result()
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)


def _refused(name: str, why: str) -> ControlError:
    return ControlError(could_not(name, why), HTTPStatus.INTERNAL_SERVER_ERROR)
