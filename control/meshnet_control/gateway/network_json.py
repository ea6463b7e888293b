"""Who is on a network, in the engine's form. Pure.

| key | whence |
|---|---|
| ``Containers`` | this node's containers; its own address on the ingress network |
| ``Status`` | what a manager's store has (``controlapi.network_status``) |
| ``Peers``, ``Services`` | what all nodes say of their endpoints, but for nodes that are gone |

Other than in Swarm no node has an address on a network that is not the ingress network, so there is
no ``lb-<network>``; and names and VIPs need no index, so ``LocalLBIndex`` is 0, as in Swarm where a
service is not balanced. Who has no VIP has an empty one: ``<nil>``, as Go prints an address that is
none and older engines write, breaks the whole answer for a client of 2026.

Source: moby daemon/network.go buildDetailedNetworkResources, libnetwork agent.go Services,
recorded answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Interface
from typing import Any, Final

from meshnet.model.ids import NetworkId, ServiceId, mac_of
from meshnet.model.snapshot import Endpoint, Snapshot
from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi import filters, network_resource
from meshnet_control.dataplane.overlays import LocalEndpoint, Overlays, endpoint_id
from meshnet_control.engine.labels import CONFIG_LABEL, NETWORK_LABEL, OURS

_INGRESS: Final = "ingress-sbox"
Json = dict[str, Any]


def listed(known: Overlays, wanted: filters.Filters) -> list[Json]:
    """Networks that a worker knows and that match, in the form of ``GET /networks``."""
    return [
        network_resource.resource(network)
        for key, network in known.networks.items()
        if network_resource.matches(network, wanted, used=any(known.on(key)))
    ]


def inspected(
    network: pb.Network,
    known: Overlays | None,
    services: Iterable[pb.ServiceView] | None,
    status: Json | None = None,
) -> Json:
    """One network in the form of ``GET /networks/{id}``.

    Args:
        network: one of the cluster's.
        known: by this node; None: nothing.
        services: that may be on it, for ``verbose``; None: not asked for.
        status: how many of its addresses are in use; None: nobody here knows.
    """
    shown = network_resource.resource(network)
    if status is not None:
        shown["Status"] = status
    if known is None:
        return shown
    here = NetworkId(network.id)
    if here in known.networks:
        own = {_INGRESS: ingress} if (ingress := _ingress(network, known.snapshot)) else {}
        shown["Containers"] = containers(known.on(here)) | own
    peers = _peers(network, known.snapshot)
    if peers:
        shown["Peers"] = peers
    found = _services(network, known.snapshot, services) if services is not None else None
    if found:
        shown["Services"] = found
    return shown


def merged(ours: Iterable[Json], theirs: Iterable[Json]) -> list[Json]:
    """``GET /networks``: the cluster's and the engine's, each network once."""
    found = list(ours)
    ids = {each["Id"] for each in found}
    for each in theirs:
        own = cluster_id(each)
        if not own:
            found.append(unlabelled(each))
        elif own not in ids:
            found.append(made_here(each, None))
    return found


def cluster_id(shown: Mapping[str, Any]) -> str:
    """Of a network of the engine that it made for the cluster; empty: it is another one."""
    return str((shown.get("Labels") or {}).get(NETWORK_LABEL) or "")


def unlabelled(shown: Json) -> Json:
    """A network of the engine's own, without the label of who made it: docker_gwbridge has it."""
    labels = shown.get("Labels") or {}
    if OURS not in labels:
        return shown
    return {**shown, "Labels": {key: value for key, value in labels.items() if key != OURS}}


def made_here(shown: Mapping[str, Any], network: pb.Network | None) -> Json:
    """A network that this node's engine made for the cluster, as Swarm shows it.

    Args:
        shown: by the engine.
        network: the cluster's; None: this node is not told of it.
    """
    labels = dict(shown.get("Labels") or {})
    own = labels.pop(NETWORK_LABEL, "")
    labels.pop(OURS, None)
    source = labels.pop(CONFIG_LABEL, "")
    said = {"Id": own, "Scope": "swarm", "ConfigFrom": {"Network": source}, "Labels": labels}
    if network is not None:
        said["Created"] = network_resource.resource(network)["Created"]
    return {**shown, **said}


