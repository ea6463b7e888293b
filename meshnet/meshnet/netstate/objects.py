"""Objects of the kernel's network as values: links, neighbours, routes and rules.

``kernel.encode`` reads them from rtnetlink's messages and writes them there.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from meshnet.model.families import Address, Family, IpNetwork
from meshnet.model.ids import MacAddress
from meshnet.model.wellknown import VXLAN_PORT

LOCAL_TABLE: Final = 255
"""What is for this namespace itself (``ip route show table local``)."""
DEFAULT_TABLE: Final = 253
MAIN_TABLE: Final = 254
"""The routing table that is used when no rule says another (``ip route show table main``)."""


@dataclass(frozen=True, slots=True)
class Vxlan:
    """What we set on a VXLAN device (RFC 7348)."""

    vni: int
    local: IPv4Address
    port: int = VXLAN_PORT


@dataclass(frozen=True, slots=True)
class Port:
    """How a bridge treats a port: as it begins unless told (ip-link(8), "bridge_slave")."""

    forwarding: bool = True
    """False: it is disabled though its link has a carrier."""
    learning: bool = True
    """Frames that come in say where their source is."""
    flood: bool = True
    """It gets frames for a MAC that the bridge does not know."""
    broadcast: bool = True
    multicast: bool = True
    hairpin: bool = False
    """It gets frames that came in by it."""
    suppress: bool = False
    """The bridge answers ARP and neighbour solicitations in its stead (neigh_suppress)."""
    isolated: bool = False
    """It gets nothing from other isolated ports."""
    locked: bool = False
    """It takes frames of sources alone that the bridge has a row for."""


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface as the kernel tells it."""

    index: int
    name: str
    kind: str
    """``veth``, ``vxlan``, ``bridge`` …; empty for lo and real devices."""
    up: bool
    mtu: int
    mac: MacAddress
    master: int = 0
    """Index of the bridge it is a port of; 0: none."""
    vxlan: Vxlan | None = None
    port: Port | None = None
    """Of a bridge; None: it is no port, or that was not told."""
    qdisc: str = ""
    """Kind of its root qdisc (tc(8)); empty: not told."""


NO_QDISC: Final = "noqueue"
"""What a virtual device has by itself."""
DOWN_QDISC: Final = "noop"
"""What it has until it is up for the first time."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A neighbour of either family or, for a bridge or VXLAN device, an FDB row."""

    index: int
    mac: MacAddress
    destination: Address | None
    """A neighbour: the address. FDB of a VXLAN device: the VTEP. FDB of a bridge: None."""
    state: int
    master: bool = False
    """FDB row of the bridge that the port belongs to."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route to what is elsewhere (unicast), or to an address of this namespace (local)."""

    table: int
    destination: IpNetwork
    gateway: Address | None
    index: int
    protocol: int
    source: Address | None = None
    """The address that what is sent this way comes from, unless the sender chose one."""
    local: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy rule that selects by mark; mask 0: that selects everything.

    Attributes:
        answers: number of a protocol, and a port: it selects only what is sent from that.
    """

    mark: int
    mask: int
    table: int
    priority: int
    family: Family = 4
    answers: tuple[int, int] | None = None


STANDARD_RULES: Final = frozenset(
    Rule(mark=0, mask=0, table=table, priority=priority)
    for table, priority in ((LOCAL_TABLE, 0), (MAIN_TABLE, 32766), (DEFAULT_TABLE, 32767))
)
"""What every namespace begins with: look in these tables in turn (ip-rule(8))."""
STANDARD_RULES6: Final = frozenset(
    Rule(mark=0, mask=0, table=table, priority=priority, family=6)
    for table, priority in ((LOCAL_TABLE, 0), (MAIN_TABLE, 32766))
)
"""The same of IPv6."""
