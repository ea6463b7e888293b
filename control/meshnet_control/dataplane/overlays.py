"""What one node knows of overlay networks, and the endpoints of its own containers on them. Pure.

``local_endpoints`` is the one source of what containers here have on overlay networks: whose
``Sandbox`` and ``Endpoint`` (with its container's ID) the data plane was given is in it.

An endpoint has no ID of its own here: the engine's form wants one, and gets one that follows from
network and container, so that every node says the same and a restart changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Interface, IPv6Interface

from meshnet.model.ids import MacAddress, NetworkId, TaskId, mac_of
from meshnet.model.snapshot import Endpoint, PublishedPort, Sandbox, Snapshot
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.node_state import NodeState


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """A container of this node on one network."""

    container: str
    """Its ID, 64 hex digits."""
    name: str
    """The container's."""
    network: NetworkId
    address: IPv4Interface
    aliases: tuple[str, ...] = ()
    """Further names on this network, of the container alone."""
    hostname: str = ""
    address6: IPv6Interface | None = None
    """On a dual stack network."""

    @property
    def id(self) -> str:
        """64 hex digits."""
        return endpoint_id(self.network, self.container)

    @property
    def mac(self) -> MacAddress:
        """Of its interface."""
        return mac_of(self.address.ip)


def endpoint_id(network: NetworkId, holder: str) -> str:
    """The ID of an endpoint, 64 hex digits.

    Args:
        network: that it is on.
        holder: ID of its container, or what else has an address there.
    """
    return hashlib.sha256(f"{network}/{holder}".encode()).hexdigest()


def local_endpoints(snapshot: Snapshot) -> Iterator[LocalEndpoint]:
    """Endpoints of this node's containers, each container's in the order of its interfaces."""
    for endpoint, sandbox in _containers(snapshot):
        second = dict(sandbox.networks6)
        for network, address in sandbox.networks:
            yield LocalEndpoint(
                endpoint.container,
                endpoint.name,
                network,
                address,
                endpoint.aliases.get(network, ()),
                endpoint.hostname,
                second.get(network),
            )


def gateway_endpoints(snapshot: Snapshot, network: NetworkId) -> Iterator[LocalEndpoint]:
    """The same containers' endpoints on docker_gwbridge, named as libnetwork names them.

    Args:
        snapshot: of this node.
        network: ID of docker_gwbridge.
    """
    for endpoint, sandbox in _containers(snapshot):
        if sandbox.gateway_address is not None:
            name = f"gateway_{sandbox.netns.rpartition('/')[2]}"
            yield LocalEndpoint(endpoint.container, name, network, sandbox.gateway_address)


def _containers(snapshot: Snapshot) -> Iterator[tuple[Endpoint, Sandbox]]:
    for task, sandbox in snapshot.sandboxes.items():
        endpoint = snapshot.endpoints.get(task)
        if endpoint is not None and endpoint.node == snapshot.self_id and endpoint.container:
            yield endpoint, sandbox


@dataclass(frozen=True)
class Overlays:
    """What this node knows of overlay networks at one moment."""

    snapshot: Snapshot
    networks: Mapping[NetworkId, pb.Network] = field(default_factory=dict)
    """Those in use here, and the ingress network; all have a subnet."""
    services: tuple[pb.ServiceView, ...] = ()
    """On those networks, or with published ports."""
    tasks: Mapping[TaskId, pb.Task] = field(default_factory=dict)
    """Of this node."""

    @cached_property
    def endpoints(self) -> Mapping[str, tuple[LocalEndpoint, ...]]:
        """Container ID -> its endpoints, in the order of its interfaces."""
        found: dict[str, tuple[LocalEndpoint, ...]] = {}
        for each in local_endpoints(self.snapshot):
            found[each.container] = (*found.get(each.container, ()), each)
        return found

    @cached_property
    def host_ports(self) -> Mapping[str, tuple[PublishedPort, ...]]:
        """Container ID -> its ports that are published on this node alone."""
        return {
            endpoint.container: tuple(port for port in sandbox.ports if port.mode == "host")
            for endpoint, sandbox in _containers(self.snapshot)
        }

    def on(self, network: NetworkId) -> Iterator[LocalEndpoint]:
        """Endpoints of this node's containers on one network."""
        return (
            each for mine in self.endpoints.values() for each in mine if each.network == network
        )

    @property
    def unused(self) -> bool:
        """No container here is on any of them, or will be."""
        return not self.endpoints and not self.tasks

    def name_of(self, network: NetworkId) -> str:
        """A network's name; its ID where no name is known."""
        if network in self.networks:
            return str(self.networks[network].spec.name)
        known = self.snapshot.networks.get(network)
        return known.name if known is not None else network


class Known:
    """The newest ``Overlays``, made when they are asked for and what they are made of is new."""

    def __init__(self) -> None:
        self._made: tuple[Snapshot, NodeState, Overlays] | None = None

    def of(self, snapshot: Snapshot, assignments: NodeState) -> Overlays:
        """What a node knows by these two; neither is changed once it is made."""
        made = self._made
        if made is None or made[0] is not snapshot or made[1] is not assignments:
            made = self._made = (snapshot, assignments, overlays(snapshot, assignments))
        return made[2]


def overlays(snapshot: Snapshot, assignments: NodeState) -> Overlays:
    """What a node knows by its Snapshot and what its managers told it."""
    networks = (each for each in assignments.networks if each.ipam_options.configs)
    return Overlays(
        snapshot,
        {NetworkId(network.id): network for network in networks},
        tuple(assignments.services),
        {TaskId(task.id): task for task in assignments.tasks},
    )
