"""The network that this host has without us: its addresses, its routes, its way to another host."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address
from typing import Final

from meshnet.errors import ControlError, KernelError
from meshnet.kernel import host
from meshnet.kernel.rtnl import RtnlClient
from meshnet.model.families import IpNetwork
from meshnet.model.wellknown import CONTROL_PORT
from meshnet_control.node.advertise import Addresses

FAR_AWAY: Final = "192.0.2.1"
"""No host has it (RFC 5737): the way there is the way to whatever is far away."""


def local_addresses() -> Addresses:
    """Those that others may reach this host by."""
    rtnl = RtnlClient()
    try:
        return host.local_addresses(rtnl)
    finally:
        rtnl.close()


def routes() -> list[tuple[IpNetwork, str]]:
    """(destination, link) of every route but defaults and the overlays' own."""
    rtnl = RtnlClient()
    try:
        return host.host_routes(rtnl)
    finally:
        rtnl.close()


def way_to(remote: str) -> str:
    """The address this host would use towards ``remote``, with or without a port.

    Empty: there is no route.
    """
    address = remote.rpartition(":")[0] or remote
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, CONTROL_PORT))  # sends nothing
        except OSError:
            return ""
        found: str = probe.getsockname()[0]
        return found


def mtu(vtep: IPv4Address) -> int:
    """Bytes of a packet on the link that has ``vtep``, this node's address in the cluster.

    Raises:
        ControlError: the host does not have that address any more; what to do then.
    """
    rtnl = RtnlClient()
    try:
        found = host.underlay(rtnl, vtep)
    except KernelError as error:
        raise ControlError(str(error), 500) from error
    finally:
        rtnl.close()
    if found is None:
        raise ControlError(
            f"{vtep}, the address of this node in the cluster, is not on this host any more: "
            "give it back, or leave the cluster (docker swarm leave --force) and join again",
            500,
        )
    return found[1]
