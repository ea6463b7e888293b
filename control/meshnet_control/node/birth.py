"""The first objects of a new cluster: itself, its first manager, the ingress network.

Pure but for the keys, which are random.
Source: swarmkit manager/manager.go (defaultClusterObject) and api/defaults; moby
daemon/cluster/swarm.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final

from meshnet.errors import ControlError
from meshnet.gossip.signing import SEED_BYTES
from meshnet.model.ids import Rng, new_id
from meshnet.model.wellknown import VXLAN_PORT
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_ring
from meshnet_control.identity import ca, tokens
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.orchestrate.addresses import subnet_for
from meshnet_control.orchestrate.allocate import ingress_network
from meshnet_control.store.unlock_key import new_unlock_key

_POOL: Final = "10.0.0.0/8"
_SUBNET_SIZE: Final = 24
_LARGEST_SIZE: Final = 29
_SECOND_NS: Final = 1_000_000_000
_HEARTBEAT_NS: Final = 5 * _SECOND_NS
_CERTIFICATE_NS: Final = 90 * 24 * 3600 * _SECOND_NS
_HISTORY: Final = 5
_SNAPSHOT_INTERVAL: Final = 10_000
_LOG_ENTRIES_FOR_SLOW: Final = 500
_ELECTION_TICK: Final = 10
_HEARTBEAT_TICK: Final = 1
_KEY_BITS: Final = 128
_BYTE: Final = 8


@dataclass(frozen=True)
class Birth:
    """A new cluster: this node's identity, and what to write to its store."""

    identity: Identity
    cluster: pb.Cluster
    node: pb.Node
    ingress: pb.Network


def birth(
    request: pb.SwarmInitRequest,
    listen: tuple[str, int],
    advertise: tuple[str, int],
    data_path: str,
    now: float,
    rng: Rng,
    routes: Iterable[IPv4Network] = (),
    described: pb.NodeDescription | None = None,
) -> Birth:
    """A cluster whose only node is this one.

    Args:
        request: of ``docker swarm init``.
        listen: (address, port) of the manager.
        advertise: (address, port) that other nodes are told.
        data_path: underlay address of this node.
        now: Unix seconds.
        rng: a cryptographic source of randomness.
        routes: destinations this host has routes to. The ingress network has an interface in the
            host's own namespace, so its subnet keeps clear of them.
        described: what the engine says of this host: its node is Ready from the first moment, as
            one that was Ready when its manager was started anew. None: once its agent says so.

    Raises:
        ControlError: the address pools, or the size of the subnets from them, cannot be used.
    """
    pools, size = _pools(request)
    cluster_id, node_id = new_id(rng), new_id(rng)
    root, root_key = ca.new_root(cluster_id, now)
    key, csr = ca.new_csr()
    certificate = ca.issue(
        root, root_key, csr, node_id, "manager", cluster_id, now, addr=advertise[0]
    )
    addr = f"{advertise[0]}:{advertise[1]}"
    identity = Identity(
        node_id=node_id,
        cluster_id=cluster_id,
        role="manager",
        certs=Certificates(key=key, certificate=certificate, root=root),
        managers=(addr,),
        advertise_addr=addr,
        listen_addr=f"{listen[0]}:{listen[1]}",
        data_path_addr=data_path,
        data_path_port=request.data_path_port or VXLAN_PORT,
        availability=request.availability.lower() or "active",
        gossip_key=rng.getrandbits(SEED_BYTES * _BYTE).to_bytes(SEED_BYTES, "big"),
    )
    cluster = pb.Cluster(
        id=cluster_id,
        default_addr_pool=pools,
        subnet_size=size,
        data_path_port=request.data_path_port or VXLAN_PORT,
        ca_certificate=root,
        ca_key=root_key,
        gossip_keys=[gossip_ring.new_key(rng)],
        gossip_rotation=pb.GossipRotation(begun=int(now * 1e9), moved=int(now * 1e9)),
        tls_info=ca.tls_info(root),
    )
    cluster.spec.CopyFrom(request.spec)
    _complete(cluster.spec)
    if request.auto_lock_managers or cluster.spec.encryption_config.auto_lock_managers:
        cluster.spec.encryption_config.auto_lock_managers = True
        cluster.unlock_key = new_unlock_key(rng)
    cluster.join_tokens.worker = tokens.join_token(root, tokens.new_secret(_random(rng)))
    cluster.join_tokens.manager = tokens.join_token(root, tokens.new_secret(_random(rng)))
    node = pb.Node(id=node_id, certificate=certificate)
    node.spec.role, node.spec.availability = "manager", identity.availability
    node.status.state, node.status.addr = "unknown", advertise[0]
    node.status.data_path_addr = data_path
    if described is not None:
        node.description.CopyFrom(described)
        node.status.state = "ready"
    node.manager_status.leader, node.manager_status.reachability = True, "reachable"
    node.manager_status.addr = addr
    ingress = ingress_network(rng)
    _keep_clear(ingress, cluster, list(routes))
    return Birth(identity, cluster, node, ingress)


