"""Where the nodes' own networks lead, so that no overlay is put there. Pure.

A container on an overlay reaches what has an address of its subnet through it, whatever the host
says; and a host with the ingress network reaches nothing else there. So a subnet that some node
has a route for, docker_gwbridge's among them, is given to no network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import Final, NamedTuple

from meshnet.model.families import FAMILIES, Family, IpNetwork, order, overlap
from meshnet_control.api import control_pb2 as pb

MOST: Final = 512
"""Routes that a node tells of; of more the widest."""
MOST6: Final = 256
"""The same of IPv6."""


class NodeRoute(NamedTuple):
    """A route of a node."""

    destination: IpNetwork
    link: str
    node: str
    """The node's host name."""

    def __str__(self) -> str:
        return f"the route {self.destination} ({self.link}) of node {self.node}"


def told(routes: Iterable[tuple[IpNetwork, str]], family: Family = 4) -> list[pb.HostRoute]:
    """What a node tells of its routes, (destination, link)s: each once, the widest first.

    Args:
        routes: of this host.
        family: those of it alone. Of IPv6 they have a field of their own (``routes6``), as a
            manager of a version before refuses a node with a route that it cannot read.
    """
    most = MOST if family == FAMILIES[0] else MOST6
    own = {route for route in routes if route[0].version == family}
    widest = sorted(own, key=lambda route: (route[0].prefixlen, order(route[0]), route[1]))
    return [pb.HostRoute(destination=str(to), link=link) for to, link in widest[:most]]


def tell(said: pb.NodeDescription, routes: Iterable[tuple[IpNetwork, str]]) -> bool:
    """Put a host's routes into what its node says; whether they are others than before."""
    every = list(routes)
    changed = False
    for field, family in ((said.routes, FAMILIES[0]), (said.routes6, FAMILIES[1])):
        now = told(every, family)
        if now != list(field):
            changed = True
            del field[:]
            field.extend(now)
    return changed


def crossing(subnets: Iterable[tuple[str, IpNetwork]], routes: Iterable[pb.HostRoute]) -> list[str]:
    """A sentence for each of a node's routes that leads into a subnet of a network that it has.

    Args:
        subnets: (name of a network, a subnet of it)s.
        routes: as the node tells of them.
    """
    ways = [(ip_network(route.destination), route.link) for route in routes]
    return [
        f"network {name} ({subnet}) overlaps with the route {to} ({link}) of this host: from"
        " containers on it what is there is not reached"
        for name, subnet in sorted(subnets, key=lambda each: (each[0], order(each[1])))
        for to, link in ways
        if overlap(to, subnet)
    ]


def of(nodes: Iterable[pb.Node]) -> Iterator[NodeRoute]:
    """The routes of the nodes that are not down; what is none is left out."""
    for node in sorted(nodes, key=lambda node: node.id):
        said = node.description
        for route in (*said.routes, *said.routes6) if node.status.state != "down" else ():
            try:
                destination = ip_network(route.destination)
            except ValueError:
                continue
            yield NodeRoute(destination, route.link, node.description.hostname or node.id)


def overlapping(subnet: IpNetwork, routes: Iterable[NodeRoute]) -> NodeRoute | None:
    """The first route that leads into a subnet, or to more than it; None: there is none."""
    return next((route for route in routes if overlap(route.destination, subnet)), None)
