"""Joins what managers say (Assignments) and what nodes say (gossip) into one Snapshot. Pure.

A node and its endpoints are in the Snapshot for as long as the managers know the node: the way to
what runs on it stays whatever becomes of its daemon. Whether they are chosen is ``Node.live``
and ``Node.doubted``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_interface,
)
from types import MappingProxyType
from typing import cast

from meshnet.errors import ControlError
from meshnet.model.differences import touched
from meshnet.model.families import Address
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.policy import ROUND_ROBIN, Policy
from meshnet.model.snapshot import (
    EndpointMode,
    Network,
    Node,
    Sandbox,
    Service,
    Snapshot,
)
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import encryption, gossip_records, service_labels
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.cluster.published_ports import ports_of
from meshnet_control.dataplane import claims

MTU_OPTION = "com.docker.network.driver.mtu"


def network_of(network: pb.Network) -> Network | None:
    """The data plane's view of a network; None while it has no subnet or VNI yet."""
    if not network.vni or not network.ipam_options.configs:
        return None
    config = network.ipam_options.configs[0]
    options = network.driver_state.options
    mtu = options.get(MTU_OPTION) or network.spec.driver_configuration.options.get(MTU_OPTION)
    subnet = IPv4Network(config.subnet)
    subnets = [each.subnet for each in network.ipam_options.configs]
    return Network(
        id=NetworkId(network.id),
        name=network.spec.name,
        vni=Vni(network.vni),
        subnet=subnet,
        gateway=IPv4Address(config.gateway) if config.gateway else subnet[1],
        ingress=network.spec.ingress,
        internal=network.spec.internal,
        mtu=int(mtu) if mtu and mtu.isascii() and mtu.isdecimal() else None,
        more=tuple(IPv4Network(each) for each in subnets[1:] if ":" not in each),
        subnets6=tuple(IPv6Network(each) for each in subnets if ":" in each),
        encrypted=encryption.is_encrypted(network),
    )


def service_of(service: pb.ServiceView) -> Service:
    """The data plane's view of a service."""
    vips = [
        (NetworkId(vip.network_id), ip_interface(vip.addr))
        for vip in service.virtual_ips
        if vip.addr
    ]
    return Service(
        id=ServiceId(service.id),
        name=service.name,
        mode=cast("EndpointMode", service.endpoint_mode or "vip"),
        vips={network: vip.ip for network, vip in vips if isinstance(vip, IPv4Interface)},
        vips6={network: vip.ip for network, vip in vips if isinstance(vip, IPv6Interface)},
        aliases={NetworkId(net.target): tuple(net.aliases) for net in service.networks},
        ports=ports_of(service.ports),
        policy=_policy(service),
    )


def _policy(service: pb.ServiceView) -> Policy:
    """What a manager of a later version may ask for, and this one does not know, is in turn."""
    try:
        return service_labels.policy(service.lb, service.lb_weights)
    except ControlError:
        return ROUND_ROBIN


@lru_cache(maxsize=8192)
def address_of(said: str) -> IPv4Address:
    """An address of a node, with or without a prefix length; the same few are read all the time."""
    return IPv4Interface(said).ip


@lru_cache(maxsize=8192)
def _address6_of(said: str) -> IPv6Address | None:
    """The same of IPv6; None: it has none."""
    return IPv6Interface(said).ip if said else None


def nodes_of(
    assignments: NodeState,
    self_id: NodeId,
    records: Mapping[NodeId, bytes],
    gone: Set[NodeId],
    doubted: Set[NodeId],
    salts: Mapping[NodeId, bytes] = MappingProxyType({}),
) -> dict[NodeId, Node]:
    """The nodes that have an address.

    Args:
        assignments: everything the managers said, merged.
        self_id: this node.
        records: the record ``node`` of each node that has one.
        gone: nodes that nothing is chosen of.
        doubted: nodes that are chosen only where nobody else is there.
        salts: the record ``esp`` of each node that has one.
    """
    said = {
        node: gossip_records.decode_node(records.get(node, b""))
        for node in (NodeId(each.id) for each in assignments.nodes)
    }
    return {
        NodeId(node.id): Node(
            id=NodeId(node.id),
            hostname=node.hostname,
            vtep=address_of(node.addr),
            underlay_mtu=said[NodeId(node.id)][0],
            narrow=said[NodeId(node.id)][1],
            ingress_address=address_of(node.ingress_address) if node.ingress_address else None,
            ingress_address6=_address6_of(node.ingress_address6),
            live=node.id == self_id or node.id not in gone,
            doubted=node.id != self_id and node.id in doubted,
            down=node.down and node.id != self_id,
            weight=node.weight if node.HasField("weight") else None,
            salt=gossip_records.decode_salt(salts.get(NodeId(node.id), b"")),
        )
        for node in assignments.nodes
        if node.addr
    }


def networks_of(
    assignments: NodeState,
    sandboxes: Iterable[Sandbox],
    before: Mapping[NetworkId, Network],
) -> dict[NetworkId, Network]:
    """The networks, and those of ``before`` that containers here still stop on."""
    found = [network_of(network) for network in assignments.networks]
    networks = {network.id: network for network in found if network is not None}
    return networks | _still_used(before, networks, sandboxes)


def _still_used(
    before: Mapping[NetworkId, Network],
    now: Mapping[NetworkId, Network],
    sandboxes: Iterable[Sandbox],
) -> dict[NetworkId, Network]:
    """Networks that are gone but for our containers on them, and whose VNI is still free."""
    used = {network for sandbox in sandboxes for network, _ in sandbox.networks}
    vnis = {network.vni for network in now.values()}
    left = (before[network] for network in sorted(used & before.keys() - now.keys()))
    return {network.id: network for network in left if network.vni not in vnis}


def only_withdraws(before: Snapshot, now: Snapshot) -> bool:
    """Whether somebody may not be chosen any more, and nobody may who could not be before."""
    tasks = touched(before, now, lambda node: (node.live, node.doubted))
    chosen_before, chosen_now = _chosen(before, tasks), _chosen(now, tasks)
    return chosen_now < chosen_before


def _chosen(
    snapshot: Snapshot, tasks: Iterable[TaskId]
) -> set[tuple[ServiceId, NetworkId, Address, bool]]:
    """What may be chosen of these tasks; no two have one address (``claims``).

    Who is not doubted stands there a second time, so that a doubt alone withdraws.
    """
    found = (snapshot.endpoints.get(task) for task in tasks)
    return {
        (endpoint.service, network, address, sure)
        for endpoint in found
        if endpoint is not None and snapshot.chooses(endpoint) and endpoint.service is not None
        for network, address in claims.places(endpoint)
        for sure in ([False] if snapshot.doubts(endpoint) else [False, True])
    }
