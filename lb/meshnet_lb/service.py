"""Where a connection to a service's virtual IP goes: pure, computed once for all containers.

The model: a VIP belongs to one service on one network. With ready backends it has a chain of its
own, ``svc-<service>-<network>``, whose one rule hands new connections to the backends round
robin (``numgen inc``, nft(8) "Numgen expression"), and a map of that name with the backends, a slot
each; conntrack keeps a connection where it began. In a map of its own one backend of hundreds that
leaves is two elements (0.3 ms in a namespace); in the rule it was all of them anew (3 ms).
A VIP without ready backends leads to :data:`REFUSE` instead, unless the Snapshot is incomplete:
there may be some that we do not know of yet, and a connection that is not answered is tried again.
A map that is made has its backends in ascending order of address; later who has a slot keeps it.

Be aware: the turn is counted for each chain in each container and begins anew when the service's
backends change, and only then. The ingress network's VIPs are not balanced in containers: what is
published is reached through the nodes (``meshnet_lb.ingress``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from meshnet.model.ids import NetworkId, ServiceId
from meshnet.model.snapshot import Snapshot
from meshnet.nft.objects import Chain, Set

Backends = Mapping[tuple[ServiceId, NetworkId], tuple[IPv4Address, ...]]
"""Ready backends, ascending; a service without any on a network has no entry there."""

REFUSE: Final = Chain(
    "refuse", ("meta l4proto tcp reject with tcp reset", "reject with icmp port-unreachable")
)
"""Where connections go that nobody is there for: refused at once, no time-out.

It stands in nat chains, which only a connection's first packet passes, so that all others cost
nothing. A refused connection is never confirmed, so its next packet is a first one again.
"""
TO_REFUSE: Final = f"goto {REFUSE.name}"

_ID_PART = 12
"""Characters of an id in a chain's name: 62 random bits; both parts fit well below nft's 128."""


@dataclass(frozen=True, slots=True)
class NetworkVips:
    """The VIPs of one network, as they stand in every container on it.

    Attributes:
        chains: one for each VIP that has backends, in order of name.
        sets: the backends of each, in the same order.
        verdicts: VIP -> ``goto <chain>``; of one that has no ready backend ``goto refuse``.
        backends: every address that the chains lead to.
    """

    chains: tuple[Chain, ...] = ()
    sets: tuple[Set, ...] = ()
    verdicts: tuple[tuple[str, str], ...] = ()
    backends: frozenset[str] = frozenset()


def backends(snapshot: Snapshot) -> Backends:
    """Every service's live, ready backends on every network, in one pass over the endpoints.

    The same as ``Snapshot.backends`` for each pair, which walks all endpoints for one.
    """
    found: defaultdict[tuple[ServiceId, NetworkId], list[IPv4Address]] = defaultdict(list)
    for endpoint in snapshot.live_endpoints():
        if endpoint.service is not None and endpoint.ready:
            for network, address in endpoint.addresses.items():
                found[endpoint.service, network].append(address)
    return {key: tuple(sorted(addresses, key=int)) for key, addresses in found.items()}


def vips(snapshot: Snapshot, ready: Backends) -> Mapping[NetworkId, NetworkVips]:
    """The VIPs of each network that has any; ``ready`` is ``backends(snapshot)``."""
    chains: defaultdict[NetworkId, list[tuple[Chain, Set]]] = defaultdict(list)
    verdicts: defaultdict[NetworkId, list[tuple[str, str]]] = defaultdict(list)
    led_to: defaultdict[NetworkId, set[str]] = defaultdict(set)
    ingress = snapshot.ingress
    for service in snapshot.services.values():
        if service.mode != "vip":
            continue
        for network, vip in service.vips.items():
            if ingress is not None and network == ingress.id:
                continue
            addresses = [str(address) for address in ready.get((service.id, network), ())]
            if not addresses:
                if snapshot.complete:
                    verdicts[network].append((str(vip), TO_REFUSE))
                continue
            name = chain_name(service.id, network)
            chain = Chain(name, (turn(len(addresses), name),))
            chains[network].append((chain, slots(name, addresses)))
            led_to[network].update(addresses)
            verdicts[network].append((str(vip), f"goto {name}"))
    return {
        network: NetworkVips(
            tuple(sorted((chain for chain, _ in chains[network]), key=lambda chain: chain.name)),
            tuple(sorted((set_ for _, set_ in chains[network]), key=lambda set_: set_.name)),
            tuple(sorted(verdicts[network])),
            frozenset(led_to[network]),
        )
        for network in verdicts
    }


def chain_name(service: ServiceId, network: NetworkId) -> str:
    """Name of the chain of one VIP: ``svc-<12 of the service id>-<12 of the network id>``."""
    return f"svc-{service[:_ID_PART]}-{network[:_ID_PART]}"


def slots(name: str, addresses: Sequence[str]) -> Set:
    """A map of backends, a slot each."""
    taken = {str(slot): address for slot, address in enumerate(addresses)}
    return Set(name, "integer : ipv4_addr", taken, typeof="numgen inc mod 1 : ip daddr", slots=True)


def turn(number: int, name: str) -> str:
    """A rule that translates new connections to the first slots of a map, round robin."""
    return _round_robin(number, f"@{name}")


def round_robin(destinations: Sequence[str]) -> str:
    """A rule that translates new connections to the destinations, round robin.

    Args:
        destinations: at least one, ``address`` or, all of them, ``address . port``.
    """
    listed = ", ".join(f"{slot} : {destination}" for slot, destination in enumerate(destinations))
    return _round_robin(len(destinations), f"{{ {listed} }}")


def _round_robin(number: int, destinations: str) -> str:
    return f"dnat to numgen inc mod {number} map {destinations}"
