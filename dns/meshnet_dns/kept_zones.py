"""The zones of some networks, Snapshot after Snapshot: pure but for its own memory.

Law: whatever came before, the zones of a Snapshot are those of ``meshnet_dns.zone.zones``. One
endpoint costs its own names and its service's; what changed is told besides, so that the resolver
is told that and no more.

The model: whoever may be found under a name is a fact (name, claim, address). Facts of an endpoint
follow from it, its service and whether its node lives; those of a service from it alone. A name
has the addresses of its best claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import NamedTuple, TypeVar

from meshnet.model.differences import touched
from meshnet.model.ids import NetworkId, ServiceId, TaskId
from meshnet.model.shared_map import SharedMap, difference, shared
from meshnet.model.snapshot import Endpoint, Service, Snapshot
from meshnet_dns.state import ZoneChange, sum_of, zone_digest, zone_sum
from meshnet_dns.zone import TASKS, Claim, Zone, endpoint_records, fits, stored

K = TypeVar("K")
V = TypeVar("V")


class _Fact(NamedTuple):
    network: NetworkId
    name: str
    claim: Claim
    address: IPv4Address | None
    """None: the name is ours, and this alone gives it no address."""


class _Pointer(NamedTuple):
    network: NetworkId
    address: IPv4Address
    name: str


_Facts = Iterator[_Fact | _Pointer]


@dataclass
class _Kept:
    """One network."""

    zone: Zone
    sum: int
    names: dict[str, dict[tuple[Claim, IPv4Address | None], int]] = field(default_factory=dict)
    pointers: dict[IPv4Address, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """A zone, and how it came from the one before it."""

    zone: Zone
    digest: str
    change: ZoneChange | None = None
    """None: it is new."""


class KeptZones:
    """The zones of the networks that are asked for."""

    def __init__(self) -> None:
        self._before: Snapshot | None = None
        self._kept: dict[NetworkId, _Kept] = {}
        self._known: dict[NetworkId, Known] = {}

    def of(self, snapshot: Snapshot, networks: Set[NetworkId]) -> Mapping[NetworkId, Known]:
        """Their zones; the same objects where nothing changed.

        Args:
            snapshot: of this moment.
            networks: those of it that are wanted, not the ingress network.
        """
        before, self._before = self._before or snapshot, snapshot
        wanted = {network for network in networks if network in snapshot.networks}
        stay = {
            network
            for network in wanted & self._kept.keys()
            if before.networks.get(network) == snapshot.networks[network]
        }
        self._kept = {network: self._kept[network] for network in stay}
        self._known = {network: self._known[network] for network in stay}
        if new := wanted - stay:
            for network in new:
                told = snapshot.networks[network]
                zone = Zone(told.name.lower(), told.subnet, SharedMap(), SharedMap())
                self._kept[network] = _Kept(zone, zone_sum(zone))
            self._change(new, _facts(snapshot, snapshot.endpoints, snapshot.services, new), {})
            self._known |= {
                network: Known(self._kept[network].zone, zone_digest(self._kept[network].sum))
                for network in new
            }
        if stay and before is not snapshot:
            tasks, services = _concerned(before, snapshot)
            fresh = Counter(_facts(snapshot, tasks, services, stay))
            stale = Counter(_facts(before, tasks, services, stay))
            self._change(stay, (fresh - stale).elements(), stale - fresh)
        return self._known

    def _change(
        self,
        networks: Set[NetworkId],
        fresh: Iterable[_Fact | _Pointer],
        stale: Mapping[_Fact | _Pointer, int],
    ) -> None:
        names: dict[NetworkId, set[str]] = {network: set() for network in networks}
        pointers: dict[NetworkId, set[IPv4Address]] = {network: set() for network in networks}
        counts = [(fact, 1) for fact in fresh] + [(fact, -times) for fact, times in stale.items()]
        for fact, times in counts:
            kept = self._kept[fact.network]
            if isinstance(fact, _Pointer):
                _count(kept.pointers, fact.address, fact.name, times)
                pointers[fact.network].add(fact.address)
            else:
                _count(kept.names, fact.name, (fact.claim, fact.address), times)
                names[fact.network].add(fact.name)
        for network in networks:
            if names[network] or pointers[network]:
                self._settle(network, names[network], pointers[network])

    def _settle(self, network: NetworkId, names: Set[str], pointers: Set[IPv4Address]) -> None:
        """Make the zone anew, of the names and addresses whose facts changed."""
        kept = self._kept[network]
        before, digest = kept.zone, zone_digest(kept.sum)
        put = {name: _addresses(kept.names[name]) for name in names if name in kept.names}
        said = {at: min(kept.pointers[at]) for at in pointers if at in kept.pointers}
        said = {address: name for address, name in said.items() if fits(name)}
        now = replace(
            before,
            names=shared(before.names).changed(put, names - put.keys()),
            pointers=shared(before.pointers).changed(said, pointers - said.keys()),
        )
        named = difference(before.names, now.names)
        pointed = difference(before.pointers, now.pointers)
        if not named and not pointed:
            return
        change = ZoneChange(
            digest,
            {name: now.names.get(name) for name in named},
            {address: now.pointers.get(address) for address in pointed},
        )
        kept.sum += sum_of(now, named, pointed) - sum_of(before, named, pointed)
        kept.zone = now
        self._known[network] = Known(now, zone_digest(kept.sum), change)


def _concerned(before: Snapshot, now: Snapshot) -> tuple[set[TaskId], set[ServiceId]]:
    """Endpoints and services whose facts may be others now."""
    services = {
        service
        for service in difference(before.services, now.services)
        if _named(before.services.get(service)) != _named(now.services.get(service))
    }
    tasks = touched(before, now, lambda node: node.live)
    if services:  # a service is renamed seldom: no index of its endpoints is kept up for that
        tasks |= {task for task, each in now.endpoints.items() if each.service in services}
    return tasks, services


def _named(service: Service | None) -> object:
    if service is None:
        return None
    return service.name, service.mode, service.vips, service.aliases


def _facts(
    snapshot: Snapshot,
    tasks: Iterable[TaskId],
    services: Iterable[ServiceId],
    networks: Set[NetworkId],
) -> _Facts:
    for id_ in services:
        service = snapshot.services.get(id_)
        if service is not None:
            for network in networks & (service.vips.keys() | service.aliases.keys()):
                yield from _of_service(snapshot, service, network)
    for task in tasks:
        endpoint = snapshot.endpoints.get(task)
        node = snapshot.nodes.get(endpoint.node) if endpoint is not None else None
        if endpoint is not None and (node is None or node.live):
            for network in networks & endpoint.addresses.keys():
                yield from _of_endpoint(snapshot, endpoint, network)


def _of_service(snapshot: Snapshot, service: Service, network: NetworkId) -> _Facts:
    """A service is known by its VIP, or by having aliases, with no task, too."""
    vip = _vip(service, network)
    aliases = service.aliases.get(network, ())
    if vip is not None or aliases:
        yield from _of_names(service, network, vip, None)
    if vip is not None:
        yield _Pointer(network, vip, f"{service.name}.{snapshot.networks[network].name}")


def _of_endpoint(snapshot: Snapshot, endpoint: Endpoint, network: NetworkId) -> _Facts:
    service = snapshot.services.get(endpoint.service) if endpoint.service is not None else None
    if service is not None:
        ready = endpoint.addresses[network] if endpoint.ready else None
        own = ready if _vip(service, network) is None else None
        yield from _of_names(service, network, own, ready)
    for given, claim, (address,) in endpoint_records(endpoint, network):
        if name := stored(given):
            yield _Fact(network, name, claim, address)
    at = endpoint.addresses[network]
    yield _Pointer(network, at, f"{endpoint.name}.{snapshot.networks[network].name}")


def _of_names(
    service: Service, network: NetworkId, own: IPv4Address | None, ready: IPv4Address | None
) -> _Facts:
    """The names of a service, with what one VIP or endpoint gives to them."""
    every = [(service.name, Claim.SERVICE)]
    every += [(alias, Claim.SERVICE_ALIAS) for alias in service.aliases.get(network, ())]
    for given, claim in every:
        if name := stored(given):
            yield _Fact(network, name, claim, own)
        if name := stored(TASKS + given):
            yield _Fact(network, name, claim, ready)


def _vip(service: Service, network: NetworkId) -> IPv4Address | None:
    return service.vips.get(network) if service.mode == "vip" else None


def _count(counts: dict[K, dict[V, int]], key: K, value: V, times: int) -> None:
    """Add ``times`` to how often ``value`` stands at ``key``; what stands nowhere is no more."""
    values = counts.setdefault(key, {})
    values[value] = values.get(value, 0) + times
    if not values[value]:
        del values[value]
    if not values:
        del counts[key]


def _addresses(
    facts: Mapping[tuple[Claim, IPv4Address | None], int],
) -> tuple[IPv4Address, ...]:
    best = min(claim for claim, _ in facts)
    found = {address for claim, address in facts if claim == best and address is not None}
    return tuple(sorted(found))
