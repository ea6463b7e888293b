"""The kernel and the resolver of a simulated host, and where a packet of a container goes in them.

The product's own ``desired`` and ``plan`` of every reconciler; what they plan is done to values. A
kernel outlives the processes of its host, and a container's namespace is there while it runs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, TypeAlias

from netns_model import BRIDGE, Kernel

from meshnet.gwbridge import desired as gwbridge
from meshnet.kernel.nft import Desired, Namespace, NftChange, NftOperations
from meshnet.kernel.observer import Observer
from meshnet.model.ids import NetworkId, TaskId, mac_of
from meshnet.model.since import Since
from meshnet.model.snapshot import Snapshot
from meshnet.netstate import netns_plan
from meshnet.netstate import values as netstate
from meshnet.nft import ruleset_plan as nft
from meshnet.overlay import desired as overlay
from meshnet.overlay import operations as overlay_operations
from meshnet.reconcile import Operations
from meshnet_dns import operations as dns
from meshnet_dns import redirect
from meshnet_dns.state import change_of, changed, digest, zone_digest, zone_of, zone_sum
from meshnet_dns.zone import Zone
from meshnet_lb import rules

DIR: Final = Path("/run/netns")
_SLOTS: Final = re.compile(r"dnat to numgen inc mod (\d+) map @(\S+)")
_LISTED: Final = re.compile(r"dnat to numgen inc mod \d+ map \{ (.*) \}")
_ONE: Final = re.compile(r"dnat to ([0-9.]+):")
Table: TypeAlias = tuple[str | None, nft.TableKey]


@dataclass(frozen=True, slots=True)
class Way:
    """Where a connection to an address comes out."""

    address: IPv4Address
    vtep: IPv4Address | None
    """Of the host that the packet goes to; None: it stays on this one."""
    why: str = ""
    """It gets nowhere."""


class HostKernel:
    """One host's.

    Args:
        running: paths of the namespaces of the containers that run now.
    """

    def __init__(self, running: Callable[[], Iterable[str]] = tuple) -> None:
        self._running = running
        self.made: Counter[str] = Counter()
        """Changes that each reconciler made."""
        self.rounds: Counter[str] = Counter()
        """Rounds in which it changed something."""
        self.read: Counter[str] = Counter()
        """Namespaces that it read."""
        self.boot()

    def boot(self) -> None:
        """Nothing of before is there."""
        self.netns = Kernel(set())
        self.tables: dict[Table, nft.ObservedTable] = {}
        self.rules: dict[tuple[Table, str], tuple[str, ...]] = {}
        """(table, chain) -> its rules."""
        self.zones: dict[NetworkId, tuple[Zone, str]] = {}
        """With its digest."""
        self.sandboxes: dict[TaskId, dns.Told] = {}

    def operations(self, *, light: bool = False) -> list[Operations[Any, Any, Any]]:
        """As the reconcilers of a node have them, in their order.

        Args:
            light: nothing is planned: of a node that is there for the others' sake.
        """
        if light:
            return [_Nothing(self)]
        return [_Overlay(self), _Gwbridge(self), _Nft(self), _Resolver(self)]

    def look(self) -> None:
        """The engine makes and ends namespaces of containers."""
        there, running = self.containers(), set(self._running())
        for path in there - running:
            self.netns.end(path)
            for table in [each for each in self.tables if each[0] == path]:
                self.drop(table)
        for path in running - there:
            self.netns.begin(path)

    def containers(self) -> set[str]:
        """Namespaces of containers."""
        return {p for p in self.netns.netns if p is not None and p not in self.netns.made}

    def tables_in(self, path: str | None) -> dict[nft.TableKey, nft.ObservedTable]:
        """Of one namespace."""
        found = ((key, self.tables.get((path, key))) for key in nft.OURS)
        return {key: table for key, table in found if table is not None}

    def drop(self, table: Table) -> None:
        """A table goes with its namespace, or is deleted."""
        self.tables.pop(table, None)
        for key in [each for each in self.rules if each[0] == table]:
            del self.rules[key]

    # ---- where a packet goes ----

    def resolve(self, task: TaskId, name: str) -> tuple[IPv4Address, ...] | None:
        """What a container gets for a name; None: no name of ours."""
        told = self.sandboxes.get(task)
        for network in told.payload["networks"] if told is not None else ():
            zone = self.zone(network)
            found = zone.find(name) if zone is not None else None
            if found is not None:
                return tuple(at for at in found if isinstance(at, IPv4Address))
        return None

    def zone(self, network: NetworkId) -> Zone | None:
        """What the resolver knows of a network."""
        held = self.zones.get(network)
        return held[0] if held is not None else None

    def vips(self, path: str) -> dict[IPv4Address, frozenset[IPv4Address]]:
        """Each VIP in a container -> where its turns lead."""
        table: Table = (path, ("ip", "meshnet"))
        held = self.tables.get(table)
        said = held.sets["vips"].elements if held is not None and "vips" in held.sets else {}
        return {IPv4Address(vip): self._led(table, to) for vip, to in said.items()}

    def ports(self) -> dict[str, frozenset[IPv4Address]]:
        """Each published port of the host -> where its turns lead."""
        table: Table = (None, ("ip", "meshnet"))
        held = self.tables.get(table)
        said = held.sets["ports"].elements if held is not None and "ports" in held.sets else {}
        return {port: self._led(table, to) for port, to in said.items()}

    def way(self, snapshot_netns: str, address: IPv4Address) -> Way:
        """A packet that is in a network's namespace already."""
        state = self.netns.netns.get(snapshot_netns)
        if state is None:
            return Way(address, None, "there is no namespace of its network")
        mac = mac_of(address)
        for end in state.links:
            other = self.netns.peers.get((snapshot_netns, end))
            if other is not None and self.netns.netns[other[0]].links[other[1]].mac == mac:
                return Way(address, None)
        if (overlay.VXLAN, address, mac) not in state.neighbours:
            return Way(address, None, "no neighbour")
        vteps = {row[2] for row in state.fdb if row[:2] == (overlay.VXLAN, mac)}
        if None not in vteps:
            return Way(address, None, "no FDB row of the bridge")
        found = sorted(v for v in vteps if v is not None)
        return Way(address, found[0]) if found else Way(address, None, "no FDB row")

    def _led(self, table: Table, verdict: str) -> frozenset[IPv4Address]:
        found: set[str] = set()
        for rule in self.rules.get((table, verdict.removeprefix("goto ")), ()):
            if slots := _SLOTS.search(rule):
                elements = self.tables[table].sets[slots[2]].elements
                found |= {elements[str(slot)] for slot in range(int(slots[1]))}
            elif listed := _LISTED.search(rule):
                found |= {each.partition(" : ")[2] for each in listed[1].split(", ")}
            elif one := _ONE.search(rule):
                found.add(one[1])
        return frozenset(IPv4Address(each.partition(" . ")[0]) for each in found)

    # ---- what two kernels are compared by ----

    def picture(self) -> dict[str, Any]:
        """All of it as values, without what the order of events decides: indexes and slots."""
        found: dict[str, Any] = {}
        for path, state in self.netns.netns.items():
            where = path or "host"
            found[f"{where} links"] = {
                name: (link.kind, link.up, link.mtu, link.mac, link.vxlan)
                for name, link in state.links.items()
            }
            found[f"{where} masters"] = dict(state.masters)
            for part in ("addresses", "neighbours", "fdb", "routes", "rules"):
                found[f"{where} {part}"] = set(getattr(state, part))
        for (path, key), table in self.tables.items():
            where = f"{path or 'host'} {key[0]} {key[1]}"
            found[f"{where} chains"] = dict(table.chains)
            for name, held in table.sets.items():
                slots = held.type.startswith("integer")
                said = sorted(held.elements.values()) if slots else dict(held.elements)
                found[f"{where} {name}"] = said
        found |= {f"zone {network}": held for network, (held, _) in self.zones.items()}
        return found | {f"sandbox {task}": told.payload for task, told in self.sandboxes.items()}


