"""The tables in a container's network namespace: pure.

``table ip meshnet`` balances the VIPs of the container's networks where its connections begin, so
the backend sees the container's own address and nothing stands between; for a moment it is silent
where it would refuse (``meshnet_lb.guard``). ``table ip6 meshnet`` is of the same make, for those
of the networks that are dual stack. In a container on the ingress network ``table ip meshnet`` also
holds the task's side of the routing mesh, with ``table netdev meshnet``:

1. The entry node sends a client's packet on through VXLAN, which is layer 2, without changing its
   source. The packet's Ethernet source is the entry node's gateway and names the way back.
2. ``@gateways`` turns that MAC into a mark, kept in conntrack; every reply carries the mark again.
3. ``ip rule`` leads marked packets out of the ingress interface to a next hop that does not exist;
   ``@macs`` writes the entry node's MAC over its MAC on the way out (netdev egress, Linux 5.16).

So a node that joins or leaves is one element in two maps.

One port of a client may come in through two nodes at once, or a second time while the task still
remembers it (TIME_WAIT, with timestamps of another path): to the task both are one connection. So
what comes in has a conntrack zone for each gateway, and the answers have none: of two that would be
answered alike the kernel gives the second one another source port, at input, where a nat chain is
(``meshnet_lb.guard``). The client's address stays.

A UDP server on all addresses answers from the address that the route without the mark suggests:
that on docker_gwbridge. Such an answer would be no part of the flow, so a client's datagrams are
translated to that address on the way in, and the answers back by conntrack. (TCP needs no such
thing: an accepted connection has its address, and with ``tcp_fwmark_accept`` its mark.)

Where the ingress network is dual stack, ``table ip6 meshnet`` has the same of IPv6, with the same
marks and MACs. There nothing leads away from the ingress address but marks, and for datagrams their
port (a rule of the overlay's): a server on all addresses answers from that address by itself.

Be aware: a kernel without conntrack zones refuses the table; distributions' have them.
Rule, route, neighbour and sysctls of the way
back are the overlay reconciler's. Marks use the low 24 bits of the gateway's address, so an
ingress network larger than a /8 would be ambiguous. A UDP server that binds to its ingress address
alone is not reached by clients from outside; on all addresses, or on docker_gwbridge's, it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from meshnet.model.ids import mac_of
from meshnet.model.mesh import MESH_MARK
from meshnet.model.snapshot import Network, Sandbox, Snapshot
from meshnet.nft.objects import Chain, Ruleset, Set
from meshnet_lb.dialect import IPV4, IPV6, Dialect
from meshnet_lb.guard import guard
from meshnet_lb.service import NetworkVips, refuse

_MESH_MARKED = f"ct mark & {MESH_MARK:#010x} == {MESH_MARK:#010x}"

_ENTRY = "@ll,80,16"
"""The last two bytes of a frame's source: who of a network of 65,536 addresses sent it."""


@dataclass(frozen=True, slots=True)
class Balancing:
    """What containers on the same networks have in common.

    Attributes:
        backends: every address that the chains lead to.
        there: addresses of all endpoints on these networks that may still answer.
        avoided: backends that only new flows go past.
    """

    chains: tuple[Chain, ...]
    sets: tuple[Set, ...]
    backends: frozenset[str]
    there: frozenset[str]
    avoided: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Gateways:
    """Every node's foot in the ingress network, as containers know it: made once for all of them.

    Attributes:
        marks: the mark of what comes in by each.
        macs: who gets what is marked so.
    """

    marks: Set = field(default_factory=lambda: Set("gateways", "ether_addr : mark"))
    macs: Set = field(default_factory=lambda: Set("macs", "mark : ether_addr"))


def balancing(
    networks: Sequence[NetworkVips],
    there: Sequence[frozenset[str]],
    avoided: Sequence[frozenset[str]] = (),
    dialect: Dialect = IPV4,
) -> Balancing:
    """What is the same in all containers on these networks, in this order.

    Args:
        networks: the VIPs of each.
        there: of each, who is there.
        avoided: of each, backends that only new flows go past.
        dialect: of their family.
    """
    verdicts = {vip: verdict for network in networks for vip, verdict in network.verdicts}
    chains = (
        Chain(
            "balance",
            (f"{dialect.table} daddr vmap @vips",),
            "type nat hook output priority -100;",
        ),
        refuse(dialect),
        *(chain for network in networks for chain in network.chains),
    )
    leads = {vip: to for network in networks for vip, to in network.leads}
    slots = (set_ for network in networks for set_ in network.sets)
    return Balancing(
        chains,
        (Set("vips", f"{dialect.type} : verdict", verdicts, leads=leads), *slots),
        frozenset[str]().union(*(network.backends for network in networks)),
        frozenset[str]().union(*there),
        frozenset[str]().union(*avoided),
    )


