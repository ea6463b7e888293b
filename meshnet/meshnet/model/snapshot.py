"""The Snapshot: one frozen picture of what the cluster should look like, seen from one node.

Managers say configuration (services, networks, VIPs, addresses, published ports); nodes say
liveness (which endpoint runs where and is ready). ``meshnet_control.dataplane.snapshot`` joins both
into a Snapshot; every reconciler derives its desired state from it and from nothing else.

Reachability outlives liveness: nodes and endpoints are in a Snapshot until the managers remove the
node or the node the endpoint, so whatever is there can be reached. What *choices* are made of, the
backends and the names, follows liveness: ``live_endpoints``.

Be aware: what is not here must not be in the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Literal, TypeAlias

from meshnet.model.families import Address, IpNetwork
from meshnet.model.ids import MacAddress, NetworkId, NodeId, ServiceId, TaskId, Vni, mac_of
from meshnet.model.policy import ROUND_ROBIN, Policy
from meshnet.model.wellknown import VXLAN_PORT

Protocol = Literal["tcp", "udp", "sctp"]
EndpointMode = Literal["vip", "dnsrr"]
Port: TypeAlias = tuple[Protocol, int]
"""Protocol and number of a port of a host."""

"""UDP port of every VTEP (RFC 7348 section 5)."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster as the managers know it, this one included."""

    id: NodeId
    hostname: str
    vtep: IPv4Address
    """Underlay address that VXLAN packets to this node are sent to."""
    underlay_mtu: int = 1500
    """MTU of the interface that carries ``vtep``, bytes."""
    ingress_address: IPv4Address | None = None
    """Address of the node's gateway on the ingress network; its MAC is ``mac_of`` of it."""
    live: bool = True
    """False: nothing that runs there is chosen from here; how to reach it stays."""
    doubted: bool = False
    """True: it is silent, and nobody has called it dead yet: what runs there is chosen only where
    nobody else is there."""
    down: bool = False
    """True: by the managers' word nothing of it will answer any more."""
    narrow: tuple[tuple[NodeId, int], ...] = ()
    """Nodes that it found its largest packets not to reach uncut, and the bytes that do."""
    weight: int | None = None
    """Of its tasks, for services that are weighted and do not name it; None: 1."""
    salt: bytes = b""
    """What its keys of encrypted overlays are fresh by (``meshnet.model.esp``); empty: it is on
    none, or has not told it yet."""
    ingress_address6: IPv6Address | None = None
    """Beside ``ingress_address``, on an ingress network that is dual stack."""


