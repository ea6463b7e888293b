"""The zones of some networks, Snapshot after Snapshot: pure but for its own memory.

Law: whatever came before, the zones of a Snapshot are those of ``meshnet_dns.zone.zones``. One
endpoint costs its own names and its service's; what changed is told besides, so that the resolver
is told that and no more.

The model: whoever may be found under a name is a fact (name, claim, address, ports, doubted). Facts
of an endpoint follow from it, its service and what is known of its node; those of a service from it
alone. A name has the addresses, and the ports, of its best claim, the doubted addresses only if
there are no others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from meshnet.model.differences import touched
from meshnet.model.families import Address, order
from meshnet.model.ids import NetworkId, ServiceId, TaskId
from meshnet.model.shared_map import SharedMap, difference, shared
from meshnet.model.snapshot import Endpoint, Service, Snapshot
from meshnet_dns.state import ZoneChange, ZoneKeys, sum_of, zone_digest, zone_sum
from meshnet_dns.zone import (
    TASKS,
    Claim,
    ServedPort,
    Zone,
    addresses_of,
    endpoint_records,
    fits,
    served_ports,
    stored,
    vips_of,
)

K = TypeVar("K")
V = TypeVar("V")


class _Fact(NamedTuple):
    network: NetworkId
    name: str
    claim: Claim
    address: Address | None
    """None: the name is ours, and this alone gives it no address."""
    service: str = ""
    """Whose name it is; empty: an endpoint's own."""
    ports: tuple[ServedPort, ...] = ()
    doubted: bool = False


class _Pointer(NamedTuple):
    network: NetworkId
    address: Address
    name: str


class _Near(NamedTuple):
    network: NetworkId
    address: Address
    """Of an endpoint on this node."""


_Any = _Fact | _Pointer | _Near
_Facts = Iterator[_Any]
_Said = tuple[Claim, Address | None, str, tuple[ServedPort, ...], bool]


@dataclass
class _Kept:
    """One network."""

    zone: Zone
    sum: int
    names: dict[str, dict[_Said, int]] = field(default_factory=dict)
    pointers: dict[Address, dict[str, int]] = field(default_factory=dict)
    near: dict[Address, dict[NetworkId, int]] = field(default_factory=dict)
    contested: SharedMap[str, tuple[str, ...]] = field(default_factory=SharedMap)


