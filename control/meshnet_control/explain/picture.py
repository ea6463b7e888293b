"""What should be on a way beside what is there, in one form, and a step of both. Pure.

The model: a ``NetnsSpec`` (desired) and a ``NetnsState`` (observed) have rows of the same types
under the same names, and a ``Ruleset`` and an ``ObservedTable`` have elements of the same texts; so
one question is asked of both, and where the answers differ the step is marked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from meshnet.model.families import FAMILIES, Address, Family, order
from meshnet.model.ids import MacAddress, NetworkId, mac_of
from meshnet.model.snapshot import Snapshot
from meshnet.netstate.changes import Netns
from meshnet.netstate.objects import MAIN_TABLE
from meshnet.netstate.values import FdbRow, NeighbourOn, NetnsSpec, NetnsState, RouteSpec, Veth
from meshnet.nft.objects import Ruleset, Set
from meshnet.nft.ruleset_plan import ObservedTable, TableKey, as_observed
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.explain import firewalls

NOTHING = "nothing"
OVERLAY, LB, GWBRIDGE = "overlay", "lb", "gwbridge"
"""Reconcilers, as ``meshnet status`` names them."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One host at one moment.

    Attributes:
        snapshot: what the cluster should look like.
        specs: what should be in each namespace.
        veths: the pairs between them.
        rulesets: what each namespace's tables should hold.
        states: what is in each namespace; one that is not there is missing.
        tables: our tables in each.
        listening: of containers' namespaces: pairs of protocol and port.
        foreign: tables of others in the host's (libnftables-json(5)).
    """

    snapshot: Snapshot
    specs: Mapping[Netns, NetnsSpec] = field(default_factory=dict)
    veths: Sequence[Veth] = ()
    rulesets: Mapping[Netns, Sequence[Ruleset]] = field(default_factory=dict)
    states: Mapping[Netns, NetnsState] = field(default_factory=dict)
    tables: Mapping[Netns, Mapping[TableKey, ObservedTable]] = field(default_factory=dict)
    listening: Mapping[Netns, frozenset[tuple[str, int]]] = field(default_factory=dict)
    foreign: Sequence[firewalls.Entry] = ()

    @property
    def hostname(self) -> str:
        """Of this host."""
        node = self.snapshot.nodes.get(self.snapshot.self_id)
        return node.hostname if node is not None else self.snapshot.self_id

    def spec(self, netns: Netns) -> NetnsSpec:
        """What should be there; nothing where nothing is wanted."""
        return self.specs.get(netns, NetnsSpec())

    def state(self, netns: Netns) -> NetnsState:
        """What is there."""
        return self.states.get(netns, NetnsState())

    def element(self, netns: Netns, set_: str, key: str, family: Family = 4) -> tuple[str, str]:
        """(what is, what should be) the value at a key; ``nothing`` where there is none."""
        wanted = next((each for each in self._sets(netns, family) if each.name == set_), None)
        found = self.table(netns, family).sets.get(set_)
        return (
            _shown(found.elements if found is not None else {}, key),
            _shown(wanted.elements if wanted is not None else {}, key),
        )

    def values(
        self, netns: Netns, set_: str, family: Family = 4
    ) -> tuple[frozenset[str], frozenset[str]]:
        """(what are, what should be) the values of a map."""
        found = self.table(netns, family).sets.get(set_)
        wanted = [each for each in self._sets(netns, family) if each.name == set_]
        return (
            frozenset(found.elements.values()) if found is not None else frozenset(),
            frozenset(value for each in wanted for value in each.elements.values()),
        )

    def size(self, netns: Netns, set_: str, family: Family = 4) -> int:
        """How many elements a set should have."""
        return sum(len(each.elements) for each in self._sets(netns, family) if each.name == set_)

    def chain(self, netns: Netns, name: str, family: Family = 4) -> tuple[str, str]:
        """(what is, what should be) said of a chain: its rules, or that they are another's."""
        wanted = next(
            (c for r in self._rulesets(netns, family) for c in r.chains if c.name == name), None
        )
        should = "; ".join(wanted.rules) if wanted is not None else NOTHING
        found = self.table(netns, family).chains.get(name)
        if found is None:
            return NOTHING, should
        same = wanted is not None and found == as_observed(wanted)
        return (should if same else "rules that are not ours"), should

    def table(self, netns: Netns, family: Family = 4) -> ObservedTable:
        """Our table ``ip meshnet`` there, or ``ip6 meshnet``."""
        key: TableKey = ("ip" if family == FAMILIES[0] else "ip6", "meshnet")
        return self.tables.get(netns, {}).get(key, ObservedTable())

    def mac(self, network: NetworkId, address: Address) -> MacAddress | None:
        """Whose an address on a network is; None: nobody's. It follows from the one of IPv4."""
        if isinstance(address, IPv4Address):
            return mac_of(address)
        for each in self.snapshot.endpoints.values():
            if each.addresses6.get(network) == address and network in each.addresses:
                return mac_of(each.addresses[network])
        for node in self.snapshot.nodes.values():
            if node.ingress_address6 == address and node.ingress_address is not None:
                return mac_of(node.ingress_address)
        return None

    def step(
        self, place: str, what: str, is_: str, should: str, reconciler: str, *, ends: bool = False
    ) -> xpb.Step:
        """One step.

        Args:
            place: where it is.
            what: what it is.
            is_: what was read.
            should: what should be there.
            reconciler: who puts it right.
            ends: nothing passes here.
        """
        wrong = is_ != should
        mend = (
            f"meshnetd on {self.hostname} puts it right within 30 s; if not, the reason is in "
            f"meshnet status there, at {reconciler}"
        )
        return xpb.Step(
            host=self.hostname,
            place=place,
            what=what,
            found=is_,
            should=should,
            ok=not wrong,
            ends=ends or (wrong and is_ == NOTHING),
            mend=mend if wrong else "",
        )

    def blocked(self, vtep: IPv4Address) -> Iterator[xpb.Step]:
        """A step for each chain of others on the host that drops VXLAN to or from another one."""
        itself = self.snapshot.nodes.get(self.snapshot.self_id)
        if itself is None:
            return
        port = self.snapshot.vxlan_port
        for way, packet, hooks in (
            ("from", firewalls.Packet(vtep, itself.vtep, port), firewalls.IN),
            ("to", firewalls.Packet(itself.vtep, vtep, port), firewalls.OUT),
        ):
            for drop in firewalls.drops(self.foreign, packet, hooks):
                rule = f"rule {drop.handle}" if drop.handle else "its policy"
                does = "drops it" if drop.sure else "may drop it: not all that it asks is known"
                peer = f"ip {'saddr' if way == 'from' else 'daddr'} {vtep} udp dport {port}"
                yield xpb.Step(
                    host=self.hostname,
                    place="host",
                    what=f"others' firewall, UDP {port} {way} {vtep}",
                    found=f"chain {drop.chain} is not ours, and {rule} {does}",
                    should="nothing drops it",
                    ok=not drop.sure,
                    warns=not drop.sure,
                    ends=drop.sure,
                    mend=f"nft -a list chain {drop.chain} shows it; let it pass before that: "
                    f"nft insert rule {drop.chain} {peer} accept (docs/firewalls.md)",
                )

    def _rulesets(self, netns: Netns, family: Family) -> list[Ruleset]:
        """Those of a family, and those of none."""
        other = "ip6" if family == FAMILIES[0] else "ip"
        return [each for each in self.rulesets.get(netns, ()) if each.family != other]

    def _sets(self, netns: Netns, family: Family) -> list[Set]:
        return [each for table in self._rulesets(netns, family) for each in table.sets]


