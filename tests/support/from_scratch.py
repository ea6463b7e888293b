"""What the data plane keeps up with every change, made of the whole: the other side of its laws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from types import MappingProxyType

from meshnet.gossip.shares import Share, placed, share_of
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId
from meshnet.model.snapshot import Endpoint, Gwbridge, Network, Sandbox, Snapshot
from meshnet.model.wellknown import VXLAN_PORT
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.gossip_records import EPOCH_KEY, NODE_KEY, Epoch, Records
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane import claims, known_records, snapshot


def build(
    *,
    revision: int,
    self_id: NodeId,
    assignments: NodeState,
    gone: Set[NodeId] = frozenset(),
    doubted: Set[NodeId] = frozenset(),
    records: Mapping[tuple[NodeId, str], bytes],
    sandboxes: Mapping[TaskId, Sandbox],
    gwbridge: Gwbridge | None,
    complete: bool,
    before: Mapping[NetworkId, Network] = MappingProxyType({}),
) -> Snapshot:
    """The Snapshot of this moment, from scratch.

    Args:
        revision: number of the new Snapshot.
        self_id: this node.
        assignments: everything the managers said, merged.
        gone: nodes that nothing is chosen of (``liveness.is_gone``).
        doubted: nodes that are chosen only where nobody else is there.
        records: what each node last said (``remembered``).
        sandboxes: containers on this node that we wire.
        gwbridge: docker_gwbridge as the local engine made it.
        complete: both sources have spoken since the process started.
        before: networks of the last Snapshot: one that was removed stays while a container that
            still stops is on it.
    """
    mtus = {node: value for (node, key), value in records.items() if key == NODE_KEY}
    nodes = snapshot.nodes_of(assignments, self_id, mtus, gone, doubted)
    networks = snapshot.networks_of(assignments, sandboxes.values(), before)
    endpoints: dict[TaskId, Endpoint] = {
        task: endpoint
        for task, endpoint in gossip_records.decode_endpoints(records).items()
        if endpoint.node in nodes
    }
    services = {
        ServiceId(service.id): snapshot.service_of(service) for service in assignments.services
    }
    return Snapshot(
        revision=revision,
        self_id=self_id,
        nodes=nodes,
        networks=networks,
        services=services,
        endpoints=claims.settled(
            endpoints, claims.taken(services.values(), nodes.values(), networks)
        ),
        sandboxes=dict(sandboxes),
        gwbridge=gwbridge,
        complete=complete,
        epochs=epochs(records),
        vxlan_port=assignments.settings.data_path_port or VXLAN_PORT,
    )


def remembered(
    before: Records, told: Records, nodes: Iterable[NodeId], networks: Set[str] = frozenset()
) -> Records:
    """Records of ``nodes``: as they are told now, else as they were before.

    Args:
        before: the answer of the last time.
        told: what gossip has now, of all members that it remembers.
        nodes: every node that the managers know.
        networks: that this node hears of.
    """
    known = set(nodes)
    owners = {owner for owner, _ in before.keys() | told.keys()} & known
    found: dict[tuple[NodeId, str], bytes] = {}
    for owner in owners:
        had = {key: value for (who, key), value in before.items() if who == owner}
        has = {key: value for (who, key), value in told.items() if who == owner}
        found |= {
            (owner, key): value for key, value in known_records.of_one(had, has, networks).items()
        }
    return found


def epochs(records: Records) -> dict[Share, Epoch]:
    """Each node's epochs; a node that does not know its endpoints (yet) has none.

    Args:
        records: as gossip has them.

    Returns:
        Share -> how often what the node says to all, or on a network, changed.
    """
    return {
        share_of(owner, placed(key)[0]): gossip_records.decode_epoch(value) or (0, 0)
        for (owner, key), value in records.items()
        if placed(key)[1] == EPOCH_KEY
    }