@dataclass(frozen=True, slots=True)
class Network:
    """A cluster-wide overlay network."""

    id: NetworkId
    name: str
    vni: Vni
    subnet: IPv4Network
    gateway: IPv4Address
    ingress: bool = False
    internal: bool = False
    """No way out: containers get no docker_gwbridge interface for it."""
    mtu: int | None = None
    """Set by ``com.docker.network.driver.mtu``: the most that it has (``meshnet.model.paths``)."""
    more: tuple[IPv4Network, ...] = ()
    """Its further subnets, on the same link as the first."""
    subnets6: tuple[IPv6Network, ...] = ()
    """Of a dual stack network, likewise."""
    encrypted: bool = False
    """What goes from node to node is in ESP, or goes nowhere."""

    @property
    def subnets(self) -> tuple[IPv4Network, ...]:
        """All of them, in the order in which addresses are given."""
        return (self.subnet, *self.more)

    @property
    def every_subnet(self) -> tuple[IpNetwork, ...]:
        """Those of both families."""
        return *self.subnets, *self.subnets6

    @property
    def further(self) -> tuple[IpNetwork, ...]:
        """All but the first, of both families."""
        return *self.more, *self.subnets6

    def has(self, address: Address) -> bool:
        """Whether an address is in one of its subnets."""
        return any(address in subnet for subnet in self.every_subnet)


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """One ``--publish`` of a service."""

    protocol: Protocol
    target: int
    published: int
    mode: Literal["ingress", "host"] = "ingress"
    name: str = ""
    """As its service calls it; the docker CLI gives none."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service as the data plane sees it."""

    id: ServiceId
    name: str
    mode: EndpointMode = "vip"
    vips: Mapping[NetworkId, IPv4Address] = field(default_factory=dict)
    aliases: Mapping[NetworkId, tuple[str, ...]] = field(default_factory=dict)
    """Further names of the service on a network (a stack's short name)."""
    ports: tuple[PublishedPort, ...] = ()
    policy: Policy = ROUND_ROBIN
    """How a backend is chosen."""
    vips6: Mapping[NetworkId, IPv6Address] = field(default_factory=dict)
    """On dual stack networks."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A task's place on its networks, wherever in the cluster it runs."""

    task: TaskId
    name: str
    """Container name: ``web.1.<task id>``."""
    node: NodeId
    service: ServiceId | None
    addresses: Mapping[NetworkId, IPv4Address]
    container: str = ""
    """Container ID, 64 hex digits, or empty while unknown."""
    hostname: str = ""
    aliases: Mapping[NetworkId, tuple[str, ...]] = field(default_factory=dict)
    """Names of this endpoint alone (``docker run --network-alias``)."""
    ready: bool = True
    """False: wired and reachable, but not (or no longer) a backend of its service."""
    made: int = 0
    """When the managers gave the task its addresses, nanoseconds since 1970: their last word."""
    addresses6: Mapping[NetworkId, IPv6Address] = field(default_factory=dict)
    """On dual stack networks; where it has one, it has one in ``addresses``, too, whose MAC both
    have."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The network namespace of a container on this node that we wire.

    ``networks`` is in interface order: eth0 is the first; ``docker_gwbridge`` is the last and
    carries the default route. A container that is connected and disconnected while it runs keeps
    the names that its interfaces have: ``numbers``.
    """

    task: TaskId
    netns: str
    """Path of the network namespace, such as ``/run/docker/netns/0123456789ab``."""
    networks: tuple[tuple[NetworkId, IPv4Interface], ...]
    gateway_address: IPv4Interface | None
    """Address on docker_gwbridge, None when every network is internal."""
    ports: tuple[PublishedPort, ...] = ()
    upstreams: tuple[IPv4Address | IPv6Address, ...] = ()
    """DNS servers of its own for names that are not ours; none: the host's."""
    search: tuple[str, ...] = ()
    mesh: frozenset[NetworkId] = frozenset()
    """Those of its networks that are the ingress network, known before the managers are heard."""
    numbers: tuple[int, ...] = ()
    """Of the interfaces of ``networks``, and one more of docker_gwbridge's; empty: 0, 1, 2 ..."""
    stack: str = ""
    """Whose services it finds first by a short name; empty: it is of none."""
    networks6: tuple[tuple[NetworkId, IPv6Interface], ...] = ()
    """Of those networks that are dual stack, the second address."""

    def interface(self, at: int) -> str:
        """Name of the interface on the network at that place; behind the last: to the gateway."""
        return f"eth{self.numbers[at] if self.numbers else at}"