def rulesets(
    sandbox: Sandbox,
    balancing: Balancing,
    ingress: Network | None,
    gateways: Gateways,
    balancing6: Balancing | None = None,
) -> tuple[Ruleset, ...]:
    """What one container's namespace holds.

    Args:
        sandbox: the container's.
        balancing: of its networks.
        ingress: the routing-mesh network.
        gateways: ``gateways(snapshot)``.
        balancing6: of those of its networks that are dual stack; None: none is.
    """
    second = () if balancing6 is None else (_second(sandbox, balancing6, ingress, gateways),)
    guarding, guard_sets = guard([sandbox.interface(at) for at in range(len(sandbox.networks))])
    chains, sets = (*balancing.chains, *guarding), (*balancing.sets, *guard_sets)
    facts = balancing.backends, balancing.there, balancing.avoided
    interface = _ingress_interface(sandbox, ingress)
    if interface is None or ingress is None:
        return (Ruleset("ip", "meshnet", chains, sets, *facts), *second)
    return (
        Ruleset(
            "ip",
            "meshnet",
            (*chains, *_mesh_chains(interface, IPV4), *_mesh_udp(interface, sandbox, ingress)),
            (*sets, _targets(sandbox), gateways.marks),
            *facts,
        ),
        _egress(interface, gateways),
        *second,
    )


def _second(
    sandbox: Sandbox, balancing: Balancing, ingress: Network | None, gateways: Gateways
) -> Ruleset:
    """The table of IPv6."""
    dual = dict(sandbox.networks6)
    names = [
        sandbox.interface(at) for at, (network, _) in enumerate(sandbox.networks) if network in dual
    ]
    chains, sets = guard(names)
    if ingress is not None and ingress.id in dual:
        interface = _ingress_interface(sandbox, ingress) or ""
        chains = (*chains, *_mesh_chains(interface, IPV6))
        sets = (*sets, _targets(sandbox), gateways.marks)
    return Ruleset(
        IPV6.table,
        "meshnet",
        (*balancing.chains, *chains),
        (*balancing.sets, *sets),
        balancing.backends,
        balancing.there,
        balancing.avoided,
    )


def mark_of(gateway: IPv4Address) -> int:
    """Mark of connections that came in through the node with this ingress gateway address."""
    return MESH_MARK | (int(gateway) & 0x00FFFFFF)


def _ingress_interface(sandbox: Sandbox, ingress: Network | None) -> str | None:
    for index, (network, _) in enumerate(sandbox.networks):
        if ingress is not None and network == ingress.id:
            return sandbox.interface(index)
    return None


def gateways(snapshot: Snapshot) -> Gateways:
    """Of all nodes, this one included."""
    found = (node.ingress_address for node in snapshot.nodes.values())
    pairs = [
        (str(mac_of(address)), f"{mark_of(address):#010x}")
        for address in sorted(address for address in found if address is not None)
    ]
    return Gateways(
        Set("gateways", "ether_addr : mark", dict(pairs)),
        Set("macs", "mark : ether_addr", {mark: mac for mac, mark in pairs}),
    )


def _mesh_chains(interface: str, dialect: Dialect) -> tuple[Chain, ...]:
    return (
        Chain(
            "mesh_zone",
            (f'iifname "{interface}" ct original zone set {_ENTRY}',),
            "type filter hook prerouting priority -300;",
        ),
        Chain(
            "mesh_in",
            (
                f'iifname "{interface}" ct state new ct mark set ether saddr map @gateways',
                f'iifname "{interface}" {_MESH_MARKED} meta mark set ct mark',
            ),
            "type filter hook prerouting priority -150;",
        ),
        Chain(
            "mesh_back",
            (f"ct direction reply {_MESH_MARKED} meta mark set ct mark",),
            "type route hook output priority -150;",
        ),
        Chain(
            "mesh_only", _only_published(interface, dialect), "type filter hook input priority 0;"
        ),
    )


def _mesh_udp(interface: str, sandbox: Sandbox, ingress: Network) -> tuple[Chain, ...]:
    """Lead clients' datagrams to the address that a server on all addresses answers from."""
    if sandbox.gateway_address is None:
        return ()
    rule = (
        f'iifname "{interface}" {_MESH_MARKED} ip saddr != {ingress.subnet} meta l4proto udp'
        f" meta l4proto . th dport @targets dnat to {sandbox.gateway_address.ip}"
    )
    return (Chain("mesh_udp", (rule,), "type nat hook prerouting priority -100;"),)


def _only_published(interface: str, dialect: Dialect) -> tuple[str, ...]:
    """Refuse what comes in from the ingress network and is for no published port."""
    new = f'iifname "{interface}" ct state new'
    return (
        f"{new} meta l4proto . th dport @targets accept",
        f"{new} meta l4proto tcp reject with tcp reset",
        f"{new} meta l4proto {{ udp, sctp }} reject with {dialect.unreachable}",
    )


def _targets(sandbox: Sandbox) -> Set:
    targets = {
        f"{port.protocol} . {port.target}": "" for port in sandbox.ports if port.mode == "ingress"
    }
    return Set("targets", "inet_proto . inet_service", dict(sorted(targets.items())))


def _egress(interface: str, gateways: Gateways) -> Ruleset:
    """Who gets a marked packet; a mark that is in no map leaves the packet as it is."""
    chain = Chain(
        "egress",
        ("ether daddr set meta mark map @macs",),
        f'type filter hook egress device "{interface}" priority 0;',
    )
    return Ruleset("netdev", "meshnet", (chain,), (gateways.macs,))