class _Part:
    """One reconciler's operations on a host's kernel; counts what it is told to do."""

    name: str
    chooses = False

    def __init__(self, kernel: HostKernel) -> None:
        self._kernel = kernel

    def apply(self, changes: Sequence[Any]) -> None:
        self._kernel.made[self.name] += len(changes)
        self._kernel.rounds[self.name] += 1
        self._make(changes)

    def _make(self, changes: Sequence[Any]) -> None:
        self._kernel.netns.make(list(changes))

    def close(self) -> None:
        """Nothing is held."""


class _Nothing(_Part):
    name = "nothing"
    chooses = True

    def desired(self, _: Snapshot) -> None:
        """Whatever it is."""

    def observe(self, _: None, since: object = None) -> None:
        """It is there."""

    def plan(self, desired: None, observed: None, *, prune: bool) -> list[Any]:
        return []


class _Links(_Part):
    """One that reads and writes links; what is not to be read again is not."""

    def __init__(self, kernel: HostKernel) -> None:
        super().__init__(kernel)
        no_client: Any = None
        self._observer = Observer(no_client, self._read)

    def _make(self, changes: Sequence[Any]) -> None:
        self._observer.changed(changes)
        super()._make(changes)

    def _read(
        self, _: object, desired: netstate.Desired, made: frozenset[str]
    ) -> netstate.Observed:
        self._kernel.look()
        there = self._kernel.netns.netns
        self._kernel.read[self.name] += len(desired.specs)
        wanted = desired.specs.keys() | made
        return netstate.Observed({path: there[path] for path in wanted if path in there}, made)