@dataclass(frozen=True, slots=True)
class Gwbridge:
    """docker_gwbridge on this node, as the local engine made it."""

    name: str
    subnet: IPv4Network
    gateway: IPv4Address


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What this node should look like.

    Attributes:
        revision: grows with every change, starts at 1; 0 is the empty snapshot.
        self_id: this node.
        complete: manager's assignments and a first gossip exchange are both in. Until then
            nothing may be removed from the kernel: a restart must not wipe live state.
        epochs: node, or node and network with a space between -> (generation of its process, how
            often what it says of endpoints to all, or on the network, had changed) when they were
            as they are here.
        vxlan_port: UDP port of VXLAN on every node.
        taken: ports of this host that its own processes wait at, and keep: nothing that is
            published there is led away from them.
        esp_keys: what keys of encrypted overlays are made of: the first seals, all open.
        taken6: the same of IPv6.
    """

    revision: int
    self_id: NodeId
    nodes: Mapping[NodeId, Node] = field(default_factory=dict)
    networks: Mapping[NetworkId, Network] = field(default_factory=dict)
    services: Mapping[ServiceId, Service] = field(default_factory=dict)
    endpoints: Mapping[TaskId, Endpoint] = field(default_factory=dict)
    sandboxes: Mapping[TaskId, Sandbox] = field(default_factory=dict)
    gwbridge: Gwbridge | None = None
    complete: bool = True
    epochs: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    vxlan_port: int = VXLAN_PORT
    taken: frozenset[Port] = frozenset()
    esp_keys: tuple[bytes, ...] = field(default=(), repr=False)
    taken6: frozenset[Port] = frozenset()

    @property
    def published(self) -> frozenset[Port]:
        """Ports of this host that are published on it, by services or by containers here."""
        services = self.services.values() if self.ingress is not None else ()
        return self.published_here.union(*map(in_mesh, services))

    @property
    def published_here(self) -> frozenset[Port]:
        """Those of them that containers here publish."""
        return frozenset(
            (port.protocol, port.published)
            for sandbox in self.sandboxes.values()
            for port in sandbox.ports
            if port.mode == "host" and sandbox.gateway_address is not None
        )

    @property
    def published6(self) -> frozenset[Port]:
        """Those of them that are so by IPv6, too: of a mesh that is dual stack."""
        mesh = self.ingress
        services = self.services.values() if mesh is not None and mesh.subnets6 else ()
        return frozenset[Port]().union(*map(in_mesh, services))

    @property
    def reserved(self) -> frozenset[Port]:
        """Ports of this host that meshnet keeps for what is published."""
        return self.published - self.taken

    @property
    def ingress(self) -> Network | None:
        """The routing-mesh network, or None when it was removed."""
        return next((net for net in self.networks.values() if net.ingress), None)

    def live_endpoints(self) -> Iterator[Endpoint]:
        """Endpoints that may be chosen: those of nodes that are not known to be gone."""
        gone = {node.id for node in self.nodes.values() if not node.live}
        return (each for each in self.endpoints.values() if each.node not in gone)

    def chooses(self, endpoint: Endpoint) -> bool:
        """Whether it is live and ready: what a choice may be made of."""
        node = self.nodes.get(endpoint.node)
        return endpoint.ready and (node is None or node.live)

    def doubts(self, endpoint: Endpoint) -> bool:
        """Whether it is chosen only where nobody else is there: its node is doubted."""
        node = self.nodes.get(endpoint.node)
        return node is not None and node.doubted

    def backends(self, service: ServiceId, network: NetworkId) -> tuple[IPv4Address, ...]:
        """Addresses of the live, ready endpoints of ``service`` on ``network``, ascending.

        Those of doubted nodes only when there are no others.
        """
        found = [
            endpoint
            for endpoint in self.live_endpoints()
            if endpoint.service == service and endpoint.ready and network in endpoint.addresses
        ]
        sure = [endpoint for endpoint in found if not self.doubts(endpoint)]
        return tuple(sorted(endpoint.addresses[network] for endpoint in sure or found))

    def remote_macs(
        self, network: NetworkId
    ) -> Mapping[MacAddress, tuple[IPv4Address, IPv4Address]]:
        """Every MAC on ``network`` that lives on another node: MAC -> (overlay address, VTEP).

        Ingress gateways of other nodes count as endpoints of the ingress network. No two endpoints
        have one address (``meshnet_control.dataplane.claims``).
        """
        found: dict[MacAddress, tuple[IPv4Address, IPv4Address]] = {}
        for endpoint in self.endpoints.values():
            node = self.nodes.get(endpoint.node)
            if node is None or endpoint.node == self.self_id or network not in endpoint.addresses:
                continue
            address = endpoint.addresses[network]
            found[mac_of(address)] = (address, node.vtep)
        if network in self.networks and self.networks[network].ingress:
            for node in self.nodes.values():
                if node.id != self.self_id and node.ingress_address is not None:
                    found[mac_of(node.ingress_address)] = (node.ingress_address, node.vtep)
        return found


def in_mesh(service: Service) -> frozenset[Port]:
    """Ports that a service publishes on every node."""
    ports = (port for port in service.ports if port.mode == "ingress")
    return frozenset((port.protocol, port.published) for port in ports)
