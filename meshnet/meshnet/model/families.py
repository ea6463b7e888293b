"""Addresses, networks and interfaces of either family."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Final, Literal, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Interface: TypeAlias = IPv4Interface | IPv6Interface
IpNetwork: TypeAlias = IPv4Network | IPv6Network
Family: TypeAlias = Literal[4, 6]
FAMILIES: Final[tuple[Family, Family]] = (4, 6)


def order(address: Address | Interface | IpNetwork) -> tuple[int, Address | Interface | IpNetwork]:
    """Sort key: IPv4 comes first; Python does not compare the two."""
    return address.version, address


def overlap(one: IpNetwork, other: IpNetwork) -> bool:
    """Whether some address is in both; never of two families."""
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.overlaps(other)
    if isinstance(one, IPv6Network) and isinstance(other, IPv6Network):
        return one.overlaps(other)
    return False
