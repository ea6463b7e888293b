"""What decisions look up in the cluster's objects, kept with every change of one. Pure.

    task     its service and its slot, its node, its state, the addresses and the room it holds
    service  its mode, its addresses, its published ports
    node     what it has, its address on the ingress network

Each is worked out when it is asked for (``kept``), by its function in ``folds``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from immutables import Map

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.buckets import Buckets
from meshnet_control.orchestrate import folds, ports, slots
from meshnet_control.orchestrate.folds import (
    Addresses,
    Facts,
    Holders,
    Published,
    Room,
    Spread,
    Tasks,
    Usage,
    Waiting,
)
from meshnet_control.orchestrate.kept import Change, Kept
from meshnet_control.orchestrate.slots import Slot, Slots, Tally


@dataclass(frozen=True)
class Changes:
    """Of the cluster's objects, each object's in the order in which they came."""

    tasks: list[Change[pb.Task]] = field(default_factory=list)
    services: list[Change[pb.Service]] = field(default_factory=list)
    nodes: list[Change[pb.Node]] = field(default_factory=list)
    networks: list[Change[pb.Network]] = field(default_factory=list)


@dataclass(frozen=True)
class Indexes:
    """All of them, each worked out when it is asked for."""

    lists: Mapping[str, Kept[Tasks, pb.Task]]
    """By the names of ``folds.KEYS``."""
    waits: Kept[Buckets[Waiting, str, pb.Task], pb.Task]
    room: Kept[Room, pb.Task]
    places: Kept[Slots, pb.Task]
    given: Kept[Addresses, pb.Task | pb.Service | pb.Node]
    nodes: Kept[Map[str, Facts], pb.Node]
    services: Kept[Published, pb.Service]
    networks: Kept[Map[str, pb.Network], pb.Network]
    given_ns: int = 0
    """No address was given later than this, Unix nanoseconds."""

    @property
    def by_service(self) -> Tasks:
        """Tasks."""
        return self.lists["service"].now()

    @property
    def by_node(self) -> Tasks:
        """Tasks."""
        return self.lists["node"].now()

    @property
    def failed(self) -> Tasks:
        """By service, tasks that failed or were refused."""
        return self.lists["failed"].now()

    @property
    def claims(self) -> Tasks:
        """By node, tasks that hold ports of it, or generic resources."""
        return self.lists["claims"].now()

    @property
    def waiting(self) -> Buckets[Waiting, str, pb.Task]:
        """Tasks by what they wait for."""
        return self.waits.now()

    @property
    def slots(self) -> Map[Slot, tuple[pb.Task, ...]]:
        """Tasks of a slot, the oldest first."""
        return self.places.now()[0]

    @property
    def tallies(self) -> Map[str, Tally]:
        """Slots by service."""
        return self.places.now()[1]

    @property
    def spread(self) -> Spread:
        """By service, how many tasks take room of each node and are to go on."""
        return self.room.now()[0]

    @property
    def usage(self) -> Map[str, Usage]:
        """By node."""
        return self.room.now()[1]

    @property
    def facts(self) -> Map[str, Facts]:
        """By node."""
        return self.nodes.now()

    @property
    def everywhere(self) -> Map[str, pb.Service]:
        """Services that want a task on each node."""
        return self.services.now()[0]

    @property
    def ports(self) -> Buckets[ports.PortKey, str, bool]:
        """Published on every node, by the service that has or wants it."""
        return self.services.now()[1]

    @property
    def addresses(self) -> Holders:
        """By network and block."""
        return self.given.now()[0]

    @property
    def blocks(self) -> Map[str, tuple[int, ...]]:
        """By network, those that anybody has addresses of, ascending."""
        return self.given.now()[1]

    @property
    def ingress(self) -> Map[str, pb.Network]:
        """Networks of published ports; one, or none."""
        return self.networks.now()

    def settle(self) -> None:
        """Work out all of them: what many pictures are made of is worked out once."""
        for kept in self.lists.values():
            kept.now()
        rest = self.waits, self.room, self.places, self.given
        for each in (*rest, self.nodes, self.services, self.networks):
            each.now()

    def after(self, changes: Changes) -> Indexes:
        """Of the objects after some changes."""
        tasks, services, nodes = changes.tasks, changes.services, changes.nodes
        given_ns = self.given_ns
        for _, _, task in tasks:
            if task is not None and task.HasField("allocated_at"):
                at = task.allocated_at
                given_ns = max(given_ns, at.seconds * slots.SECOND + at.nanos)
        return Indexes(
            lists={which: kept.after(tasks) for which, kept in self.lists.items()},
            waits=self.waits.after(tasks),
            room=self.room.after(tasks),
            places=self.places.after(tasks),
            given=self.given.after([*tasks, *services, *nodes]),
            nodes=self.nodes.after(nodes),
            services=self.services.after(services),
            networks=self.networks.after(changes.networks),
            given_ns=given_ns,
        )


OF_NOTHING: Final = Indexes(
    lists={which: Kept(Map(), folds.listed(keys)) for which, keys in folds.KEYS.items()},
    waits=Kept(Map(), folds.listed(folds.waits)),
    room=Kept((Map(), Map()), folds.used),
    places=Kept((Map(), Map()), slots.after),
    given=Kept((Map(), Map()), folds.given),
    nodes=Kept(Map(), folds.looked_at),
    services=Kept((Map(), Map()), folds.published),
    networks=Kept(Map(), folds.of_ingress),
)
"""Where there are no objects."""
