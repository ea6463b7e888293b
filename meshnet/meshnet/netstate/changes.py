"""Changes to network namespaces as values: what a plan says and ``kernel.changer`` does.

A namespace is named by its path; None is the host's. Links are named, never numbered: numbers are
the kernel's, and looked up when the change is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeAlias

from meshnet.errors import MeshnetError
from meshnet.model.families import Address, Interface, IpNetwork
from meshnet.model.ids import MacAddress
from meshnet.netstate.objects import Port, Rule, Vxlan

Netns: TypeAlias = str | None


@dataclass(frozen=True, slots=True)
class AddNetns:
    """Make a named namespace."""

    path: str


@dataclass(frozen=True, slots=True)
class DelNetns:
    """Remove a named namespace and everything in it."""

    path: str


@dataclass(frozen=True, slots=True)
class AddBridge:
    """A bridge, up."""

    netns: Netns
    name: str
    mtu: int


@dataclass(frozen=True, slots=True)
class AddVxlan:
    """A VXLAN device whose socket is in the host's namespace."""

    netns: Netns
    name: str
    mtu: int
    vxlan: Vxlan


@dataclass(frozen=True, slots=True)
class AddVeth:
    """A pair: ``name`` in ``netns``, port of ``master`` ("": of none), and its peer elsewhere."""

    netns: Netns
    name: str
    master: str
    mtu: int
    peer_netns: Netns
    peer: str
    peer_mac: MacAddress


@dataclass(frozen=True, slots=True)
class SetLink:
    """Bring a link up; None leaves a setting as it is; master "" leaves it alone too."""

    netns: Netns
    name: str
    mtu: int | None = None
    mac: MacAddress | None = None
    master: str = ""


@dataclass(frozen=True, slots=True)
class NoLearning:
    """The bridge learns nothing on this port."""

    netns: Netns
    name: str


@dataclass(frozen=True, slots=True)
class SetPort:
    """How a bridge is to treat a port."""

    netns: Netns
    name: str
    port: Port
    forward: bool
    """It is disabled: also take frames again."""


@dataclass(frozen=True, slots=True)
class DelQdisc:
    """Remove a link's root qdisc, and what stands below it."""

    netns: Netns
    name: str


@dataclass(frozen=True, slots=True)
class DelLink:
    """Remove a link (of a veth pair: both ends)."""

    netns: Netns
    name: str


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Give a link an address."""

    netns: Netns
    name: str
    address: Interface


@dataclass(frozen=True, slots=True)
class DelAddress:
    """Take an address from a link."""

    netns: Netns
    name: str
    address: Interface


@dataclass(frozen=True, slots=True)
class AddNeighbour:
    """A permanent neighbour: an ARP entry, or what IPv6 has in its place."""

    netns: Netns
    name: str
    address: Address
    mac: MacAddress


@dataclass(frozen=True, slots=True)
class DelNeighbour:
    """Remove a neighbour."""

    netns: Netns
    name: str
    address: Address


@dataclass(frozen=True, slots=True)
class AddFdb:
    """An FDB row of a VXLAN device (to ``vtep``) or (None) of the bridge it is a port of."""

    netns: Netns
    name: str
    mac: MacAddress
    vtep: IPv4Address | None


@dataclass(frozen=True, slots=True)
class DelFdb:
    """Remove an FDB row."""

    netns: Netns
    name: str
    mac: MacAddress
    vtep: IPv4Address | None


@dataclass(frozen=True, slots=True)
class AddRoute:
    """A route of ours, or with a ``source`` one as the kernel makes it with an address.

    ``onlink``: the gateway needs no route of its own. ``local``: to an address of the namespace.
    """

    netns: Netns
    name: str
    table: int
    destination: IpNetwork
    gateway: Address | None
    onlink: bool = False
    source: Address | None = None
    local: bool = False


@dataclass(frozen=True, slots=True)
class AddRule:
    """Packets that a rule selects look their route up in a table."""

    netns: Netns
    rule: Rule


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """A value below /proc/sys/net of the namespace."""

    netns: Netns
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Say that a namespace could not be read: nothing is planned for it, everything for others."""

    netns: Netns
    error: MeshnetError


Change: TypeAlias = (
    AddNetns
    | DelNetns
    | AddBridge
    | AddVxlan
    | AddVeth
    | SetLink
    | NoLearning
    | SetPort
    | DelQdisc
    | DelLink
    | AddAddress
    | DelAddress
    | AddNeighbour
    | DelNeighbour
    | AddFdb
    | DelFdb
    | AddRoute
    | AddRule
    | SetSysctl
    | Unreadable
)
