"""Nodes: list, inspect, label, drain, remove.

This version runs one manager: roles do not change.
Source: swarmkit manager/controlapi/node.go; moby daemon/cluster/nodes.go and filters.go.
"""

from __future__ import annotations

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import Node, NodeSpec
from meshnet_control.controlapi import filters
from meshnet_control.controlapi.access import Access, check_version
from meshnet_control.controlapi.refusals import precondition, unimplemented

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

    async def update(self, reference: str, version: int, spec: NodeSpec) -> None:
        """Replace a node's labels and availability.

        Raises:
            ControlError: refused, not found, or changed since it was read.
        """
        if spec.role not in {"", "worker", "manager"}:
            raise ControlError(f'invalid Role: "{spec.role}"')
        if spec.availability not in {"", "active", "pause", "drain"}:
            raise ControlError(f'invalid Availability: "{spec.availability}"')
        async with self._access.writing:
            node = await self._access.find(Node, reference)
            check_version(node, version)
            role = spec.role or node.spec.role
            if role != node.spec.role:
                await self._refuse_role(node, role)
            new = Node()
            new.CopyFrom(node)
            new.spec.CopyFrom(spec)
            new.spec.role = role
            new.spec.availability = spec.availability or node.spec.availability
            await self._access.put(new)

    async def _refuse_role(self, node: Node, role: str) -> None:
        managers = sum(n.spec.role == "manager" for n in await self._access.all(Node))
        if role == "worker" and managers == 1:
            raise precondition("attempting to demote the last manager of the swarm")
        raise unimplemented(
            f"node {node.description.hostname} cannot become a {role}: "
            "this version of meshnet runs one manager; leave it a worker"
        )

    async def remove(self, reference: str, *, force: bool) -> None:
        """Remove a node that is down; with ``force`` also one that is not.

        Raises:
            ControlError: not found, still up, or a manager.
        """
        async with self._access.writing:
            node = await self._access.find(Node, reference)
            if node.spec.role == "manager":
                raise precondition(
                    f"node {node.id} is a cluster manager and is a member of the raft cluster. "
                    "It must be demoted to worker before removal"
                )
            if not force and node.status.state != "down":
                raise precondition(f"node {node.id} is not down and can't be removed")
            await self._access.delete([node])
