"""All nftables tables of the load balancer on this node, from one Snapshot: pure.

The model: one or two tables in the host's network namespace (``meshnet_lb.ingress``), one to three
in that of each container (``meshnet_lb.sandbox``). What containers on one network have in common is
computed once and shared.

Be aware: a mapping names every namespace that should hold something. Conntrack entries are not
rules: ``Ruleset.backends``, ``Ruleset.there`` and ``Set.leads`` say which may stay; whoever applies
them forgets the others (``meshnet.nft.flows``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from operator import is_
from typing import Final

from meshnet.model.families import Address
from meshnet.model.ids import NetworkId, ServiceId, TaskId
from meshnet.model.snapshot import Service, Snapshot
from meshnet.nft.objects import Ruleset
from meshnet_lb import ingress, sandbox
from meshnet_lb.choice import Choice
from meshnet_lb.chosen import Chosen
from meshnet_lb.dialect import IPV4, IPV6, Dialect
from meshnet_lb.published import Backends
from meshnet_lb.sandbox import Balancing, Gateways
from meshnet_lb.service import NetworkVips

_NOTHING: Final = NetworkVips()
_NO_BACKENDS: Final[Mapping[ServiceId, tuple[Address, ...]]] = {}
_NO_SERVICES: Final[Mapping[ServiceId, Service]] = {}
_NO_CHOICES: Final[Mapping[ServiceId, Choice]] = {}
_NOBODY: Final = frozenset[str]()
_FOLLOWED: Final = frozenset({"revision", "services", "endpoints", "epochs", "esp_keys"})
"""Parts of a Snapshot that ``Chosen`` tells the changes of, or that no table shows."""
_HOST_PARTS: Final = [each.name for each in fields(Snapshot) if each.name not in _FOLLOWED]

_Inputs = tuple[object, ...]
_Networks = tuple[Dialect, tuple[NetworkId, ...]]


def rulesets(snapshot: Snapshot) -> Mapping[str | None, tuple[Ruleset, ...]]:
    """What each namespace's tables should hold, of a Snapshot alone (``Rules.rulesets``)."""
    return Rules().rulesets(snapshot)


class Rules:
    """The tables, Snapshot after Snapshot: those whose inputs are the same are the same objects.

    Law: whatever came before, the tables of a Snapshot are those that it has as the first one.
    """

    def __init__(self) -> None:
        self._chosen = Chosen()
        self._second = Chosen(IPV6)
        self._balancing: dict[_Networks, tuple[_Inputs, Balancing]] = {}
        self._sandboxes: dict[TaskId, tuple[_Inputs, tuple[Ruleset, ...]]] = {}
        self._hosts: dict[Dialect, tuple[_Inputs, Ruleset]] = {}
        self._host: tuple[Ruleset, ...] = ()
        self._tables = {each: ingress.HostTable(each) for each in (IPV4, IPV6)}
        self._gateways: tuple[object, Gateways] = (None, Gateways())

    def rulesets(self, snapshot: Snapshot) -> Mapping[str | None, tuple[Ruleset, ...]]:
        """What each namespace's tables should hold.

        Returns:
            Path of a network namespace -> its rulesets; None is the host's own namespace, which has
            none while this node has no network and no docker_gwbridge (it is in no cluster).
        """
        self._chosen.follow(snapshot)
        self._second.follow(snapshot)
        if self._gateways[0] is not snapshot.nodes:
            had, now = self._gateways[1], sandbox.gateways(snapshot)
            self._gateways = (snapshot.nodes, had if had == now else now)
        found: dict[str | None, tuple[Ruleset, ...]] = {}
        if snapshot.networks or snapshot.gwbridge is not None:
            found[None] = self._of_host(snapshot)
        before, self._sandboxes = self._sandboxes, {}
        common, self._balancing = self._balancing, {}
        for task in sorted(snapshot.sandboxes):
            wired = snapshot.sandboxes[task]
            balancing = self._of_networks(IPV4, wired.networks, common)
            dual = wired.networks6
            second = self._of_networks(IPV6, dual, common) if dual else None
            shared = (snapshot.ingress, self._gateways[1])
            inputs = (wired, balancing, second, *shared)
            left = before.get(task)
            made = left[1] if left is not None and _same(left[0], inputs) else None
            if made is None:
                made = sandbox.rulesets(wired, balancing, *shared, second)
            self._sandboxes[task] = (inputs, made)
            found[wired.netns] = made
        return found

    def _of_host(self, snapshot: Snapshot) -> tuple[Ruleset, ...]:
        mesh = snapshot.ingress
        made = [self._of_host_in(IPV4, self._chosen, snapshot)]
        if mesh is not None and mesh.subnets6:
            made.append(self._of_host_in(IPV6, self._second, snapshot))
        elif IPV6 in self._hosts:
            del self._hosts[IPV6]
            self._tables[IPV6] = ingress.HostTable(IPV6)
        if not _same(self._host, tuple(made)):
            self._host = tuple(made)
        return self._host

    def _of_host_in(self, dialect: Dialect, chosen: Chosen, snapshot: Snapshot) -> Ruleset:
        mesh = snapshot.ingress
        on_mesh = chosen.ready.get(mesh.id, _NO_BACKENDS) if mesh is not None else _NO_BACKENDS
        doubted = chosen.doubted.get(mesh.id, _NO_BACKENDS) if mesh is not None else _NO_BACKENDS
        there = chosen.there.get(mesh.id, _NOBODY) if mesh is not None else _NOBODY
        choices = chosen.choices.get(mesh.id, _NO_CHOICES) if mesh is not None else _NO_CHOICES
        inputs = (
            chosen.published,
            on_mesh,
            doubted,
            choices,
            there,
            *(getattr(snapshot, name) for name in _HOST_PARTS),
        )
        had = self._hosts.get(dialect)
        if had is None or not all(map(_alike, had[0], inputs)):
            services = chosen.published if mesh is not None else _NO_SERVICES
            backends = Backends(on_mesh, doubted, there)
            made = self._tables[dialect].ruleset(snapshot, services, backends, choices)
            had = self._hosts[dialect] = (inputs, made)
        return had[1]

    def _of_networks(
        self,
        dialect: Dialect,
        on: Sequence[tuple[NetworkId, object]],
        before: Mapping[_Networks, tuple[_Inputs, Balancing]],
    ) -> Balancing:
        networks = tuple(network for network, _ in on)
        key = (dialect, networks)
        chosen = self._chosen if dialect is IPV4 else self._second
        if key not in self._balancing:
            vips = [chosen.vips.get(network, _NOTHING) for network in networks]
            there = [chosen.there.get(network, _NOBODY) for network in networks]
            avoided = [chosen.avoided.get(network, _NOBODY) for network in networks]
            inputs = (*vips, *there, *avoided)
            had = before.get(key)
            if had is None or not _same(had[0], inputs):
                had = (inputs, sandbox.balancing(vips, there, avoided, dialect))
            self._balancing[key] = had
        return self._balancing[key][1]


def _same(one: _Inputs, other: _Inputs) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))


def _alike(one: object, other: object) -> bool:
    """The same; of numbers and the like an equal one will do."""
    return one is other or (not isinstance(other, Mapping | frozenset) and one == other)
