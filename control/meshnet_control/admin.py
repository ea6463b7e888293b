"""What the meshnet command asks of its host: gRPC on a unix socket that only root may open."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from contextlib import aclosing
from importlib.metadata import version
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from meshnet import drops, happened
from meshnet.errors import ControlError, MeshnetError
from meshnet.model import paths
from meshnet.model.wellknown import VXLAN_PORT
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc, explain_pb2_grpc
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.controlapi.access import Access
from meshnet_control.controlapi.swarm import Swarm
from meshnet_control.gateway.request import NOT_IN_SWARM, NOT_MANAGER
from meshnet_control.node.member import ClusterMember
from meshnet_control.node.node import Node
from meshnet_control.node.rebalancing import rebalanced
from meshnet_control.store.store import OutOfSequenceError, StoreError

NAME: Final = "admin.sock"
_GRACE_S: Final = 0.2


NO_WAY = "no way there from here"
"""Others reach the member; no packet passes between it and this node."""
ONLY_A_MANAGER: Final = "this host is no manager: type it on one"
NO_CLUSTER: Final = "this host is in no cluster: docker swarm init, or join one"


class Admin(control_pb2_grpc.AdminServicer):
    """Says what runs here.

    Args:
        node: this node.
        engine_version: of the local Docker Engine.
        hostname: of this host.
    """

    def __init__(self, node: Node, engine_version: str, hostname: str) -> None:
        self._node, self._engine_version, self._hostname = node, engine_version, hostname

    async def Status(  # noqa: N802 - the service's name
        self,
        request: pb.StatusRequest,
        context: grpc.aio.ServicerContext[pb.StatusRequest, pb.StatusReply],
    ) -> pb.StatusReply:
        """Everything at once."""
        reply = pb.StatusReply(
            version=version("meshnet"),
            hostname=self._hostname,
            role="none" if self._node.state == "inactive" else self._node.state,
            engine=self._engine_version,
            error=self._node.error,
            drops=drops.snapshot(),
            warnings=self._node.warnings(),
            happened=[
                pb.Happened(at=event.at, what=event.what, times=event.times)
                for event in happened.recent()
            ],
        )
        membership = self._node.membership
        if membership is not None:
            _add(reply, membership)
            if membership.link is not None:
                said = await membership.link.status()
                reply.manager.CopyFrom(said.process)
                reply.snapshots.extend(said.snapshots)
                for reason, times in said.drops.items():
                    reply.drops[reason] += times
        return reply

    async def Backup(  # noqa: N802 - the service's name
        self,
        request: pb.BackupRequest,
        context: grpc.aio.ServicerContext[pb.BackupRequest, pb.BackupReply],
    ) -> pb.BackupReply:
        """This manager in a file."""
        try:
            return await self._node.backup(Path(request.path))
        except MeshnetError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    async def RotateGossipKey(  # noqa: N802 - the service's name
        self,
        request: pb.RotateGossipKeyRequest,
        context: grpc.aio.ServicerContext[pb.RotateGossipKeyRequest, pb.RotateGossipKeyReply],
    ) -> pb.RotateGossipKeyReply:
        """Have the managers rotate it."""
        store = self._node.store()
        if store is None:
            why = NOT_IN_SWARM if self._node.state == "inactive" else NOT_MANAGER
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, self._node.error or why)
        try:
            access = Access(store, secrets.SystemRandom(), time.time)
            await Swarm(access).rotate_gossip_key()
        except (MeshnetError, StoreError) as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return pb.RotateGossipKeyReply()


class Explain(explain_pb2_grpc.ExplainServicer):
    """Answers questions about this node, and has managers ask others.

    Args:
        node: this node.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    async def Ask(  # noqa: N802 - the service's name
        self,
        request: xpb.AskRequest,
        context: grpc.aio.ServicerContext[xpb.AskRequest, xpb.AskReply],
    ) -> xpb.AskReply:
        """One question, to this node or to others too."""
        membership = self._node.membership
        if membership is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, NO_CLUSTER)
        try:
            return await membership.questions.ask(request)
        except ControlError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    async def Rebalance(  # noqa: N802 - the service's name
        self,
        request: xpb.RebalanceRequest,
        context: grpc.aio.ServicerContext[xpb.RebalanceRequest, xpb.Moved],
    ) -> None:
        """Each move when it begins and when its successor runs."""
        membership = self._node.membership
        if membership is None or membership.link is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, ONLY_A_MANAGER)
        try:
            async with aclosing(rebalanced(membership.link.store, dry=request.dry_run)) as moved:
                async for each in moved:
                    await context.write(each)
        except (ControlError, StoreError, OutOfSequenceError) as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))


def _add(reply: pb.StatusReply, membership: ClusterMember) -> None:
    who = membership.identity
    reply.node_id, reply.cluster_id, reply.role = who.node_id, who.cluster_id, who.role
    reply.addr = who.advertise_addr
    reply.allows_privileged = membership.allows_privileged
    reply.data_path_port = who.data_path_port or VXLAN_PORT
    reply.error = reply.error or membership.not_ready or membership.session.error
    snapshot = membership.kernel.dataplane.snapshot
    itself = snapshot.nodes.get(snapshot.self_id)
    for member in membership.gossip.members().values():
        node = snapshot.nodes.get(member.id)
        if member.id != who.node_id:
            reply.peers.add(
                node_id=member.id,
                hostname=membership.hostnames.get(member.id, ""),
                addr=member.address[0],
                state=member.state.value if member.direct else f"{member.state.value}, {NO_WAY}",
                packet_bytes=paths.largest(itself, node) if itself and node else 0,
            )
    here = {network for box in snapshot.sandboxes.values() for network, _ in box.networks}
    for network in sorted(snapshot.networks.values(), key=lambda each: each.name):
        if network.ingress or network.id in here:
            reply.networks.append(network.name)
            reply.mtus[network.name] = paths.mtu_of(snapshot, network)
    reply.tasks = len(snapshot.sandboxes.keys() - membership.agent.attachments.keys)
    for status in membership.kernel.statuses:
        reply.reconcilers.add(
            name=status.name,
            revision=status.revision,
            last_round=status.last_round,
            changes=status.changes,
            rounds=status.rounds,
            error=status.error,
        )


class AdminServer:
    """The socket."""

    def __init__(self, admin: Admin, explain: Explain, run_dir: Path) -> None:
        self._path = run_dir / NAME
        self._server = grpc.aio.server()
        control_pb2_grpc.add_AdminServicer_to_server(admin, self._server)
        explain_pb2_grpc.add_ExplainServicer_to_server(explain, self._server)

    async def start(self) -> None:
        """Serve."""
        await asyncio.to_thread(self._path.unlink, missing_ok=True)
        before = os.umask(0o177)  # root's alone from its first moment on
        try:
            self._server.add_insecure_port(f"unix://{self._path}")
        finally:
            os.umask(before)
        await self._server.start()

    async def stop(self) -> None:
        """Stop, and remove the socket."""
        await self._server.stop(_GRACE_S)
        await asyncio.to_thread(self._path.unlink, missing_ok=True)
