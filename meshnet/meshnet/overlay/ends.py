"""What an overlay's ends are: a container's namespace and the host's. Pure.

Replies of the routing mesh go back through the node that the request came in on: see docs/decisions
and ``meshnet_lb``; here are the rules, the routes and the sysctls they need. Where the ingress
network is dual stack, those of IPv6 go back in the same way. A container has no default route of
IPv6, so what answers the mesh's datagrams looks for its way, last of all, by the port that it comes
from, in the table of the way back.

The kernel takes what is for a loopback address of IPv6 from that link alone that a route to it
names (net/ipv6/route.c, rt6_need_strict). With a second route, by ``mn-ingress``, the host hears
the answers to what it asked at ``[::1]``. Nobody else gains by that: from the wire the kernel takes
no packet with such an address (net/ipv6/ip6_input.c).

The engine switches IPv6 off in the namespaces that it makes; it is on for the interfaces that have
an address of it, and for loopback, through which a namespace reaches its own addresses. Nothing is
taken from router advertisements there. A host that forwards IPv6 hears no routers any more unless
its links say otherwise (``accept_ra`` 2): those that have a route of a router's go on hearing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Final

from meshnet.model.ids import MacAddress, NetworkId
from meshnet.model.mesh import INGRESS_LINK, MESH_MARK
from meshnet.model.snapshot import Protocol, Sandbox, Snapshot
from meshnet.netstate.objects import (
    LOCAL_TABLE,
    MAIN_TABLE,
    STANDARD_RULES,
    STANDARD_RULES6,
    Rule,
)
from meshnet.netstate.values import AddressOn, NeighbourOn, NetnsSpec, RouteSpec

_COUNTS: Final = "netfilter/nf_conntrack_acct"
"""Connections count their packets, for ``meshnet lb``. Comes with the first rule of a boot."""

RETURN_TABLE: Final = 100
_RETURN_PRIORITY: Final = 100
_RETURN_GATEWAY: Final = IPv4Address("169.254.77.1")
"""Stands for whichever node the request came in on; the frame's MAC is set at egress."""
_RETURN_GATEWAY6: Final = IPv6Address("fe80::77:1")
_RETURN_MAC: Final = MacAddress("02:42:a9:fe:4d:01")
_ANSWERS_PRIORITY: Final = 33000
"""Behind all else: only where nothing leads to is a route looked up by the port that answers."""
_WITHOUT_CONNECTIONS: Final[Mapping[Protocol, int]] = {
    "udp": 17,
    "sctp": 132,
}
"""Protocols whose servers answer by a route that no accepted connection names, and their numbers
(IANA)."""
_DEFAULT: Final = IPv4Network("0.0.0.0/0")
_DEFAULT6: Final = IPv6Network("::/0")
_LOOPBACK: Final = "lo"
_LOOPBACK_ADDRESS: Final = IPv4Interface("127.0.0.1/8")
"""The resolver is at 127.0.0.11; the engine gave both to the container."""
_LOOPBACK6: Final = IPv6Interface("::1/128")
_NO_ADVERTISEMENTS: Final = {"accept_ra": "0", "autoconf": "0", "disable_ipv6": "0"}


