"""Nodes' containers on overlay networks: a node says the whole, the store is made to agree.

A node speaks for its own containers alone: whose they are is the certificate's word, not the
message's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

import grpc

from meshnet import drops
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.cluster.attachments import told
from meshnet_control.manager import validation
from meshnet_control.manager.authority import AnyContext
from meshnet_control.orchestrate import attachments
from meshnet_control.store import store as st

_log = logging.getLogger(__name__)

_TRIES: Final = 8
"""Writers of tasks that may come between reading and writing."""


class AttachmentsService(control_pb2_grpc.AttachmentsServicer):
    """Keeps what nodes say of their containers.

    Args:
        store: the cluster.
        caller: the calling node's id; ends any other caller's call.
        wall: Unix seconds.
    """

    def __init__(
        self,
        store: st.Store,
        caller: Callable[[AnyContext], Awaitable[str]],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._caller, self._wall = store, caller, wall

    async def Find(  # noqa: N802 - the service's name
        self, request: pb.FindNetworkRequest, context: AnyContext
    ) -> pb.FindNetworkReply:
        """A network by its name, its id, or the only one whose id begins so."""
        await self._node(context)
        try:
            networks = await self._store.list(pb.Network)
        except st.StoreError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        found = [n for n in networks if request.reference in {n.id, n.spec.name}]
        if not found and request.reference:
            found = [n for n in networks if n.id.startswith(request.reference)]
        if len(found) != 1:
            what = f"network {request.reference[: validation.TEXT]} not found"
            await context.abort(grpc.StatusCode.NOT_FOUND, what)
        return pb.FindNetworkReply(network=told(found[0]))

    async def Attach(  # noqa: N802 - the service's name
        self, request: pb.AttachRequest, context: AnyContext
    ) -> pb.AttachReply:
        """The whole of what the calling node's containers are attached to."""
        node_id = await self._node(context)
        try:
            validation.attachments(request)
            states = await self._agree(node_id, request)
        except validation.InvalidError as error:
            drops.count("manager: attachments that cannot be")
            _log.warning("node %s: %s", node_id, error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except (st.StoreError, st.OutOfSequenceError) as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return pb.AttachReply(
            states=[
                pb.AttachmentState(
                    container_id=container, network_id=network, made=max(0, made), trouble=why
                )
                for (container, network), (made, why) in sorted(states.items())
            ]
        )

    async def _node(self, context: AnyContext) -> str:
        """The caller, which is still part of the cluster: certificates outlive a removal."""
        node_id = await self._caller(context)
        try:
            known = await self._store.get(pb.Node, node_id) is not None
        except st.StoreError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        if not known:
            why = f"node {node_id} is not part of this cluster"
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, why)
        return node_id

    async def _agree(
        self, node_id: str, request: pb.AttachRequest
    ) -> dict[attachments.Place, tuple[int, str]]:
        for tried in range(_TRIES):
            networks = {network.id: network for network in await self._store.list(pb.Network)}
            tasks = await self._store.list(pb.Task, st.Where(nodes=frozenset({node_id})))
            now = self._wall()
            nodes = {node.id: node for node in await self._store.list(pb.Node)}
            itself = nodes.get(node_id, pb.Node()).description
            found = attachments.changes(
                node_id,
                request.attachments,
                tasks,
                networks,
                now,
                alone=len(nodes) == 1,
                esp=itself.esp,
            )
            try:
                await self._store.commit(found.writes, found.expect)
            except st.OutOfSequenceError:
                if tried + 1 == _TRIES:
                    raise
            else:
                return found.states
        return {}
