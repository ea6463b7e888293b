"""What the cluster gives to networks: a VNI, and a subnet and gateway of each family. Pure.

What cannot be given is left out and tried again at every step; what a network has stays, so one
that a leader of a version before gave no subnet of IPv6 gets that alone. A network that nodes make
for themselves gets nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_network

from meshnet.model.families import FAMILIES, Family, IpNetwork
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import host_routes, node_local, vxlan_ids
from meshnet_control.orchestrate.addresses import (
    FIRST_VNI,
    NO_SUBNET,
    NO_SUBNET6,
    configs_of,
    family_of,
    subnet6_for,
    subnet_for,
    vni_for,
)
from meshnet_control.orchestrate.store_view import Put, StoreView, Write, changed


def allocated(network: pb.Network | None) -> bool:
    """True when a network has its VNI and a subnet."""
    return network is not None and bool(network.vni and network.ipam_options.configs)


def _to_allocate(network: pb.Network) -> bool:
    """It lacks what the cluster gives to networks."""
    if node_local.is_node_local(network):
        return not network.driver_state.name
    return not allocated(network) or not all(
        configs_of(network, family) for family in families_of(network)
    )


def networks(view: StoreView) -> list[Write]:
    """Subnets and VNIs for the networks that lack any, the ingress network first."""
    new = [n for n in view.networks.values() if _to_allocate(n)]
    if not new:
        return []
    known = dict(view.networks)
    last = view.cluster.last_vni if view.cluster else 0
    routes = [route.destination for route in host_routes.of(view.nodes.values())]
    writes: list[Write] = []
    for old in sorted(new, key=lambda n: (not n.spec.ingress, *age(n))):
        network = changed(old)
        if node_local.is_node_local(network):
            network.driver_state.name = network.spec.driver_configuration.name
            writes.append(Put(network))
            continue
        if not _give_subnet(network, view.cluster, known.values(), routes):
            continue
        vni = network.vni or _vni(network, last, known)
        if vni is None:
            continue
        network.vni = vni
        last = max(last, vni) if vxlan_ids.wanted(network) is None else last
        network.driver_state.name = "overlay"
        network.driver_state.options.update(network.spec.driver_configuration.options)
        network.driver_state.options[vxlan_ids.OPTION] = str(vni)
        known[network.id] = network
        writes.append(Put(network))
    if view.cluster is not None and last > view.cluster.last_vni:
        cluster = changed(view.cluster)
        cluster.last_vni = last
        writes.append(Put(cluster))
    return writes


def _vni(network: pb.Network, last: int, known: Mapping[str, pb.Network]) -> int | None:
    """The one asked for, or the ingress network's own, if nobody has or wants it, or the next."""
    asked = vxlan_ids.wanted(network)
    if asked is not None and asked not in {n.vni for n in known.values()}:
        return asked
    taken = {vni for n in known.values() for vni in (n.vni, vxlan_ids.wanted(n))}
    return FIRST_VNI if network.spec.ingress and FIRST_VNI not in taken else vni_for(last, known)


def _give_subnet(
    network: pb.Network,
    cluster: pb.Cluster | None,
    networks: Iterable[pb.Network],
    routes: Collection[IpNetwork],
) -> bool:
    """Fill in what IPAMOptions lacks, in place, IPv4 first; False when no subnet is left."""
    others = list(networks)
    options = pb.IPAMOptions()
    options.driver.name = network.spec.ipam_options.driver.name or "default"
    for family in families_of(network):
        there = configs_of(network, family) or [
            config
            for config in network.spec.ipam_options.configs
            if config.subnet and family_of(config.subnet) == family
        ]
        if there:
            options.configs.extend(there)
            continue
        of4 = family == FAMILIES[0]
        subnet = (subnet_for if of4 else subnet6_for)(cluster, others, routes)
        if subnet is None:
            return False
        options.configs.add(subnet=str(subnet))
    for config in options.configs:
        config.gateway = config.gateway or _first_host(config.subnet)
    network.ipam_options.CopyFrom(options)
    return True


def families_of(network: pb.Network | None) -> tuple[Family, ...]:
    """Those that it has addresses of."""
    dual = network is not None and network.spec.ipv6_enabled
    return FAMILIES if dual else FAMILIES[:1]


def no_subnet(network: pb.Network, view: StoreView) -> str:
    """Why a network has no subnet of some family, in words: IPv4's when it could not have that."""
    if len(families_of(network)) == 1:
        return NO_SUBNET
    asked = network.spec.ipam_options.configs
    has4 = configs_of(network, FAMILIES[0]) or any(
        each.subnet and family_of(each.subnet) == FAMILIES[0] for each in asked
    )
    could = has4 or subnet_for(view.cluster, view.networks.values()) is not None
    return NO_SUBNET6 if could else NO_SUBNET


def _first_host(subnet: str) -> str:
    return str(ip_network(subnet, strict=False)[1])


def age(message: pb.Network | pb.Service | pb.Node | pb.Task) -> tuple[int, int, str]:
    """Sort key: oldest first; what the store has not stamped yet comes last."""
    if not message.HasField("created_at"):
        return (1 << 62, 0, message.id)
    return (message.created_at.seconds, message.created_at.nanos, message.id)
