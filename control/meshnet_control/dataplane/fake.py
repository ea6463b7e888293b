"""What a DataPlane stands on, in memory: gossip of some nodes, hosts that answer, a kernel.

For tests and for looking at decisions without a machine. ``FakeKernel`` keeps what new connections
are led to in each namespace, as nftables does, and fails for the objects that it is told to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import TypeAlias

from meshnet.errors import KernelError, KernelObject, MeshnetError, about
from meshnet.gossip.audiences import Audiences, network_of, takes_part_key
from meshnet.gossip.members import Member, State
from meshnet.gossip.shares import Share, parts, share_of
from meshnet.kernel.reserved_ports import Holders
from meshnet.model.ids import NetworkId, NodeId
from meshnet.model.snapshot import Port, Snapshot
from meshnet.nft.flows import Flow

Led: TypeAlias = frozenset[str]
"""Backends: ``<service> <address>``."""


class FakeFlows:
    """What conntrack knows, by namespace, as it is told (``sources.Flows``)."""

    def __init__(self) -> None:
        self.there: dict[str, list[Flow]] = {}
        self.unreadable: MeshnetError | None = None

    async def __call__(self, netns: str, /) -> list[Flow]:
        """As told."""
        if self.unreadable is not None:
            raise self.unreadable
        return self.there.get(netns, [])


class FakeSockets:
    """The ports of a host (``host_ports.Sockets``): some are its processes'."""

    def __init__(self) -> None:
        self.processes: dict[Port, str] = {}
        """Port -> who waits there."""
        self.processes6: dict[Port, str] = {}
        """The same, of those that wait there by IPv6 alone."""
        self.held: frozenset[Port] = frozenset()
        self.held6: frozenset[Port] = frozenset()
        self.short = False

    def hold(self, wanted: Set[Port], wanted6: Set[Port], /) -> Holders:
        """As told."""
        taken = {port: self.processes[port] for port in wanted if port in self.processes}
        every6 = {**self.processes6, **self.processes}
        taken6 = {port: every6[port] for port in wanted6 if port in every6}
        self.held, self.held6 = frozenset(wanted - taken.keys()), frozenset(wanted6 - taken6.keys())
        self.short = bool(taken or taken6)
        return Holders(taken, taken6)

    def others(self) -> frozenset[Port]:
        """As told."""
        return frozenset(self.processes)

    def close(self) -> None:
        """Let all go."""
        self.held = self.held6 = frozenset()


class GossipRoom:
    """The gossip of all nodes: what one says, the others know at once."""

    def __init__(self) -> None:
        self.members: dict[NodeId, Member] = {}
        self.records: dict[tuple[NodeId, str], bytes] = {}
        self.listeners: dict[NodeId, Callable[[], None]] = {}
        self.applied: dict[NodeId, Mapping[Share, tuple[int, int]]] = {}
        self.taking: set[tuple[NodeId, str]] = set()
        """Who takes part in which network, as their records say."""

    def enter(self, node: NodeId, changed: Callable[[], None] = lambda: None) -> FakeGossip:
        """The gossip of a node whose process starts: what it said before is forgotten."""
        self.records = {place: v for place, v in self.records.items() if place[0] != node}
        self.taking = {each for each in self.taking if each[0] != node}
        self.applied.pop(node, None)
        self.listeners[node] = changed
        self.judge(node, State.ALIVE)
        return FakeGossip(self, node)

    def judge(self, node: NodeId, state: State) -> None:
        """All take ``node`` for ``state``."""
        known = self.members.get(node) or Member(node, ("192.0.2.1", 7946), 1, state, 0.0)
        self.members[node] = replace(known, state=state)
        self.tell()

    def tell(self) -> None:
        """Tell all that something is new."""
        for changed in self.listeners.values():
            changed()