def of_sandbox(snapshot: Snapshot, sandbox: Sandbox, thin: Set[NetworkId]) -> NetnsSpec:
    """What is in a container's namespace.

    Args:
        snapshot: of this moment.
        sandbox: the container's.
        thin: networks that are too narrow for IPv6.
    """
    addresses: set[AddressOn] = set()
    routes: set[RouteSpec] = set()
    rules = set(STANDARD_RULES)
    neighbours: set[NeighbourOn] = set()
    sysctls = {_COUNTS: "1"}
    second = {network: address for network, address in sandbox.networks6 if network not in thin}
    for number, (network, address) in enumerate(sandbox.networks):
        name = sandbox.interface(number)
        addresses.add((name, address))
        known = snapshot.networks.get(network)
        if network in second:
            addresses |= {(name, second[network]), (_LOOPBACK, _LOOPBACK6)}
            sysctls |= {**ipv6_on(name), f"ipv6/conf/{_LOOPBACK}/disable_ipv6": "0"}
            others = known.subnets6 if known is not None else ()
            routes |= {
                RouteSpec(name, MAIN_TABLE, subnet, None)
                for subnet in others
                if second[network].ip not in subnet
            }
        for subnet in known.subnets if known is not None else ():
            if address.ip not in subnet:
                routes.add(RouteSpec(name, MAIN_TABLE, subnet, None))
        if known is not None and known.ingress:
            routes.add(RouteSpec(name, RETURN_TABLE, _DEFAULT, _RETURN_GATEWAY, onlink=True))
            rules.add(Rule(MESH_MARK, MESH_MARK, RETURN_TABLE, _RETURN_PRIORITY))
            neighbours.add((name, _RETURN_GATEWAY, _RETURN_MAC))
            sysctls |= {
                "ipv4/tcp_fwmark_accept": "1",
                "ipv4/conf/all/rp_filter": "0",
                f"ipv4/conf/{name}/rp_filter": "0",
            }
        if known is not None and known.ingress and network in second:
            way = RouteSpec(name, RETURN_TABLE, _DEFAULT6, _RETURN_GATEWAY6, onlink=True)
            routes.add(way)
            rules |= _back6(sandbox)
            neighbours.add((name, _RETURN_GATEWAY6, _RETURN_MAC))
            # Errors and resets have no socket that remembers the mark.
            sysctls["ipv6/fwmark_reflect"] = "1"
    if second:
        rules |= STANDARD_RULES6
    return NetnsSpec(
        addresses=frozenset(addresses | {(_LOOPBACK, _LOOPBACK_ADDRESS)}),
        neighbours=frozenset(neighbours),
        routes=frozenset(routes),
        rules=frozenset(rules),
        sysctls=sysctls,
        if_there=frozenset({_COUNTS}),
        exact=frozenset(name for name, _ in addresses) - {_LOOPBACK},
        up=frozenset({_LOOPBACK}),
        dual=bool(second),
    )


def _back6(sandbox: Sandbox) -> set[Rule]:
    """What leads answers of IPv6 back to the node that the request came in on."""
    answers = {
        (_WITHOUT_CONNECTIONS[port.protocol], port.target)
        for port in sandbox.ports
        if port.mode == "ingress" and port.protocol in _WITHOUT_CONNECTIONS
    }
    return {Rule(MESH_MARK, MESH_MARK, RETURN_TABLE, _RETURN_PRIORITY, family=6)} | {
        Rule(0, 0, RETURN_TABLE, _ANSWERS_PRIORITY, family=6, answers=each) for each in answers
    }


def of_host(snapshot: Snapshot, thin: Set[NetworkId]) -> NetnsSpec:
    """What is in the host's; arguments as of ``of_sandbox``."""
    first, second = gateway(snapshot), gateway6(snapshot, thin)
    if first is None:
        return NetnsSpec(owned=INGRESS_LINK)
    made = NetnsSpec(
        addresses=frozenset({(INGRESS_LINK, first)}),
        sysctls={
            "ipv4/ip_forward": "1",
            f"ipv4/conf/{INGRESS_LINK}/rp_filter": "2",
            # 127.0.0.1:<published port>: the packet leaves lo with a loopback source.
            f"ipv4/conf/{INGRESS_LINK}/route_localnet": "1",
            _COUNTS: "1",
        },
        if_there=frozenset({_COUNTS}),
        exact=frozenset({INGRESS_LINK}),
        owned=INGRESS_LINK,
    )
    if second is None:
        return made
    return replace(
        made,
        addresses=made.addresses | {(INGRESS_LINK, second)},
        routes=frozenset(
            {RouteSpec(INGRESS_LINK, LOCAL_TABLE, _LOOPBACK6.network, None, local=True)}
        ),
        sysctls={**made.sysctls, **ipv6_on(INGRESS_LINK), "ipv6/conf/all/forwarding": "1"},
        dual=True,
        advised=True,
    )


def gateway6(snapshot: Snapshot, thin: Set[NetworkId]) -> IPv6Interface | None:
    """The same of IPv6."""
    network, node = snapshot.ingress, snapshot.nodes.get(snapshot.self_id)
    if network is None or node is None or node.ingress_address6 is None or network.id in thin:
        return None
    own = node.ingress_address6
    inside = (subnet for subnet in network.subnets6 if own in subnet)
    return next((IPv6Interface((own, subnet.prefixlen)) for subnet in inside), None)


def gateway(snapshot: Snapshot) -> IPv4Interface | None:
    """This node's address on the ingress network."""
    network, node = snapshot.ingress, snapshot.nodes.get(snapshot.self_id)
    if network is None or node is None or node.ingress_address is None:
        return None
    return IPv4Interface((node.ingress_address, network.subnet.prefixlen))


def ipv6_on(link: str) -> dict[str, str]:
    """Settings of a link that has addresses of IPv6 which we give it."""
    return {f"ipv6/conf/{link}/{key}": value for key, value in _NO_ADVERTISEMENTS.items()}
