"""What the host's own network looks like: addresses to advertise, the underlay, its routes.

Read only. The pure question asked of it: does a subnet overlap a route of this host?
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface

from meshnet.kernel.rtnl import RtnlClient
from meshnet.model.families import FAMILIES, IpNetwork, overlap
from meshnet.netstate.objects import MAIN_TABLE

_OVERLAYS = "mn-"
_OURS = (_OVERLAYS, "docker_gwbridge")


def local_addresses(rtnl: RtnlClient) -> list[tuple[str, IPv4Interface]]:
    """(link, address) of every address of this host but loopback's, in the kernel's order.

    Addresses of bridges and of our own links are left out: nobody reaches this host by them.
    """
    socket = rtnl.of(None)
    links = {link.index: link for link in socket.links()}
    return [
        (links[index].name, address)
        for index, address in socket.addresses()
        if index in links
        and isinstance(address, IPv4Interface)
        and not address.is_loopback
        and links[index].kind != "bridge"
        and not links[index].name.startswith(_OURS)
    ]


def underlay(rtnl: RtnlClient, address: IPv4Address) -> tuple[str, int] | None:
    """(link, MTU in bytes) that carries ``address``; None: this host does not have it."""
    socket = rtnl.of(None)
    links = {link.index: link for link in socket.links()}
    for index, found in socket.addresses():
        if found.ip == address and index in links:
            return links[index].name, links[index].mtu
    return None


def host_routes(rtnl: RtnlClient) -> list[tuple[IpNetwork, str]]:
    """(destination, link) of every route of the main table but defaults and the overlays' own.

    That of docker_gwbridge, which the engine made, is one of the host's; those to what is on a
    link alone (link-local), which each link has, lead nowhere. IPv4 comes first.
    """
    socket = rtnl.of(None)
    name = {link.index: link.name for link in socket.links()}
    return [
        (route.destination, name.get(route.index, ""))
        for family in FAMILIES
        for route in socket.routes(family)
        if route.table == MAIN_TABLE
        and route.destination.prefixlen
        and not (family == FAMILIES[1] and route.destination.is_link_local)
        and not name.get(route.index, "").startswith(_OVERLAYS)
    ]


def conflicting_route(
    subnet: IpNetwork, routes: Iterable[tuple[IpNetwork, str]]
) -> tuple[IpNetwork, str] | None:
    """The first route that overlaps ``subnet``, or None. Pure."""
    return next((route for route in routes if overlap(route[0], subnet)), None)