def containers(endpoints: Iterable[LocalEndpoint]) -> dict[str, Json]:
    """``Containers`` of a network: container ID -> its endpoint."""
    return {
        each.container: _endpoint(each.name, each.id, each.address)
        | ({"IPv6Address": str(each.address6)} if each.address6 is not None else {})
        for each in endpoints
    }


# ---- inside ----


def _endpoint(name: str, identity: str, address: IPv4Interface) -> Json:
    return {
        "Name": name,
        "EndpointID": identity,
        "MacAddress": mac_of(address.ip),
        "IPv4Address": str(address),
        "IPv6Address": "",
    }


def _ingress(network: pb.Network, snapshot: Snapshot) -> Json | None:
    """This node's own address on the ingress network, through which requests from outside come."""
    node, known = snapshot.nodes.get(snapshot.self_id), snapshot.networks.get(NetworkId(network.id))
    if known is None or not known.ingress or node is None or node.ingress_address is None:
        return None
    address = IPv4Interface((node.ingress_address, known.subnet.prefixlen))
    made = _endpoint("ingress-endpoint", endpoint_id(known.id, node.id), address)
    second = node.ingress_address6
    inside = (subnet for subnet in known.subnets6 if second is not None and second in subnet)
    for subnet in inside:
        made["IPv6Address"] = f"{second}/{subnet.prefixlen}"
    return made


def _peers(network: pb.Network, snapshot: Snapshot) -> list[Json]:
    """Nodes that have a part in a network, by name."""
    here = {each.node for each in _live(NetworkId(network.id), snapshot)}
    found = [
        {"Name": node.hostname, "IP": str(node.vtep)}
        for node in snapshot.nodes.values()
        if node.id in here or (network.spec.ingress and node.live and node.ingress_address)
    ]
    return sorted(found, key=lambda peer: (peer["Name"], peer["IP"]))


def _services(
    network: pb.Network, snapshot: Snapshot, services: Iterable[pb.ServiceView]
) -> dict[str, Json]:
    """Service name -> VIP and tasks; what is of no service is under the empty name."""
    here: dict[ServiceId | None, list[Endpoint]] = defaultdict(list)
    for endpoint in _live(NetworkId(network.id), snapshot):
        here[endpoint.service].append(endpoint)
    found = {
        service.name: _service(service, network, snapshot, here[ServiceId(service.id)])
        for service in services
        if service.id in here
    }
    if None in here:
        found[""] = _service(pb.ServiceView(), network, snapshot, here[None])
    return found


def _service(
    service: pb.ServiceView, network: pb.Network, snapshot: Snapshot, endpoints: Iterable[Endpoint]
) -> Json:
    here = NetworkId(network.id)
    vips = [vip.addr.partition("/")[0] for vip in service.virtual_ips if vip.network_id == here]
    ports = service.ports if network.spec.ingress else ()
    return {
        "VIP": next(filter(None, vips), ""),
        "Ports": [
            f"Target: {port.target_port}, Publish: {port.published_port}"
            for port in ports
            if port.publish_mode != "host"
        ],
        "LocalLBIndex": 0,
        "Tasks": [
            {
                "Name": each.name,
                "EndpointID": endpoint_id(here, each.container),
                "EndpointIP": str(each.addresses[here]),
                "Info": {"Host IP": str(snapshot.nodes[each.node].vtep)},
            }
            for each in sorted(endpoints, key=lambda each: each.name)
        ],
    }


def _live(network: NetworkId, snapshot: Snapshot) -> Iterator[Endpoint]:
    return (
        each
        for each in snapshot.live_endpoints()
        if network in each.addresses and each.node in snapshot.nodes
    )
