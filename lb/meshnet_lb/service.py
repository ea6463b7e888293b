"""Where a connection to a service's virtual IP goes: pure, computed once for all containers.

The model: a VIP belongs to one service on one network. With ready backends it has a chain of its
own, ``svc-<service>-<network>``, whose one rule hands new connections to the backends round
robin (``numgen inc``, nft(8) "Numgen expression"), and a map of that name with the backends, a slot
each; conntrack keeps a connection where it began. In a map of its own one backend of hundreds that
leaves is two elements (0.3 ms in a namespace); in the rule it was all of them anew (3 ms).
Other ways than strictly in turn: ``meshnet_lb.policies``.
A VIP without ready backends leads to :data:`REFUSE` instead, unless the Snapshot is incomplete:
there may be some that we do not know of yet, and a connection that is not answered is tried again.
A map that is made has its backends in ascending order of address; later who has a slot keeps it.

Be aware: the turn is counted for each chain in each container and begins anew when the number of
the service's backends changes, and only then. The ingress network's VIPs are not balanced in
containers: what is published is reached through the nodes (``meshnet_lb.ingress``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from meshnet.model.families import Address
from meshnet.model.ids import NetworkId, ServiceId
from meshnet.model.snapshot import Service
from meshnet.nft.objects import Chain, Set
from meshnet_lb.choice import Choice
from meshnet_lb.dialect import IPV4, Dialect


def refuse(dialect: Dialect = IPV4) -> Chain:
    """Where connections go that nobody is there for: refused at once, no time-out.

    It stands in nat chains, which only a connection's first packet passes, so that all others cost
    nothing. A refused connection is never confirmed, so its next packet is a first one again.

    But a datagram that is dropped on its way out fails with EPERM in its sender's hands, before the
    error of ICMP is heard. So those of who sends from here are sent to a port of our own that is
    closed, where the kernel itself refuses: the sender hears ECONNREFUSED, as of any closed port.
    That flow *is* confirmed; it is forgotten when the VIP or port leads somewhere (``Set.leads``).
    """
    return Chain(
        "refuse",
        (
            "meta l4proto tcp reject with tcp reset",
            f"meta l4proto udp fib saddr type local dnat to {dialect.closed}",
            f"reject with {dialect.unreachable}",
        ),
    )


REFUSE: Final = refuse()
TO_REFUSE: Final = f"goto {REFUSE.name}"

_NOBODY: Final = frozenset[str]()
_ID_PART = 12
"""Characters of an id in a chain's name: 62 random bits; both parts fit well below nft's 128."""


@dataclass(frozen=True, slots=True)
class NetworkVips:
    """The VIPs of one network, as they stand in every container on it.

    Attributes:
        chains: one for each VIP that has backends, in order of name.
        sets: what each looks into, in the same order.
        verdicts: VIP -> ``goto <chain>``; of one that has no ready backend ``goto refuse``.
        backends: every address that the chains lead to.
        leads: VIP -> addresses that a flow to it may have been led to.
    """

    chains: tuple[Chain, ...] = ()
    sets: tuple[Set, ...] = ()
    verdicts: tuple[tuple[str, str], ...] = ()
    backends: frozenset[str] = frozenset()
    leads: tuple[tuple[str, frozenset[str]], ...] = ()


@dataclass(frozen=True, slots=True)
class Vip:
    """One virtual IP.

    Attributes:
        chain: its chain and what that looks into; None: it has no ready ones.
        verdict: VIP and what its connections meet.
        backends: addresses that the chain leads to.
        to: addresses that a flow to it may have been led to.
    """

    chain: tuple[Chain, tuple[Set, ...]] | None
    verdict: tuple[str, str]
    backends: frozenset[str]
    to: frozenset[str]


def vip_of(
    service: Service,
    network: NetworkId,
    ready: Sequence[Address],
    choice: Choice | None = None,
    doubted: Sequence[Address] = (),
    *,
    complete: bool,
    dialect: Dialect = IPV4,
) -> Vip | None:
    """The VIP of a service on one network that it has one on.

    Args:
        service: whose it is.
        network: where.
        ready: its backends there, ascending.
        choice: how they are chosen; None: strictly in turn.
        doubted: backends on silent hosts, which flows may have been led to before.
        complete: whether there can be no others; None while there may be, and none is known.
        dialect: of its family.
    """
    vip = str(dialect.vips(service)[network])
    if not ready:
        return Vip(None, (vip, TO_REFUSE), _NOBODY, _NOBODY) if complete else None
    addresses = [str(address) for address in ready]
    name = chain_name(service.id, network)
    if choice is None:
        choice = Choice(
            (("", turn(len(addresses), name)),), (slots(name, addresses, dialect),), name
        )
    backends = frozenset(addresses)
    to = backends.union(map(str, doubted))
    return Vip((Chain(name, choice.rules()), choice.sets), (vip, f"goto {name}"), backends, to)


def network_vips(every: Iterable[Vip]) -> NetworkVips:
    """The VIPs of one network together."""
    vips = sorted(every, key=lambda each: each.verdict)
    chains = sorted(
        (each.chain for each in vips if each.chain is not None), key=lambda pair: pair[0].name
    )
    return NetworkVips(
        tuple(chain for chain, _ in chains),
        tuple(set_ for _, sets in chains for set_ in sets),
        tuple(each.verdict for each in vips),
        frozenset[str]().union(*(each.backends for each in vips)),
        tuple((each.verdict[0], each.to) for each in vips),
    )


def chain_name(service: ServiceId, network: NetworkId) -> str:
    """Name of the chain of one VIP: ``svc-<12 of the service id>-<12 of the network id>``."""
    return f"svc-{service[:_ID_PART]}-{network[:_ID_PART]}"


def slots(name: str, addresses: Sequence[str], dialect: Dialect = IPV4) -> Set:
    """A map of backends, a slot each."""
    taken = {str(slot): address for slot, address in enumerate(addresses)}
    typeof = f"numgen inc mod 1 : {dialect.table} daddr"
    return Set(name, f"integer : {dialect.type}", taken, typeof=typeof, slots=True)


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
