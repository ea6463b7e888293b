"""Published ports of a host and what each leads to, Snapshot after Snapshot: pure but for memory.

The model: services claim ports for the mesh, tasks of this node claim some for this host alone
(``mode=host``). Of several services that claim a port the one with the last id that has backends
has it; a port that no service answers is its task's, or closed.

Law: whatever came before, all of it is what it is of the last call alone. A backend costs the ports
of its service and no others; what did not change is the same object.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from meshnet.model.families import Address
from meshnet.model.ids import ServiceId
from meshnet.model.shared_map import difference
from meshnet.model.snapshot import Port, Service
from meshnet.nft.objects import Chain, Set
from meshnet_lb.choice import Choice
from meshnet_lb.service import TO_REFUSE, round_robin

_OfServices = Mapping[ServiceId, tuple[Address, ...]]


class Backends(NamedTuple):
    """Who is on the ingress network.

    Attributes:
        ready: what each service is led to, ascending.
        doubted: its backends on silent hosts, ascending: flows may have been led there before.
        there: addresses of all endpoints that may still answer.
    """

    ready: _OfServices
    doubted: _OfServices
    there: frozenset[str]


class Rule(NamedTuple):
    """What translates connections to one port."""

    chain: Chain
    to: frozenset[str]
    """Where a flow to it may have been led to."""


class Terms(NamedTuple):
    """What decides of all ports.

    Attributes:
        connected: this host has its foot in the ingress network.
        complete: there can be no backends that are not known yet.
        taken: ports that processes of this host wait at.
    """

    connected: bool = False
    complete: bool = False
    taken: Collection[Port] = frozenset()


class PublishedPorts:
    """What leads to each port.

    Attributes:
        ports: the verdict of each port.
        led_to: every address that a port of the mesh leads to.
    """

    def __init__(self) -> None:
        self.ports = Set("ports", "inet_proto . inet_service : verdict")
        self.led_to: frozenset[str] = frozenset()
        self._services: Mapping[ServiceId, Service] = {}
        self._ready: _OfServices = {}
        self._doubted: _OfServices = {}
        self._choices: Mapping[ServiceId, Choice] = {}
        self._host: Mapping[Port, Rule] = {}
        self._terms = Terms()
        self._claims: dict[Port, dict[ServiceId, int]] = {}
        """Port -> who claims it in the mesh, and with which port of its tasks."""
        self._rules: dict[Port, Rule] = {}
        self._order: list[Port] = []
        """Of the rules."""
        self._texts: dict[ServiceId, frozenset[str]] = {}
        """Backends of each service that claims a port, as nft writes them."""
        self._times: Counter[str] = Counter()
        """How many services have an address."""

    def follow(
        self,
        services: Mapping[ServiceId, Service],
        backends: Backends,
        host: Mapping[Port, Rule],
        terms: Terms,
        choices: Mapping[ServiceId, Choice] = MappingProxyType({}),
    ) -> None:
        """Bring everything up to date.

        Args:
            services: those with published ports.
            backends: who is on the ingress network.
            host: what leads to ports that tasks of this node claim here.
            terms: of this moment.
            choices: how backends are chosen, of services that do not take strict turns.
        """
        others = set(difference(self._ready, backends.ready))
        others |= set(difference(self._doubted, backends.doubted))
        others |= set(difference(self._choices, choices))
        stale = set(difference(self._services, services)) | others & services.keys()
        self._ready, self._doubted, self._choices = backends.ready, backends.doubted, choices
        ports = set(difference(self._host, host))
        for service in stale:
            ports |= self._claim(service, self._services.get(service), services.get(service))
        self._lead(stale, services)
        if terms != self._terms:
            ports |= self._claims.keys() | host.keys()
        self._services, self._host, self._terms = services, host, terms
        self._settle(ports)

    def chains(self) -> tuple[Chain, ...]:
        """The chain of each port that somebody answers, in order of ports."""
        return tuple([self._rules[port].chain for port in self._order])

    def sets(self) -> tuple[Set, ...]:
        """What the chains look into, in order of services."""
        if not self._terms.connected:
            return ()
        ids = sorted(id_ for id_ in self._choices if _claimed(self._services.get(id_)))
        return tuple([set_ for id_ in ids for set_ in self._choices[id_].sets])

    def _claim(self, id_: ServiceId, was: Service | None, now: Service | None) -> set[Port]:
        """Which ports a service claims or claimed."""
        had, has = _claimed(was), _claimed(now)
        for port in had.keys() - has.keys():
            del self._claims[port][id_]
            if not self._claims[port]:
                del self._claims[port]
        for port, target in has.items():
            self._claims.setdefault(port, {})[id_] = target
        return had.keys() | has.keys()

    def _lead(self, stale: Iterable[ServiceId], services: Mapping[ServiceId, Service]) -> None:
        """Follow where the ports of these services lead."""
        came: set[str] = set()
        left: set[str] = set()
        for service in stale:
            claims = bool(_claimed(services.get(service)))
            texts = frozenset(map(str, self._ready.get(service, ()))) if claims else frozenset()
            had = self._texts.pop(service, frozenset())
            if texts:
                self._texts[service] = texts
            for address in texts - had:
                self._times[address] += 1
                came.add(address)
            for address in had - texts:
                self._times[address] -= 1
                if not self._times[address]:
                    del self._times[address]
                    left.add(address)
        if came or left:
            self.led_to = (self.led_to - left) | came

    def _settle(self, ports: Iterable[Port]) -> None:
        elements, leads = dict(self.ports.elements), dict(self.ports.leads)
        for port in ports:
            key, rule = f"{port[0]} . {port[1]}", self._rule(port)
            self._keep(port, rule)
            elements.pop(key, None)
            leads.pop(key, None)
            if rule is not None:
                elements[key] = f"goto {rule.chain.name}"
            elif self._terms.complete and port in self._claims and port not in self._terms.taken:
                elements[key] = TO_REFUSE
            if port[0] == "udp" and key in elements:
                leads[key] = rule.to if rule is not None else frozenset()
        if elements != self.ports.elements or leads != self.ports.leads:
            self.ports = Set(self.ports.name, self.ports.type, elements, leads=leads)

    def _keep(self, port: Port, rule: Rule | None) -> None:
        if rule is None:
            if self._rules.pop(port, None) is not None:
                del self._order[bisect_left(self._order, port)]
            return
        if port not in self._rules:
            insort(self._order, port)
        if self._rules.get(port) != rule:
            self._rules[port] = rule

    def _rule(self, port: Port) -> Rule | None:
        """What leads to a port; None: nobody answers it."""
        if port in self._terms.taken:
            return None
        if self._terms.connected:
            for service, target in sorted(self._claims.get(port, {}).items(), reverse=True):
                backends, choice = self._ready.get(service, ()), self._choices.get(service)
                if not backends:
                    continue
                led = self._texts[service].union(map(str, self._doubted.get(service, ())))
                if choice is not None:
                    return rule(port, choice.to_port(port[0], target), led)
                to = round_robin([f"{address} . {target}" for address in backends])
                return rule(port, (f"meta l4proto {port[0]} {to}",), led)
        return self._host.get(port)


def rule(port: Port, texts: tuple[str, ...], to: frozenset[str]) -> Rule:
    """One that translates connections to a port, by these texts of nft."""
    return Rule(Chain(f"port-{port[0]}-{port[1]}", texts), to)


def _claimed(service: Service | None) -> Mapping[Port, int]:
    """Ports that a service publishes in the mesh -> those of its tasks; the last one holds."""
    if service is None:
        return {}
    return {(p.protocol, p.published): p.target for p in service.ports if p.mode == "ingress"}