class FakeGossip:
    """One node's view of the room (``feed.Gossip``)."""

    def __init__(self, room: GossipRoom, node: NodeId) -> None:
        self._room, self._node = room, node
        self.writes: list[str] = []
        """Keys, in the order in which they were set."""
        self.asks = 0
        """How often it was told whom to ask."""
        self.looks = 0
        """How often all records were asked for."""
        self._told: dict[Share, tuple[int, int]] = {}
        self._wanted: frozenset[Share] = frozenset()
        self._networks: frozenset[str] = frozenset()

    def members(self) -> Mapping[NodeId, Member]:
        """Every member known."""
        return self._room.members

    def records(self) -> Mapping[tuple[NodeId, str], bytes]:
        """Records of the members that take part."""
        counted = {node for node, member in self._room.members.items() if member.counted}
        return {place: v for place, v in self._room.records.items() if place[0] in counted}

    def all_records(self) -> Mapping[tuple[NodeId, str], bytes]:
        """Records of every member known."""
        self.looks += 1
        return dict(self._room.records)

    def set_record(self, key: str, value: bytes | None) -> None:
        """Changes one of our records."""
        self.writes.append(key)
        network = network_of(key)
        if network is not None:
            self._room.taking.discard((self._node, network))
            if value is not None:
                self._room.taking.add((self._node, network))
        if value is None:
            self._room.records.pop((self._node, key), None)
        else:
            self._room.records[self._node, key] = value
        self._room.tell()

    def take_part(self, networks: Collection[str]) -> None:
        """As it says; it does not linger."""
        before, self._networks = self._networks, frozenset(networks)
        for network in self._networks - before:
            self.set_record(takes_part_key(network), b"")
        for network in before - self._networks:
            self.set_record(takes_part_key(network), None)

    @property
    def audiences(self) -> Audiences:
        """As all say; everybody hears everything in this room."""
        found = Audiences(self._node)
        for owner, network in self._room.taking:
            found.said(owner, network, takes_part=True)
        return found

    def applied(self, marks: Mapping[Share, tuple[int, int]]) -> None:
        """What of each node's changes this one has applied."""
        self._room.applied[self._node] = dict(marks)
        self._room.tell()

    def ask(self, wanted: Mapping[Share, tuple[int, int]]) -> None:
        """Exactly these answer from now on."""
        self.asks += 1
        before, self._wanted = self._wanted, frozenset(wanted)
        if self._wanted - before:
            self._room.tell()

    @property
    def asked(self) -> frozenset[NodeId]:
        """Who is asked."""
        return frozenset(parts(share)[0] for share in self._wanted)

    def acknowledged(self) -> Mapping[Share, tuple[int, int]]:
        """What those that were asked have applied of this node's changes."""
        for share in self._wanted:
            node, network = parts(share)
            mark = self._room.applied.get(node, {}).get(share_of(self._node, network))
            if mark is not None:
                self._told[share] = mark
        return self._told


class FakeProbe:
    """Hosts that answer or not, as it is told (``feed.Probe``)."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._answers: dict[NodeId, bool] = {}
        self.asked: frozenset[NodeId] = frozenset()
        self.closed = False

    @property
    def answering(self) -> Mapping[NodeId, bool]:
        """Node -> whether its host answers, of those that are asked."""
        return {node: said for node, said in self._answers.items() if node in self.asked}

    def watch(self, hosts: Mapping[NodeId, IPv4Address]) -> None:
        """Ask exactly these from now on."""
        self.asked = frozenset(hosts)

    def answer(self, node: NodeId, *, answering: bool) -> None:
        """A host answers from now on, or does not."""
        self._answers[node] = answering
        self._on_change()

    async def close(self) -> None:
        """Stop asking."""
        self.closed = True


@dataclass
class FakeKernel:
    """What each namespace leads new connections to (``meshnet.reconcile.Operations``)."""

    name: str = "fake"
    chooses: bool = True
    world: dict[str | None, Led] = field(default_factory=dict)
    broken: set[KernelObject] = field(default_factory=set)
    """Objects that cannot be changed."""
    unreadable: MeshnetError | None = None
    """Why nothing can be read."""

    def desired(self, snapshot: Snapshot) -> Mapping[str | None, Led]:
        """The backends of the services on a container's networks; the host has the ingress's."""
        ingress = snapshot.ingress
        on: dict[str | None, set[NetworkId]] = {None: {ingress.id} if ingress else set()}
        for box in snapshot.sandboxes.values():
            on[box.netns] = {network for network, _ in box.networks}
        return {
            path: frozenset(
                f"{service} {address}"
                for service in snapshot.services
                for network in networks
                for address in snapshot.backends(service, network)
            )
            for path, networks in on.items()
        }

    def observe(
        self, desired: Mapping[str | None, Led], since: object = None
    ) -> Mapping[str | None, Led]:
        """What is there.

        Raises:
            MeshnetError: as told.
        """
        if self.unreadable is not None:
            raise self.unreadable
        return dict(self.world)

    def plan(
        self,
        desired: Mapping[str | None, Led],
        observed: Mapping[str | None, Led],
        *,
        prune: bool,
    ) -> list[tuple[str | None, Led | None]]:
        """(namespace, what it should lead to; None: nothing of ours) for each that differs."""
        changes: list[tuple[str | None, Led | None]] = [
            (path, led)
            for path, led in desired.items()
            if path not in observed or (prune and observed[path] != led)
        ]
        return changes + [(path, None) for path in observed.keys() - desired.keys() if prune]

    def apply(self, changes: Sequence[tuple[str | None, Led | None]]) -> None:
        """Make the changes.

        Raises:
            ExceptionGroup: of an error for each object that is broken.
        """
        failed: list[Exception] = []
        for path, led in changes:
            wrong = [each for each in self.broken if each[0] == path]
            failed += [about(KernelError("change", each[0] or "host", 5), each) for each in wrong]
            if wrong:
                continue
            if led is None:
                self.world.pop(path, None)
            else:
                self.world[path] = led
        if failed:
            raise ExceptionGroup("fake", failed)

    def close(self) -> None:
        """Nothing is held."""
