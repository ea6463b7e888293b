"""What the host's own network looks like: addresses to advertise, the underlay, its routes.

Read only. The pure question asked of it: does a subnet overlap a route of this host?
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from meshnet.kernel.rtnl import RtnlClient
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


def host_routes(rtnl: RtnlClient) -> list[tuple[IPv4Network, str]]:
    """(destination, link) of every route of the main table but defaults and the overlays' own.

    That of docker_gwbridge, which the engine made, is one of the host's.
    """
    socket = rtnl.of(None)
    name = {link.index: link.name for link in socket.links()}
    return [
        (route.destination, name.get(route.index, ""))
        for route in socket.routes()
        if route.table == MAIN_TABLE
        and isinstance(route.destination, IPv4Network)
        and route.destination.prefixlen
        and not name.get(route.index, "").startswith(_OVERLAYS)
    ]


def conflicting_route(
    subnet: IPv4Network, routes: Iterable[tuple[IPv4Network, str]]
) -> tuple[IPv4Network, str] | None:
    """The first route that overlaps ``subnet``, or None. Pure."""
    return next((route for route in routes if route[0].overlaps(subnet)), None)
