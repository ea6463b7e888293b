"""This node as ``docker info`` shows it: the part Swarm, without ``Cluster``.

Source: moby daemon/cluster/swarm.go (Info).
"""

from __future__ import annotations

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.roles import MANAGER
from meshnet_control.controlapi.refusals import no_leader
from meshnet_control.identity.identity import Identity
from meshnet_control.node.member import ClusterMember
from meshnet_control.store.store import NO_LEADER


def swarm_info(who: Identity | None, membership: ClusterMember | None, error: str) -> pb.SwarmInfo:
    """What is said of this node now.

    Args:
        who: this node; None: it is in no cluster.
        membership: None: it is in no cluster, or cannot go on in its one.
        error: why not.
    """
    if who is None:
        return pb.SwarmInfo(local_node_state="inactive", error=error)
    if membership is None:
        return pb.SwarmInfo(node_id=who.node_id, local_node_state="error", error=error)
    assigned, not_ready = membership.assignments, membership.not_ready
    locked = membership.link is not None and membership.link.locked
    if not_ready == NO_LEADER:  # a manager that began again, alone: its etcd waits for others
        not_ready, error = "", no_leader().message
    else:
        error = not_ready or membership.session.error
    return pb.SwarmInfo(
        node_id=who.node_id,
        node_addr=who.advertise_addr.rpartition(":")[0],
        local_node_state="locked" if locked else "error" if not_ready else "active",
        control_available=who.role == MANAGER and not not_ready,
        error=error,
        remote_managers=list(assigned.settings.managers)
        or [pb.RemoteManager(addr=addr) for addr in who.managers],
        nodes=len(assigned.nodes) if who.role == MANAGER else 0,
        managers=len(assigned.settings.managers) if who.role == MANAGER else 0,
    )
