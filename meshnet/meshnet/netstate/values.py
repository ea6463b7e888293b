"""What should be in a network namespace, and what is.

A spec names only what is ours; everything else in the namespace is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TypeAlias

from meshnet.errors import MeshnetError
from meshnet.model.families import Address, Interface, IpNetwork
from meshnet.model.ids import MacAddress
from meshnet.netstate.changes import Netns
from meshnet.netstate.esp import Esp
from meshnet.netstate.objects import Link, Rule, Vxlan

AddressOn: TypeAlias = tuple[str, Interface]
"""(link, address)."""
NeighbourOn: TypeAlias = tuple[str, Address, MacAddress]
"""(link, address, MAC)."""
FdbRow: TypeAlias = tuple[str, MacAddress, IPv4Address | None]
"""(link, MAC, VTEP; None: a row of the bridge)."""


@dataclass(frozen=True, slots=True)
class VxlanSpec:
    """A VXLAN device that is a port of a bridge."""

    vxlan: Vxlan
    mtu: int
    master: str


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A route through a gateway, or (None) to what is on the link itself, or to an own address."""

    name: str
    table: int
    destination: IpNetwork
    gateway: Address | None
    onlink: bool = False
    source: Address | None = None
    """None: whichever; of IPv6 always."""
    local: bool = False


@dataclass(frozen=True, slots=True)
class Veth:
    """A pair of links, each end with its namespace."""

    netns: Netns
    name: str
    master: str
    mtu: int
    peer_netns: Netns
    peer: str
    peer_mac: MacAddress


@dataclass(frozen=True, slots=True)
class NetnsSpec:
    """What should be in one namespace, veth pairs aside.

    Attributes:
        made: we make the namespace, and remove it when it is not wanted.
        exact: links whose addresses, neighbours and FDB rows are all ours: others are removed.
        macs: links that somebody else makes -> MAC; they are brought up, too.
        up: further links that somebody else makes and that must be up.
        owned: regular expression of the names of veth ends that are ours: others are removed.
        dual: IPv6 is ours there as IPv4 is, but for link-local addresses and for rules. Otherwise
            nothing of it is read or changed.
        advised: links with a route that a router advertised go on hearing routers, though the
            namespace forwards.
    """

    made: bool = False
    bridges: Mapping[str, int] = field(default_factory=dict)
    """Name -> MTU."""
    vxlans: Mapping[str, VxlanSpec] = field(default_factory=dict)
    addresses: frozenset[AddressOn] = frozenset()
    """Each with the routes to its network and to itself, which the kernel makes with it."""
    neighbours: frozenset[NeighbourOn] = frozenset()
    fdb: frozenset[FdbRow] = frozenset()
    routes: frozenset[RouteSpec] = frozenset()
    rules: frozenset[Rule] = frozenset()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    if_there: frozenset[str] = frozenset()
    """Those of ``sysctls`` that a kernel may not have, or not yet: it is no error then."""
    exact: frozenset[str] = frozenset()
    macs: Mapping[str, MacAddress] = field(default_factory=dict)
    up: frozenset[str] = frozenset()
    owned: str = ""
    dual: bool = False
    advised: bool = False


@dataclass(frozen=True, slots=True)
class NetnsState:
    """What is in one namespace."""

    links: Mapping[str, Link] = field(default_factory=dict)
    masters: Mapping[str, str] = field(default_factory=dict)
    """Link -> the bridge that it is a port of."""
    addresses: frozenset[AddressOn] = frozenset()
    neighbours: frozenset[NeighbourOn] = frozenset()
    """Permanent ones."""
    fdb: frozenset[FdbRow] = frozenset()
    """Permanent and static rows."""
    routes: frozenset[RouteSpec] = frozenset()
    """``onlink`` is not told by the kernel's dump and is always False here."""
    rules: frozenset[Rule] = frozenset()
    sysctls: Mapping[str, str | None] = field(default_factory=dict)
    deaf: frozenset[str] = frozenset()
    """Links with a route that a router advertised, and that hear none once packets are forwarded;
    read where a spec is ``advised``."""


@dataclass(frozen=True, slots=True)
class Desired:
    """All namespaces of one kind of state."""

    specs: Mapping[Netns, NetnsSpec]
    veths: tuple[Veth, ...] = ()
    esp: Esp | None = None
    """Of the host's VXLAN packets; None: none is encrypted, or others look after that."""


def kept(before: Desired, now: Desired) -> Desired:
    """``now``, with the objects of ``before`` where these are equal; ``before`` if all are."""
    specs = {
        path: had if had is not None and (had is spec or had == spec) else spec
        for path, spec in now.specs.items()
        for had in (before.specs.get(path),)
    }
    same = before.veths is now.veths or before.veths == now.veths
    veths = before.veths if same else now.veths
    esp = before.esp if before.esp == now.esp else now.esp
    same = same and specs.keys() == before.specs.keys() and before.esp is esp
    if same and all(before.specs[path] is spec for path, spec in specs.items()):
        return before
    return Desired(specs, veths, esp)


@dataclass(frozen=True, slots=True)
class Observed:
    """What is in them.

    Attributes:
        states: namespace -> its state; one that is not there (any more) is missing.
        made: namespaces that we once made, wanted or not.
        unreadable: namespace that is there -> why it could not be read.
        looked: namespaces that may differ from what should be; None: all. The others are as they
            should be, and ``states`` has those that share a veth pair with one of these.
    """

    states: Mapping[Netns, NetnsState]
    made: frozenset[str] = frozenset()
    unreadable: Mapping[Netns, MeshnetError] = field(default_factory=dict)
    looked: frozenset[Netns] | None = None
