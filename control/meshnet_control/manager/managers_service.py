"""What managers ask of each other on port 2377: a place among them, logs, images.

For certificates of managers alone; whoever does not lead says who does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

import grpc

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc, manager_pb2_grpc
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.cluster.roles import MANAGER
from meshnet_control.etcd.errors import EtcdError
from meshnet_control.identity.referral import refer
from meshnet_control.manager import image_service, log_service, validation
from meshnet_control.manager.authority import AnyContext, Authority
from meshnet_control.manager.image_broker import ImageBroker
from meshnet_control.manager.log_broker import LogBroker
from meshnet_control.manager.managers_client import Admission
from meshnet_control.store import store as st

ONLY_MANAGERS: Final = "only managers may call this"


class Admitting(Protocol):
    """Who lets managers in."""

    async def admit(self, node_id: str, peer: str) -> Admission:
        """See ``Backing.admit``."""
        ...

    @property
    def generation(self) -> int:
        """See ``Backing.generation``."""
        ...

    async def is_member(self, node_id: str) -> bool:
        """See ``Backing.is_member``."""
        ...


async def only_managers(context: AnyContext, authority: Authority) -> str:
    """The calling manager's id; any other caller's call ends here with PERMISSION_DENIED."""
    who = authority.peer(context)
    if who is None or who.kind != "node" or who.role != MANAGER:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, ONLY_MANAGERS)
    return who.node_id


async def managers_now(context: AnyContext, authority: Authority, store: st.Store) -> str:
    """The same, of one whose node is still to be a manager: certificates outlive a demotion.

    Raises:
        StoreError: the store cannot be asked now.
    """
    node_id = await only_managers(context, authority)
    node = await store.get(pb.Node, node_id)
    if node is None or node.spec.role != MANAGER:
        why = f"node {node_id} is not to be a manager"
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, why)
    return node_id


class ManagersService(control_pb2_grpc.ManagersServicer):
    """Lets managers in.

    Args:
        store: the cluster.
        authority: tells who calls.
        admitting: does it.
        leader: ``host:port`` of who leads when it is another manager, empty: unknown; None: this.
    """

    def __init__(
        self,
        store: st.Store,
        authority: Authority,
        admitting: Admitting,
        leader: Callable[[], str | None],
    ) -> None:
        self._store, self._authority = store, authority
        self._admitting, self._leader = admitting, leader

    async def Standing(  # noqa: N802 - the service's name
        self, request: pb.ManagerStandingRequest, context: AnyContext
    ) -> pb.ManagerStandingReply:
        """Whether the caller is one of etcd's members."""
        node_id = await only_managers(context, self._authority)
        leader = self._leader()
        if leader is not None:
            await refer(context, leader)
        try:
            member = await self._admitting.is_member(node_id)
            return pb.ManagerStandingReply(member=member, generation=self._admitting.generation)
        except (EtcdError, st.StoreError) as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def Join(  # noqa: N802 - the service's name
        self, request: pb.ManagerJoinRequest, context: AnyContext
    ) -> pb.ManagerJoinReply:
        """A place among etcd's members, and the store's keys."""
        node_id = await only_managers(context, self._authority)
        leader = self._leader()
        if leader is not None:
            await refer(context, leader)
        try:
            validation.peer(request.peer_addr)
            await managers_now(context, self._authority, self._store)
            found = await self._admitting.admit(node_id, request.peer_addr)
        except validation.InvalidError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except (ControlError, st.StoreError) as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return pb.ManagerJoinReply(
            peers=found.peers,
            store_keys=found.keys,
            lock=found.lock,
            generation=found.generation,
        )


async def _led(
    context: AnyContext, authority: Authority, store: st.Store, leader: str | None
) -> None:
    """Goes on for a manager, where this one leads (``leader`` is None); the call ends here else."""
    await only_managers(context, authority)
    if leader is not None:
        await refer(context, leader)
    try:
        await managers_now(context, authority, store)
    except st.StoreError as error:
        await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))


class PeerLogs(manager_pb2_grpc.LogsServicer):
    """Logs for other managers' clients: the nodes' streams are at who leads.

    Args:
        store: the cluster.
        authority: tells who calls.
        logs: of this manager.
        leader: see ``ManagersService``.
    """

    def __init__(
        self,
        store: st.Store,
        authority: Authority,
        logs: LogBroker,
        leader: Callable[[], str | None],
    ) -> None:
        self._store, self._authority = store, authority
        self._logs, self._leader = logs, leader

    async def Read(  # noqa: N802 - the service's name
        self, request: mpb.LogRequest, context: AnyContext
    ) -> None:
        """One reader's log, in the engine's frames; each second a sign of life."""
        await _led(context, self._authority, self._store, self._leader())
        await log_service.read(self._logs, request, context)


class PeerImages(manager_pb2_grpc.ImagesServicer):
    """Images from other managers' hosts.

    Args:
        store: the cluster.
        authority: tells who calls.
        images: of this manager.
        leader: see ``ManagersService``.
    """

    def __init__(
        self,
        store: st.Store,
        authority: Authority,
        images: ImageBroker,
        leader: Callable[[], str | None],
    ) -> None:
        self._store, self._authority = store, authority
        self._images, self._leader = images, leader

    async def Push(  # noqa: N802 - the service's name
        self, requests: AsyncIterator[mpb.ImagePush], context: AnyContext
    ) -> None:
        """One image for one node."""
        await _led(context, self._authority, self._store, self._leader())
        await image_service.take(self._images, requests, context)
