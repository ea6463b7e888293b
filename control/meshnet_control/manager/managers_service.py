"""What managers ask of each other on port 2377: a place among them, and logs.

For certificates of managers alone; whoever does not lead says who does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import grpc

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc, manager_pb2_grpc
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.cluster.roles import MANAGER
from meshnet_control.manager import log_service, validation
from meshnet_control.manager.authority import AnyContext, Authority
from meshnet_control.manager.log_broker import LogBroker
from meshnet_control.manager.managers_client import Admission
from meshnet_control.manager.referral import refer
from meshnet_control.store import store as st

ONLY_MANAGERS: Final = "only managers may call this"


class Admitting(Protocol):
    """Who lets managers in."""

    async def admit(self, node_id: str, peer: str) -> Admission:
        """See ``Backing.admit``."""
        ...


async def only_managers(context: AnyContext, authority: Authority) -> str:
    """The calling manager's id; any other caller's call ends here with PERMISSION_DENIED."""
    who = authority.peer(context)
    if who is None or who.kind != "node" or who.role != MANAGER:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, ONLY_MANAGERS)
    return who.node_id


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
            node = await self._store.get(pb.Node, node_id)
            if node is None or node.spec.role != MANAGER:
                why = f"node {node_id} is not to be a manager"
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, why)
            found = await self._admitting.admit(node_id, request.peer_addr)
        except validation.InvalidError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except (ControlError, st.StoreError) as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return pb.ManagerJoinReply(peers=found.peers, store_keys=found.keys, lock=found.lock)


class PeerLogs(manager_pb2_grpc.LogsServicer):
    """Logs for other managers' clients: the nodes' streams are at who leads.

    Args:
        authority: tells who calls.
        logs: of this manager.
        leader: see ``ManagersService``.
    """

    def __init__(
        self, authority: Authority, logs: LogBroker, leader: Callable[[], str | None]
    ) -> None:
        self._authority, self._logs, self._leader = authority, logs, leader

    async def Read(  # noqa: N802 - the service's name
        self, request: mpb.LogRequest, context: AnyContext
    ) -> None:
        """One reader's log, in the engine's frames; each second a sign of life."""
        await only_managers(context, self._authority)
        leader = self._leader()
        if leader is not None:
            await refer(context, leader)
        await log_service.read(self._logs, request, context)