def _complete(spec: pb.ClusterSpec) -> None:
    """Docker's defaults for what the request leaves open; in place."""
    spec.name = "default"
    if not spec.orchestration.HasField("task_history_retention_limit"):
        spec.orchestration.task_history_retention_limit = _HISTORY
    spec.dispatcher.heartbeat_period = spec.dispatcher.heartbeat_period or _HEARTBEAT_NS
    spec.ca_config.node_cert_expiry = spec.ca_config.node_cert_expiry or _CERTIFICATE_NS
    raft = spec.raft
    raft.snapshot_interval = raft.snapshot_interval or _SNAPSHOT_INTERVAL
    if not raft.HasField("keep_old_snapshots"):
        raft.keep_old_snapshots = 0
    raft.log_entries_for_slow_followers = (
        raft.log_entries_for_slow_followers or _LOG_ENTRIES_FOR_SLOW
    )
    raft.election_tick = raft.election_tick or _ELECTION_TICK
    raft.heartbeat_tick = raft.heartbeat_tick or _HEARTBEAT_TICK


def _keep_clear(ingress: pb.Network, cluster: pb.Cluster, routes: Sequence[IPv4Network]) -> None:
    """Ask for a subnet for the ingress network where the usual one is the host's; in place."""
    usual = subnet_for(cluster, [])
    if usual is None or not any(usual.overlaps(route) for route in routes):
        return
    taken = [pb.Network() for _ in routes]
    for network, route in zip(taken, routes, strict=True):
        network.spec.ipam_options.configs.add(subnet=str(route))
    chosen = subnet_for(cluster, taken)
    if chosen is None:
        raise ControlError(
            f"every subnet of the address pool {', '.join(cluster.default_addr_pool)} overlaps "
            "with a route of this host - specify another pool with --default-addr-pool"
        )
    ingress.spec.ipam_options.configs.add(subnet=str(chosen))


def _pools(request: pb.SwarmInitRequest) -> tuple[list[str], int]:
    """The address pools and the prefix length of a network's subnet from them."""
    size = request.subnet_size or _SUBNET_SIZE
    if size > _LARGEST_SIZE:
        raise ControlError(f"subnet size is out of range: {size} (at most {_LARGEST_SIZE})")
    pools: list[IPv4Network] = []
    for said in request.default_addr_pool or [_POOL]:
        try:
            pool = IPv4Network(said, strict=False)
        except ValueError:
            raise ControlError(f"invalid base pool {said!r}: not an IPv4 subnet") from None
        if pool.prefixlen > size:
            raise ControlError(f"invalid CIDR: {said!r}. Subnet size is too small for pool: {size}")
        taken = next((other for other in pools if other.overlaps(pool)), None)
        if taken is not None:
            raise ControlError(f"default address pools {taken} and {pool} overlap")
        pools.append(pool)
    return [str(pool) for pool in pools], size


def _random(rng: Rng) -> bytes:
    return rng.getrandbits(_KEY_BITS).to_bytes(_KEY_BITS // _BYTE, "big")