class _Overlay(_Links):
    name = "overlay"

    def __init__(self, kernel: HostKernel) -> None:
        super().__init__(kernel)
        self._overlays = overlay.Overlays(DIR)

    def desired(self, snapshot: Snapshot) -> netstate.Desired:
        return self._overlays.of(snapshot)

    def observe(
        self, desired: netstate.Desired, since: Since[netstate.Desired] | None = None
    ) -> overlay_operations.Observed:
        self._kernel.look()
        made = self._kernel.netns.made
        return overlay_operations.Observed(self._observer.observe(desired, made, since))

    def plan(
        self, desired: netstate.Desired, observed: overlay_operations.Observed, *, prune: bool
    ) -> list[Any]:
        return list(overlay_operations.plan(desired, observed, prune=prune))


class _Gwbridge(_Links):
    name = "gwbridge"

    def __init__(self, kernel: HostKernel) -> None:
        super().__init__(kernel)
        self._before = netstate.Desired({})

    def desired(self, snapshot: Snapshot) -> netstate.Desired:
        self._before = netstate.kept(self._before, gwbridge.desired(snapshot))
        return self._before

    def observe(
        self, desired: netstate.Desired, since: Since[netstate.Desired] | None = None
    ) -> netstate.Observed:
        return self._observer.observe(desired, frozenset(), since)

    def plan(
        self, desired: netstate.Desired, observed: netstate.Observed, *, prune: bool
    ) -> list[Any]:
        return list(netns_plan.plan(desired, observed, prune=prune))


class _Nft(NftOperations):
    """Tables as nftables has them after a transaction; flows are no part of it."""

    def __init__(self, kernel: HostKernel) -> None:
        super().__init__([rules.rulesets, redirect.rulesets])
        self.close()  # the descriptors that it keeps for the real one
        self._kernel = kernel

    def observe(
        self, desired: Desired, since: Since[Desired] | None = None
    ) -> dict[str | None, Namespace]:
        self._kernel.look()
        there: dict[str | None, Namespace] = {}
        for path, wanted in desired.items():
            left = since is not None and since.is_left(path, since.realised.get(path), wanted)
            if path in self._kernel.netns.netns and not left:
                there[path] = Namespace((1, 1), self._kernel.tables_in(path))
        self._kernel.read[self.name] += len(there)
        return there

    def apply(self, changes: Sequence[NftChange]) -> None:
        self._kernel.made[self.name] += sum(
            len(table.commands) for each in changes for table in each.tables
        )
        self._kernel.rounds[self.name] += 1
        for each in changes:
            for change in each.tables:
                self._commit((each.netns, change.table), change)

    def _commit(self, table: Table, change: nft.TableChange) -> None:
        rules_of = self._kernel.rules
        own = f"{change.table[0]} {change.table[1]} "
        for command in change.commands:
            words = command.split(" ", 2)
            what = " ".join(words[:2])
            name, _, rest = words[2].removeprefix(own).partition(" ")
            if what == "delete table":
                self._kernel.drop(table)
            elif what in {"flush chain", "delete chain"}:
                rules_of.pop((table, name), None)
            elif what == "add rule":
                rules_of[table, name] = (*rules_of.get((table, name), ()), rest)
        if change.result is None:
            self._kernel.drop(table)
        else:
            self._kernel.tables[table] = change.result


class _Resolver(_Part):
    name = "resolver"
    chooses = True

    def __init__(self, kernel: HostKernel) -> None:
        super().__init__(kernel)
        self._desires = dns.Desires()

    def desired(self, snapshot: Snapshot) -> dns.Desired:
        return self._desires.of(snapshot)

    def observe(self, _: dns.Desired, since: object = None) -> dns.Observed:
        kernel = self._kernel
        return dns.Observed(
            {network: digest for network, (_, digest) in kernel.zones.items()},
            {task: told.digest for task, told in kernel.sandboxes.items()},
        )

    def plan(
        self, desired: dns.Desired, observed: dns.Observed, *, prune: bool
    ) -> list[dns.Change]:
        return dns.plan(desired, observed, prune=prune)

    def _make(self, changes: Sequence[dns.Change]) -> None:
        zones, sandboxes = self._kernel.zones, self._kernel.sandboxes
        for change in changes:
            network, task = NetworkId(change.id), TaskId(change.id)
            if change.op == "drop-zone":
                zones.pop(network, None)
            elif change.op == "drop-sandbox":
                sandboxes.pop(task, None)
            elif change.payload is None:
                raise AssertionError(change)
            elif change.op == "put-sandbox":
                sandboxes[task] = dns.Told(change.payload, digest(change.payload))
            else:
                whole = change.op == "put-zone"
                zone = zone_of(change.payload) if whole else self._changed(network, change)
                zones[network] = (zone, zone_digest(zone_sum(zone)))

    def _changed(self, network: NetworkId, change: dns.Change) -> Zone:
        known = change_of(change.payload or {})
        before, held = self._kernel.zones[network]
        assert known.before == held, "it is of another state of the zone"
        return changed(before, known)


__all__ = ["BRIDGE", "DIR", "HostKernel", "Way"]
