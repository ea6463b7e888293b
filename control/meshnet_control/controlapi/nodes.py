"""Nodes: list, inspect, label, drain, promote, demote, remove.

A role is what is wanted: the managers bring it about (``cluster.roles``).
Source: swarmkit manager/controlapi/node.go; moby daemon/cluster/nodes.go and filters.go.
"""

from __future__ import annotations

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import Cluster, Node, NodeSpec
from meshnet_control.cluster import gossip_ring, service_labels
from meshnet_control.cluster.roles import MANAGER
from meshnet_control.controlapi import filters
from meshnet_control.controlapi.access import Access, check_version, written
from meshnet_control.controlapi.managers import check_demotion, check_removal
from meshnet_control.controlapi.refusals import precondition
from meshnet_control.store.store import Delete, Key, Put

_FILTERS = ("id", "label", "membership", "name", "node.label", "role")


class Nodes:
    """The nodes of a cluster."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def select(self, raw_filters: str | None) -> list[Node]:
        """Nodes that match.

        Raises:
            ControlError: a filter that is not understood.
        """
        wanted = filters.parse(raw_filters, _FILTERS)
        return [
            node
            for node in await self._access.all(Node)
            if filters.prefix(wanted.get("id"), node.id)
            and filters.prefix(wanted.get("name"), node.description.hostname)
            and filters.labels(wanted.get("label"), node.description.engine.labels)
            and filters.labels(wanted.get("node.label"), node.spec.labels)
            and filters.exact(wanted.get("role"), node.spec.role)
            and filters.exact(wanted.get("membership"), "accepted")
        ]

    async def inspect(self, reference: str) -> Node:
        """One node, by id, host name or unique id prefix."""
        return await self._access.find(Node, reference)

    @written
    async def update(self, reference: str, version: int, spec: NodeSpec) -> None:
        """Replace a node's labels, availability and role.

        Raises:
            ControlError: refused, not found, or changed since it was read.
        """
        if spec.role not in {"", "worker", "manager"}:
            raise ControlError(f'invalid Role: "{spec.role}"')
        if spec.availability not in {"", "active", "pause", "drain"}:
            raise ControlError(f'invalid Availability: "{spec.availability}"')
        node = await self._access.find(Node, reference)
        weight = service_labels.NODE_WEIGHT
        if spec.labels.get(weight) != node.spec.labels.get(weight):
            service_labels.node_weight(spec.labels)  # one of before stays: the node can be drained
        check_version(node, version)
        role, managers = spec.role or node.spec.role, []
        if node.spec.role == MANAGER and role != MANAGER:
            nodes = await self._access.all(Node)
            check_demotion(node, nodes)
            managers = [n for n in nodes if n.spec.role == MANAGER and n.id != node.id]
        new = Node()
        new.CopyFrom(node)
        new.spec.CopyFrom(spec)
        new.spec.role = role
        new.spec.availability = spec.availability or node.spec.availability
        await self._access.put(new, unchanged=managers)

    @written
    async def remove(self, reference: str, *, force: bool) -> None:
        """Remove a node that is down; with ``force`` also one that is not.

        Raises:
            ControlError: not found, still up, or a manager.
        """
        node = await self._access.find(Node, reference)
        check_removal(node)
        if not force and node.status.state != "down":
            raise precondition(f"node {node.id} is not down and can't be removed")
        writes: list[Put | Delete] = [Delete(Node, node.id)]
        expect: dict[Key, int] = {}
        for cluster in await self._access.all(Cluster):
            expect[Cluster, cluster.id] = cluster.version.index
            after = Cluster()
            after.CopyFrom(cluster)
            gossip_ring.want(after)  # the node has the present key
            writes.append(Put(after))
        await self._access.store.commit(writes, expect=expect)
