"""Makes each Snapshot of the one before and of what is new since. Pure but for its own memory.

Law: after any changes the Snapshot is what is made of the whole from scratch. Parts that did
not change are the same objects as before, and a Snapshot without a change is the one before itself,
so that whoever derives something from a part asks ``is``.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from operator import is_
from typing import TypeVar

from meshnet.gossip.engine import UNREACHED_KEY
from meshnet.gossip.shares import Share, placed, share_of
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId
from meshnet.model.shared_map import SharedMap, shared
from meshnet.model.snapshot import Gwbridge, Network, Node, Sandbox, Service, Snapshot
from meshnet.model.wellknown import VXLAN_PORT
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.gossip_records import EPOCH_KEY, NODE_KEY, Epoch
from meshnet_control.dataplane import claims, snapshot
from meshnet_control.dataplane.claims import Place
from meshnet_control.dataplane.endpoints import Endpoints
from meshnet_control.dataplane.known_records import KnownRecords

K = TypeVar("K")
V = TypeVar("V")


@dataclass
class Builder:
    """The inputs of one node's Snapshots; ``records`` is told what gossip says."""

    self_id: NodeId
    records: KnownRecords = field(default_factory=KnownRecords)
    unreached: SharedMap[NodeId, frozenset[NodeId]] = field(default_factory=SharedMap)
    """Who says that it cannot reach whom."""
    epochs: SharedMap[Share, Epoch] = field(default_factory=SharedMap)
    """Of the nodes that know their endpoints: of what they say to all, and on each network."""
    _mtus: SharedMap[NodeId, bytes] = field(default_factory=SharedMap)
    _endpoints: Endpoints = field(default_factory=Endpoints)
    _assignments: pb.Assignments | None = None
    _services: SharedMap[ServiceId, Service] = field(default_factory=SharedMap)
    _views: dict[str, pb.ServiceView] = field(default_factory=dict)
    _taken: Set[Place] = frozenset()
    _taken_of: tuple[Mapping[ServiceId, Service] | None, Set[Place]] = (None, frozenset())
    """What it was last made of: services, and what nodes have."""
    _nodes_of: tuple[object, ...] | None = None
    """What the nodes were last made of."""

    def follow(self, nodes: Set[NodeId], networks: Set[str] = frozenset()) -> None:
        """Take what nodes said since the last time; only what is said of ``nodes`` is kept.

        Args:
            nodes: every node that the managers know; the same object while they are the same.
            networks: that this node hears of.
        """
        news = self.records.settle(nodes, networks)
        self._mtus = _with(self._mtus, {n: v for (n, key), v in news.items() if key == NODE_KEY})
        self.epochs = _with(
            self.epochs,
            {
                share_of(node, placed(key)[0]): None
                if value is None
                else gossip_records.decode_epoch(value) or (0, 0)
                for (node, key), value in news.items()
                if placed(key)[1] == EPOCH_KEY
            },
        )
        said = {place: v for place, v in news.items() if place[1] == UNREACHED_KEY}
        if said:
            told = gossip_records.unreached(
                {place: v for place, v in said.items() if v is not None}
            )
            self.unreached = _with(self.unreached, {node: told.get(node) for node, _ in said})
        self._endpoints.change(news, self._taken)

    def build(
        self,
        before: Snapshot,
        *,
        assignments: pb.Assignments,
        gone: Set[NodeId],
        doubted: Set[NodeId] = frozenset(),
        sandboxes: Mapping[TaskId, Sandbox],
        gwbridge: Gwbridge | None,
        complete: bool,
    ) -> Snapshot:
        """The Snapshot of this moment: ``before`` itself, or one of the next revision.

        Args:
            before: the last one.
            assignments: everything the managers said, merged.
            gone: nodes that nothing is chosen of (``liveness``); the same object while they are.
            doubted: nodes that are chosen only where nobody else is there; likewise.
            sandboxes: containers on this node that we wire; the same object while they are.
            gwbridge: docker_gwbridge as the local engine made it.
            complete: both sources have spoken since the process started.
        """
        told = assignments is not self._assignments
        nodes = self._nodes(before.nodes, assignments, gone, doubted)
        networks: Mapping[NetworkId, Network] = before.networks
        if told or sandboxes is not before.sandboxes:
            found = snapshot.networks_of(assignments, sandboxes.values(), before.networks)
            networks = before.networks if found == before.networks else found
        if told:
            self._assignments = assignments
            self._take_services(assignments)
        if told or nodes is not before.nodes or networks is not before.networks:
            self._take_away(nodes, networks)
        fresh = Snapshot(
            revision=before.revision,
            self_id=self.self_id,
            nodes=nodes,
            networks=networks,
            services=self._services,
            endpoints=self._endpoints.settled,
            sandboxes=sandboxes,
            gwbridge=gwbridge,
            complete=complete,
            epochs=self.epochs,
            vxlan_port=assignments.data_path_port or VXLAN_PORT,
            taken=before.taken,
        )
        return before if _same(before, fresh) else replace(fresh, revision=before.revision + 1)

    def _nodes(
        self,
        before: Mapping[NodeId, Node],
        assignments: pb.Assignments,
        gone: Set[NodeId],
        doubted: Set[NodeId],
    ) -> Mapping[NodeId, Node]:
        made_of = (assignments, gone, doubted, self._mtus)
        if self._nodes_of is not None and all(map(is_, made_of, self._nodes_of)):
            return before
        self._nodes_of = made_of
        made = snapshot.nodes_of(assignments, self.self_id, self._mtus, gone, doubted)
        return shared(before).changed(made, before.keys() - made.keys())

    def _take_away(
        self, nodes: Mapping[NodeId, Node], networks: Mapping[NetworkId, Network]
    ) -> None:
        """No endpoint has what the managers gave to services and nodes, if that is other now."""
        of_nodes = frozenset(claims.taken((), nodes.values(), networks))
        services, had = self._taken_of
        if self._services is services and of_nodes == had:
            return
        self._taken_of = self._services, of_nodes
        taken = of_nodes | frozenset(claims.taken(self._services.values(), (), networks))
        if taken != self._taken:
            self._taken = taken
            self._endpoints.change({}, taken)

    def _take_services(self, assignments: pb.Assignments) -> None:
        """Services whose message is as it was stay the same objects."""
        views = {service.id: service for service in assignments.services}
        gone = [ServiceId(id_) for id_ in self._views.keys() - views.keys()]
        put = {
            ServiceId(id_): snapshot.service_of(view)
            for id_, view in views.items()
            if self._views.get(id_) != view
        }
        self._views = views
        self._services = self._services.changed(put, gone)


def _with(had: SharedMap[K, V], news: Mapping[K, V | None]) -> SharedMap[K, V]:
    put = {key: value for key, value in news.items() if value is not None}
    return had.changed(put, news.keys() - put.keys()) if news else had


def _same(before: Snapshot, now: Snapshot) -> bool:
    """Whether every part is the same object; what is small may be equal."""
    return (
        before.nodes is now.nodes
        and before.networks is now.networks
        and before.services is now.services
        and before.endpoints is now.endpoints
        and before.sandboxes is now.sandboxes
        and before.epochs is now.epochs
        and before.gwbridge == now.gwbridge
        and before.complete == now.complete
        and before.vxlan_port == now.vxlan_port
    )