@dataclass(frozen=True, slots=True)
class Known:
    """A zone, and how it came from the one before it."""

    zone: Zone
    digest: str
    change: ZoneChange | None = None
    """None: it is new."""
    contested: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name -> the services, more than one, that have it."""


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
                zone = Zone(
                    network=told.name.lower(),
                    subnet=told.subnet,
                    names=SharedMap(),
                    pointers=SharedMap(),
                    ports=SharedMap(),
                    near=SharedMap(),
                    more=told.further,
                )
                self._kept[network] = _Kept(zone, zone_sum(zone))
            self._change(new, _facts(snapshot, snapshot.endpoints, snapshot.services, new), {})
            self._known |= {
                network: Known(kept.zone, zone_digest(kept.sum), None, kept.contested)
                for network, kept in self._kept.items()
                if network in new
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
        fresh: Iterable[_Any],
        stale: Mapping[_Any, int],
    ) -> None:
        names: dict[NetworkId, set[str]] = {network: set() for network in networks}
        pointers: dict[NetworkId, set[Address]] = {network: set() for network in networks}
        near: dict[NetworkId, set[Address]] = {network: set() for network in networks}
        counts = [(fact, 1) for fact in fresh] + [(fact, -times) for fact, times in stale.items()]
        for fact, times in counts:
            kept = self._kept[fact.network]
            if isinstance(fact, _Pointer):
                _count(kept.pointers, fact.address, fact.name, times)
                pointers[fact.network].add(fact.address)
            elif isinstance(fact, _Near):
                _count(kept.near, fact.address, fact.network, times)
                near[fact.network].add(fact.address)
            else:
                said = fact.claim, fact.address, fact.service, fact.ports, fact.doubted
                _count(kept.names, fact.name, said, times)
                names[fact.network].add(fact.name)
        for network in networks:
            if names[network] or pointers[network] or near[network]:
                self._settle(network, names[network], pointers[network], near[network])

    def _settle(
        self,
        network: NetworkId,
        names: Set[str],
        pointers: Set[Address],
        near: Set[Address],
    ) -> None:
        """Make the zone anew, of the names and addresses whose facts changed."""
        kept = self._kept[network]
        before, digest, contested = kept.zone, zone_digest(kept.sum), kept.contested
        facts = {name: kept.names[name] for name in names if name in kept.names}
        said = {at: min(kept.pointers[at]) for at in pointers if at in kept.pointers}
        here = {at: True for at in near if at in kept.near}
        kept.contested = _with(contested, names, _rivals(facts))
        now = replace(
            before,
            names=_with(before.names, names, {n: _addresses(of) for n, of in facts.items()}),
            pointers=_with(before.pointers, pointers, {a: n for a, n in said.items() if fits(n)}),
            ports=_with(before.ports, names, _ports(facts)),
            near=_with(before.near, near, here),
        )
        keys = ZoneKeys(
            difference(before.names, now.names),
            difference(before.pointers, now.pointers),
            difference(before.ports, now.ports),
            difference(before.near, now.near),
        )
        if not any(keys):
            if kept.contested != contested:
                self._known[network] = replace(self._known[network], contested=kept.contested)
            return
        change = ZoneChange(
            digest,
            {name: now.names.get(name) for name in keys.names},
            {address: now.pointers.get(address) for address in keys.pointers},
            {name: now.ports.get(name) for name in keys.ports},
            {address: address in now.near for address in keys.near},
        )
        kept.sum += sum_of(now, keys) - sum_of(before, keys)
        kept.zone = now
        self._known[network] = Known(now, zone_digest(kept.sum), change, kept.contested)


def _concerned(before: Snapshot, now: Snapshot) -> tuple[set[TaskId], set[ServiceId]]:
    """Endpoints and services whose facts may be others now."""
    services = {
        service
        for service in difference(before.services, now.services)
        if _named(before.services.get(service)) != _named(now.services.get(service))
    }
    tasks = touched(before, now, lambda node: (node.live, node.doubted))
    if services:  # a service is renamed seldom: no index of its endpoints is kept up for that
        tasks |= {task for task, each in now.endpoints.items() if each.service in services}
    return tasks, services


def _named(service: Service | None) -> object:
    if service is None:
        return None
    vips = service.vips, service.vips6
    return service.name, service.mode, *vips, service.aliases, served_ports(service)


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
    vips = vips_of(service, network)
    aliases = service.aliases.get(network, ())
    if not vips and aliases:
        yield from _of_names(service, network, None, None)
    for vip in vips:
        yield from _of_names(service, network, vip, None)
        yield _Pointer(network, vip, f"{service.name}.{snapshot.networks[network].name}")


def _of_endpoint(snapshot: Snapshot, endpoint: Endpoint, network: NetworkId) -> _Facts:
    service = snapshot.services.get(endpoint.service) if endpoint.service is not None else None
    doubted = snapshot.doubts(endpoint)
    addresses = addresses_of(endpoint, network)
    if service is not None:
        balanced = bool(vips_of(service, network))
        for at in addresses:
            ready = at if endpoint.ready else None
            own = None if balanced else ready
            yield from _of_names(service, network, own, ready, doubted=doubted)
    for given, claim, of in endpoint_records(endpoint, network):
        if name := stored(given):
            for at in of:
                yield _Fact(network, name, claim, at, doubted=doubted)
    for at in addresses:
        yield _Pointer(network, at, f"{endpoint.name}.{snapshot.networks[network].name}")
        if endpoint.node == snapshot.self_id:
            yield _Near(network, at)


def _of_names(
    service: Service,
    network: NetworkId,
    own: Address | None,
    ready: Address | None,
    *,
    doubted: bool = False,
) -> _Facts:
    """The names of a service, with what one VIP or endpoint gives to them."""
    ports = served_ports(service)
    every = [(service.name, Claim.SERVICE)]
    every += [(alias, Claim.SERVICE_ALIAS) for alias in service.aliases.get(network, ())]
    for given, claim in every:
        if name := stored(given):
            yield _Fact(network, name, claim, own, service.name, ports, doubted)
        if name := stored(TASKS + given):
            yield _Fact(network, name, claim, ready, service.name, doubted=doubted)


def _count(counts: dict[K, dict[V, int]], key: K, value: V, times: int) -> None:
    """Add ``times`` to how often ``value`` stands at ``key``; what stands nowhere is no more."""
    values = counts.setdefault(key, {})
    values[value] = values.get(value, 0) + times
    if not values[value]:
        del values[value]
    if not values:
        del counts[key]


def _with(of: Mapping[K, V], keys: Set[K], now: Mapping[K, V]) -> SharedMap[K, V]:
    """``of`` with what is ``now`` at these keys."""
    return shared(of).changed(now, keys - now.keys())


def _addresses(facts: Iterable[_Said]) -> tuple[Address, ...]:
    best = min(claim for claim, *_ in facts)
    found = {
        (address, doubted)
        for claim, address, *_, doubted in facts
        if claim == best and address is not None
    }
    sure = [address for address, doubted in found if not doubted]
    return tuple(sorted(sure or (address for address, _ in found), key=order))


def _ports(names: Mapping[str, Iterable[_Said]]) -> dict[str, tuple[ServedPort, ...]]:
    """Name of a service -> ports of those that have it."""
    found: dict[str, tuple[ServedPort, ...]] = {}
    for name, facts in names.items():
        best = min(claim for claim, *_ in facts)
        served = {port for claim, _, _, ports, _ in facts if claim == best for port in ports}
        if served and not name.startswith(TASKS):
            found[name] = tuple(sorted(served))
    return found


def _rivals(names: Mapping[str, Iterable[_Said]]) -> dict[str, tuple[str, ...]]:
    """Names that more than one service has -> those."""
    found: dict[str, tuple[str, ...]] = {}
    for name, facts in names.items():
        services = {service for _, _, service, *_ in facts if service}
        if len(services) > 1 and not name.startswith(TASKS):
            found[name] = tuple(sorted(services))
    return found
