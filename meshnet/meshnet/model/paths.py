"""What the ways between nodes take, and what of it is left inside an overlay. Pure.

```
 node a ── interface 1500 ── router 1400 ── interface 1500 ── node b
 a says of b: 1400 (measured)                 an overlay that both are on: 1400 - 50 = 1350
```
Law: the MTU of an overlay is never above the smallest known way between two of its members less
what VXLAN adds, and ESP where it is encrypted; what its user set is a bound too. All members come
to the same MTU, as a bridge drops a frame that is larger than its own without a word
(net/bridge/br_forward.c, is_skb_forwardable).

Be aware: who sets no MTU gets what every node's interface takes, members or not, so that it does
not move as tasks do; only ways that were measured to be narrow count by members, and those of nodes
that are down do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from meshnet.model import esp
from meshnet.model.ids import NodeId
from meshnet.model.snapshot import Network, Node, Snapshot

VXLAN_BYTES: Final = 50
"""Outer IPv4 (20), UDP (8), VXLAN (8), inner Ethernet (14); RFC 7348 section 5."""
_USUAL: Final = 1500

Members = Set[IPv4Address]
"""VTEPs of the nodes that an overlay is on."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Of some nodes.

    Attributes:
        interfaces: VTEP -> MTU of the interface that has it, bytes.
        narrow: two VTEPs, and the bytes of the largest packet between them; those alone that take
            less than both interfaces.
    """

    interfaces: dict[IPv4Address, int]
    narrow: tuple[tuple[IPv4Address, IPv4Address, int], ...]

    @property
    def lowest(self) -> int:
        """Bytes of a packet that every interface takes."""
        return min(self.interfaces.values(), default=_USUAL)

    def mtu(self, network: Network, members: Callable[[], Members]) -> int:
        """Bytes of a packet inside ``network``; its members are asked for only if they count."""
        lowest = self.lowest
        if network.mtu is None and not self.narrow:
            return _inside(network, lowest)
        here = members()
        if network.mtu is not None:
            lowest = min((self.interfaces.get(each, _USUAL) for each in here), default=_USUAL)
        ways = (size for one, other, size in self.narrow if one in here and other in here)
        known = _inside(network, min((lowest, *ways)))
        return known if network.mtu is None else min(network.mtu, known)


def _inside(network: Network, outer: int) -> int:
    return esp.inside(outer) if network.encrypted else outer - VXLAN_BYTES


def ways_of(nodes: Iterable[Node]) -> Ways:
    """What these nodes say of themselves and of each other."""
    interfaces: dict[IPv4Address, int] = {}
    up: dict[NodeId, Node] = {}
    for node in nodes:  # one that joined anew has the address of its earlier life
        interfaces[node.vtep] = min(node.underlay_mtu, interfaces.get(node.vtep, node.underlay_mtu))
        if not node.down:
            up[node.id] = node
    narrow = tuple(
        (node.vtep, up[other].vtep, size)
        for node in up.values()
        for other, size in node.narrow
        if other in up and size < min(node.underlay_mtu, up[other].underlay_mtu)
    )
    return Ways(interfaces, narrow)


def largest(one: Node, other: Node) -> int:
    """Bytes of the largest packet between two nodes, as both know."""
    said = [size for of, to in ((one, other), (other, one)) for n, size in of.narrow if n == to.id]
    return min(one.underlay_mtu, other.underlay_mtu, *said)


def members_of(snapshot: Snapshot, network: Network) -> Members:
    """Where it is, as this node knows; this node is one of them."""
    found = {each.node for each in snapshot.endpoints.values() if network.id in each.addresses}
    if network.ingress:
        found |= {node.id for node in snapshot.nodes.values() if node.ingress_address is not None}
    found.add(snapshot.self_id)
    return {snapshot.nodes[node].vtep for node in found if node in snapshot.nodes}


def mtu_of(snapshot: Snapshot, network: Network) -> int:
    """Bytes of a packet inside ``network``."""
    return ways_of(snapshot.nodes.values()).mtu(network, lambda: members_of(snapshot, network))