def interface(rows: NetnsSpec | NetnsState, name: str) -> str:
    """Its addresses; of what is there also whether it is up."""
    own = sorted((address for on, address in rows.addresses if on == name), key=order)
    addresses = " ".join(map(str, own))
    if isinstance(rows, NetnsState):
        link = rows.links.get(name)
        if link is None:
            return NOTHING
        if not link.up:
            return f"{name} is down"
    return f"{name} {addresses or 'without address'}"


def fdb(rows: NetnsSpec | NetnsState, mac: MacAddress, device: str) -> str:
    """The VTEP that a MAC is behind."""
    found: list[FdbRow] = [row for row in rows.fdb if row[0] == device and row[1] == mac]
    return " ".join(sorted(str(row[2]) for row in found if row[2] is not None)) or NOTHING


def neighbour(rows: NetnsSpec | NetnsState, address: Address, device: str) -> str:
    """The MAC of an address."""
    found: list[NeighbourOn] = [row for row in rows.neighbours if row[:2] == (device, address)]
    return " ".join(sorted(row[2] for row in found)) or NOTHING


def way(state: NetnsState, address: Address) -> RouteSpec | None:
    """The route of the main table that leads to an address; None: there is none."""
    found = [
        route
        for route in state.routes
        if route.table == MAIN_TABLE and address in route.destination and not route.local
    ]
    return max(found, key=lambda route: route.destination.prefixlen, default=None)


def shown(route: RouteSpec | None) -> str:
    """A route as a person reads it."""
    if route is None:
        return NOTHING
    via = f" via {route.gateway}" if route.gateway is not None else ""
    to = "default" if not route.destination.prefixlen else str(route.destination)
    return f"{to}{via} dev {route.name}"


def _shown(elements: Mapping[str, str], key: str) -> str:
    return (elements[key] or "there") if key in elements else NOTHING
