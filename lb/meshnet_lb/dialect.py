"""What differs between the families in tables that balance: words of nft, and where addresses are.

Whatever balances is written once, for either; a table holds one family, as virtual IPs and backends
are translated within it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Final, Literal

from meshnet.model.families import Address
from meshnet.model.ids import NetworkId
from meshnet.model.snapshot import Endpoint, Node, Port, Service, Snapshot


@dataclass(frozen=True, slots=True)
class Dialect:
    """One family.

    Attributes:
        table: family of the table, and the header that ``saddr`` and ``daddr`` are of.
        type: of an address in sets.
        unreachable: what a refused packet is answered with.
        closed: where nobody ever waits: port 0 cannot be bound (bind(2) gives another one).
        local: what is for an address of this host that is published at.
    """

    table: Literal["ip", "ip6"]
    type: str
    unreachable: str
    closed: str
    local: str

    def addresses(self, endpoint: Endpoint) -> Mapping[NetworkId, Address]:
        """Of an endpoint."""
        return endpoint.addresses if self.table == "ip" else endpoint.addresses6

    def vips(self, service: Service) -> Mapping[NetworkId, Address]:
        """Of a service."""
        return service.vips if self.table == "ip" else service.vips6

    def gateway(self, node: Node) -> Address | None:
        """Of a node on the ingress network."""
        return node.ingress_address if self.table == "ip" else node.ingress_address6

    def taken(self, snapshot: Snapshot) -> Set[Port]:
        """Ports that processes of this host keep."""
        return snapshot.taken if self.table == "ip" else snapshot.taken6


IPV4: Final = Dialect(
    "ip", "ipv4_addr", "icmp port-unreachable", "127.0.0.1:0", "fib daddr type local"
)
IPV6: Final = Dialect(
    "ip6",
    "ipv6_addr",
    "icmpv6 port-unreachable",
    "[::1]:0",
    # What a link-local address sends is never forwarded (RFC 4291 section 2.5.6).
    "ip6 daddr != fe80::/10 fib daddr type local",
)
