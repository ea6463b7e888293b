"""Makes each Snapshot of the one before and of what is new since. Pure but for its own memory.

Law: after any changes the Snapshot is what is made of the whole from scratch. Parts that did
not change are the same objects as before, and a Snapshot without a change is the one before itself,
so that whoever derives something from a part asks ``is``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
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
from meshnet_control.cluster.gossip_records import EPOCH_KEY, ESP_KEY, NODE_KEY, Epoch
from meshnet_control.cluster.named import Named
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane import claims, snapshot
from meshnet_control.dataplane.claims import Place, Taken
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
    _salts: SharedMap[NodeId, bytes] = field(default_factory=SharedMap)
    _endpoints: Endpoints = field(default_factory=Endpoints)
    _assignments: NodeState | None = None
    _services: SharedMap[ServiceId, Service] = field(default_factory=SharedMap)
    _taken: Taken = field(default_factory=Taken)
    _changed: set[Place] = field(default_factory=set)
    """Of what is taken, since the endpoints were told."""
    _of_nodes: Set[Place] = frozenset()
    _nodes_told: int = 0
    """How often the managers said something of nodes."""
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
        self._salts = _with(self._salts, {n: v for (n, key), v in news.items() if key == ESP_KEY})
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
        assignments: NodeState,
        named: Named | None = None,
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
            named: what in them may be other than the last time; None: anything.
            gone: nodes that nothing is chosen of (``liveness``); the same object while they are.
            doubted: nodes that are chosen only where nobody else is there; likewise.
            sandboxes: containers on this node that we wire; the same object while they are.
            gwbridge: docker_gwbridge as the local engine made it.
            complete: both sources have spoken since the process started.
        """
        told = assignments is not self._assignments
        self._nodes_told += told and (named is None or bool(named.nodes))
        nodes = self._nodes(before.nodes, assignments, gone, doubted)
        networks: Mapping[NetworkId, Network] = before.networks
        networks_told = told and (named is None or bool(named.networks))
        if networks_told or sandboxes is not before.sandboxes:
            found = snapshot.networks_of(assignments, sandboxes.values(), before.networks)
            networks = before.networks if found == before.networks else found
        if told:
            self._take_services(assignments, named)
            self._assignments = assignments
        if nodes is not before.nodes or networks is not before.networks:
            of_nodes = frozenset(claims.taken((), nodes.values(), networks))
            self._changed |= self._taken.change(self._of_nodes, of_nodes)
            self._of_nodes = of_nodes
        if self._changed:
            self._endpoints.change({}, self._taken, self._changed)
            self._changed = set()
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
            vxlan_port=assignments.settings.data_path_port or VXLAN_PORT,
            taken=before.taken,
            esp_keys=tuple(assignments.settings.esp_keys),
            taken6=before.taken6,
        )
        return before if _same(before, fresh) else replace(fresh, revision=before.revision + 1)

    def _nodes(
        self,
        before: Mapping[NodeId, Node],
        assignments: NodeState,
        gone: Set[NodeId],
        doubted: Set[NodeId],
    ) -> Mapping[NodeId, Node]:
        made_of = (self._nodes_told, gone, doubted, self._mtus, self._salts)
        if self._nodes_of is not None and all(map(is_, made_of, self._nodes_of)):
            return before
        self._nodes_of = made_of
        made = snapshot.nodes_of(assignments, self.self_id, self._mtus, gone, doubted, self._salts)
        return shared(before).changed(made, before.keys() - made.keys())

    def _take_services(self, assignments: NodeState, named: Named | None) -> None:
        """Services that mean what they meant stay the same objects."""
        views = self._services_of(assignments, named)
        put = {
            ServiceId(id_): snapshot.service_of(view)
            for id_, view in views.items()
            if view is not None
        }
        before, drop = self._services, views.keys() - put.keys()
        self._services = before.changed(put, map(ServiceId, drop))
        had = (before[id_] for id_ in map(ServiceId, views) if id_ in before)
        self._changed |= self._taken.change(_vips(had), _vips(put.values()))

    def _services_of(
        self, assignments: NodeState, named: Named | None
    ) -> dict[str, pb.ServiceView | None]:
        """Services whose message may be other than before, by id; None: it is gone."""
        if named is not None:
            return {id_: assignments.services.get(id_) for id_ in named.services}
        last = self._assignments.services if self._assignments is not None else ()
        before = {each.id: each for each in last}
        now = {each.id: each for each in assignments.services}
        changed = {id_: each for id_, each in now.items() if before.get(id_) != each}
        return {**changed, **dict.fromkeys(before.keys() - now.keys())}


def _vips(services: Iterable[Service]) -> list[Place]:
    return claims.taken(services, (), {})


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
        and before.esp_keys == now.esp_keys
    )
