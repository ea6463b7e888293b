"""Where the nodes' own networks lead, so that no overlay is put there. Pure.

A container on an overlay reaches what has an address of its subnet through it, whatever the host
says; and a host with the ingress network reaches nothing else there. So a subnet that some node
has a route for, docker_gwbridge's among them, is given to no network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from typing import Final, NamedTuple

from meshnet_control.api import control_pb2 as pb

MOST: Final = 512
"""Routes that a node tells of; of more the widest."""


class NodeRoute(NamedTuple):
    """A route of a node."""

    destination: IPv4Network
    link: str
    node: str
    """The node's host name."""

    def __str__(self) -> str:
        return f"the route {self.destination} ({self.link}) of node {self.node}"


def told(routes: Iterable[tuple[IPv4Network, str]]) -> list[pb.HostRoute]:
    """What a node tells of its routes, (destination, link)s: each once, the widest first."""
    widest = sorted(set(routes), key=lambda route: (route[0].prefixlen, *route))
    return [pb.HostRoute(destination=str(to), link=link) for to, link in widest[:MOST]]


def crossing(
    subnets: Iterable[tuple[str, IPv4Network]], routes: Iterable[pb.HostRoute]
) -> list[str]:
    """A sentence for each of a node's routes that leads into a subnet of a network that it has.

    Args:
        subnets: (name of a network, a subnet of it)s.
        routes: as the node tells of them.
    """
    ways = [(IPv4Network(route.destination), route.link) for route in routes]
    return [
        f"network {name} ({subnet}) overlaps with the route {to} ({link}) of this host: from"
        " containers on it what is there is not reached"
        for name, subnet in sorted(subnets)
        for to, link in ways
        if to.overlaps(subnet)
    ]


def of(nodes: Iterable[pb.Node]) -> Iterator[NodeRoute]:
    """The routes of the nodes that are not down; what is none is left out."""
    for node in sorted(nodes, key=lambda node: node.id):
        for route in node.description.routes if node.status.state != "down" else ():
            try:
                destination = IPv4Network(route.destination)
            except (AddressValueError, NetmaskValueError, ValueError):
                continue
            yield NodeRoute(destination, route.link, node.description.hostname or node.id)


def overlapping(subnet: IPv4Network, routes: Iterable[NodeRoute]) -> NodeRoute | None:
    """The first route that leads into a subnet, or to more than it; None: there is none."""
    return next((route for route in routes if route.destination.overlaps(subnet)), None)
