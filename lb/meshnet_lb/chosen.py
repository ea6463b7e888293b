"""What is chosen on each network, Snapshot after Snapshot: pure but for its own memory.

Law: whatever came before, what is kept of a Snapshot is what it is of the first one. What did not
change is the same object, so that tables are made anew only where something changed: an endpoint
costs its service and its networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from typing import TypeVar

from meshnet.model.differences import touched
from meshnet.model.families import Address
from meshnet.model.ids import NetworkId, ServiceId, TaskId
from meshnet.model.shared_map import difference
from meshnet.model.snapshot import Node, Service, Snapshot
from meshnet_lb.choice import Choice
from meshnet_lb.dialect import IPV4, Dialect
from meshnet_lb.places import Places
from meshnet_lb.policies import choose
from meshnet_lb.service import NetworkVips, Vip, network_vips, vip_of

_Chosen = tuple[NetworkId, ServiceId, Address]
_Addresses = tuple[Address, ...]
_OfServices = Mapping[ServiceId, _Addresses]
_Some = TypeVar("_Some", _OfServices, frozenset[str])


class Chosen:
    """Backends, virtual IPs and who is there, by network; of one family.

    Attributes:
        ready: network -> service -> its live, ready backends, ascending; those on doubted nodes
            only where it has no others.
        doubted: network -> service -> its live, ready backends on doubted nodes, ascending.
        avoided: network -> addresses of all in ``doubted``.
        there: network -> addresses of all endpoints on it that may still answer, ready or not.
        vips: network -> its virtual IPs; the ingress network has none.
        published: services with published ports, by id.
        choices: network -> service -> how its backends are chosen, where not strictly in turn.
    """

    def __init__(self, dialect: Dialect = IPV4) -> None:
        self._dialect = dialect
        self.ready: dict[NetworkId, _OfServices] = {}
        self.doubted: dict[NetworkId, _OfServices] = {}
        self.avoided: dict[NetworkId, frozenset[str]] = {}
        self.there: dict[NetworkId, frozenset[str]] = {}
        self.vips: dict[NetworkId, NetworkVips] = {}
        self.published: Mapping[ServiceId, Service] = {}
        self.choices: dict[NetworkId, Mapping[ServiceId, Choice]] = {}
        self._sure: dict[NetworkId, _OfServices] = {}
        """Those that are not doubted."""
        self._places = Places(dialect)
        self._before: Snapshot | None = None
        self._parts: dict[NetworkId, dict[ServiceId, Vip]] = {}
        """What each VIP is; of the ingress network, too."""

    def follow(self, snapshot: Snapshot) -> None:
        """Bring everything up to date."""
        before = self._before or replace(
            snapshot, endpoints={}, services={}, nodes={}, networks={}, complete=False
        )
        self._before = snapshot
        tasks = touched(before, snapshot, _facet)
        stale = self._follow_backends((before, snapshot), tasks)
        stale |= self._places.follow(before, snapshot, tasks)
        self._follow_there(self._there(before, tasks), self._there(snapshot, tasks))
        services = difference(before.services, snapshot.services)
        for service in services:
            stale |= {(net, service) for net in self._networks(before, service)}
            stale |= {(net, service) for net in self._networks(snapshot, service)}
        ports = [
            service
            for service in services
            if _has_ports(before.services.get(service))
            or _has_ports(snapshot.services.get(service))
        ]
        if ports:
            some = ((service, snapshot.services.get(service)) for service in ports)
            fresh = {service: found for service, found in some if found and found.ports}
            kept = {s: found for s, found in self.published.items() if s not in ports}
            self.published = kept | fresh
        if before.complete != snapshot.complete:
            stale |= {
                (net, service.id)
                for service in snapshot.services.values()
                for net in self._vips(service)
            }
        self._follow_choices(snapshot, stale)
        self._follow_vips(snapshot, stale)
        if before.ingress != snapshot.ingress:
            for network in snapshot.ingress, before.ingress:
                if network is not None:
                    self._make(snapshot, network.id)

    def _follow_backends(
        self, snapshots: Sequence[Snapshot], tasks: Set[TaskId]
    ) -> set[tuple[NetworkId, ServiceId]]:
        was, now = (self._ready(snapshot, tasks, doubted=False) for snapshot in snapshots)
        sure = _follow(self._sure, was, now)
        was, now = (self._ready(snapshot, tasks, doubted=True) for snapshot in snapshots)
        doubted = _follow(self.doubted, was, now)
        for network in {network for network, _ in doubted}:
            addresses = self.doubted.get(network, {}).values()
            _put(self.avoided, network, frozenset(str(each) for some in addresses for each in some))
        for network in {network for network, _ in sure | doubted}:
            some, others = self._sure.get(network, {}), self.doubted.get(network, {})
            _put(self.ready, network, {**others, **some} if others else some)
        return sure | doubted

    def _follow_there(
        self, was: Set[tuple[NetworkId, str]], now: Set[tuple[NetworkId, str]]
    ) -> None:
        changes: dict[NetworkId, tuple[set[str], set[str]]] = {}
        for side, facts in enumerate((was - now, now - was)):
            for network, address in facts:
                changes.setdefault(network, (set(), set()))[side].add(address)
        for network, (out, into) in changes.items():
            there = (self.there.get(network, frozenset()) - out) | into
            if there:
                self.there[network] = there
            else:
                self.there.pop(network, None)

    def _follow_choices(self, snapshot: Snapshot, stale: Set[tuple[NetworkId, ServiceId]]) -> None:
        for network, id_ in stale:
            had = self.choices.get(network, {})
            service, ready = snapshot.services.get(id_), self.ready.get(network, {}).get(id_, ())
            choice = None
            if service is not None and ready and network in self._networks(snapshot, id_):
                where = partial(self._node, snapshot, network)
                choice = choose(
                    service, network, ready, where, snapshot.self_id, had.get(id_), self._dialect
                )
            if had.get(id_) == choice:
                continue
            now = {service: each for service, each in had.items() if service != id_}
            if choice is not None:
                now[id_] = choice
            if now:
                self.choices[network] = now
            else:
                del self.choices[network]

    def _node(self, snapshot: Snapshot, network: NetworkId, address: Address) -> Node | None:
        node = self._places.node(network, address)
        return snapshot.nodes.get(node) if node is not None else None

    def _follow_vips(self, snapshot: Snapshot, stale: Set[tuple[NetworkId, ServiceId]]) -> None:
        for network, id_ in stale:
            parts = self._parts.setdefault(network, {})
            service = snapshot.services.get(id_)
            addresses = self.ready.get(network, {}).get(id_, ())
            part = None
            if service is not None and network in self._vips(service):
                choice = self.choices.get(network, {}).get(id_)
                doubted = self.doubted.get(network, {}).get(id_, ())
                part = vip_of(
                    service,
                    network,
                    addresses,
                    choice,
                    doubted,
                    complete=snapshot.complete,
                    dialect=self._dialect,
                )
            if part is not None:
                parts[id_] = part
            else:
                parts.pop(id_, None)
        for network in {network for network, _ in stale}:
            self._make(snapshot, network)
            if not self._parts[network]:
                del self._parts[network]

    def _make(self, snapshot: Snapshot, network: NetworkId) -> None:
        parts = self._parts.get(network, {})
        ingress = snapshot.ingress
        if parts and (ingress is None or network != ingress.id):
            self.vips[network] = network_vips(parts.values())
        else:
            self.vips.pop(network, None)

    def _ready(self, snapshot: Snapshot, tasks: Iterable[TaskId], *, doubted: bool) -> set[_Chosen]:
        found: set[_Chosen] = set()
        for task in tasks:
            endpoint = snapshot.endpoints.get(task)
            if endpoint is None or endpoint.service is None or not snapshot.chooses(endpoint):
                continue
            if snapshot.doubts(endpoint) is not doubted:
                continue
            addresses = self._dialect.addresses(endpoint)
            found |= {(net, endpoint.service, address) for net, address in addresses.items()}
        return found

    def _there(self, snapshot: Snapshot, tasks: Iterable[TaskId]) -> set[tuple[NetworkId, str]]:
        """Those of nodes that the managers do not call down.

        That a host is silent says too little to break its connections; the managers' word is
        enough.
        """
        found: set[tuple[NetworkId, str]] = set()
        for task in tasks:
            endpoint = snapshot.endpoints.get(task)
            if endpoint is None:
                continue
            node = snapshot.nodes.get(endpoint.node)
            if node is None or not node.down:
                addresses = self._dialect.addresses(endpoint)
                found |= {(net, str(address)) for net, address in addresses.items()}
        return found

    def _vips(self, service: Service | None) -> Mapping[NetworkId, Address]:
        if service is None or service.mode != "vip":
            return {}
        return self._dialect.vips(service)

    def _networks(self, snapshot: Snapshot, id_: ServiceId) -> Set[NetworkId]:
        """Where a service has a virtual IP or is published."""
        service, ingress = snapshot.services.get(id_), snapshot.ingress
        published = {ingress.id} if ingress is not None and _has_ports(service) else set()
        return self._vips(service).keys() | published


def _facet(node: Node) -> object:
    return node.live, node.doubted, node.down, node.hostname, node.weight


def _follow(
    kept: dict[NetworkId, _OfServices], was: Set[_Chosen], now: Set[_Chosen]
) -> set[tuple[NetworkId, ServiceId]]:
    """Bring backends up to date; of which services on which networks they are others."""
    changes: dict[tuple[NetworkId, ServiceId], tuple[set[Address], set[Address]]] = {}
    for side, facts in enumerate((was - now, now - was)):
        for network, service, address in facts:
            changes.setdefault((network, service), (set(), set()))[side].add(address)
    fresh: dict[NetworkId, dict[ServiceId, _Addresses]] = {}
    for (network, service), (out, into) in changes.items():
        if network not in fresh:
            fresh[network] = dict(kept.get(network, {}))
        had = fresh[network].pop(service, ())
        left = [address for address in had if address not in out]
        if left or into:
            fresh[network][service] = tuple(sorted([*left, *into], key=int))
    for network, services in fresh.items():
        _put(kept, network, services)
    return set(changes)


def _put(kept: dict[NetworkId, _Some], network: NetworkId, some: _Some) -> None:
    """Keep what there is; the network itself may be gone."""
    if some:
        kept[network] = some
    else:
        kept.pop(network, None)


def _has_ports(service: Service | None) -> bool:
    return service is not None and bool(service.ports)
