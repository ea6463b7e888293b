"""Which endpoints of a Snapshot mean something else than in another one. Pure.

Whoever keeps something up for each endpoint asks what to look at again, and pays for that alone:
the maps of two Snapshots share what is the same in both (``meshnet.model.shared_map``).
"""

from __future__ import annotations

from collections.abc import Callable

from meshnet.model.ids import NodeId, TaskId
from meshnet.model.placed import tasks_on
from meshnet.model.shared_map import difference
from meshnet.model.snapshot import Node, Snapshot


def touched(before: Snapshot, now: Snapshot, facet: Callable[[Node], object]) -> set[TaskId]:
    """Endpoints that are new, other or gone, or whose node is, in what ``facet`` says of it."""
    tasks = set(difference(before.endpoints, now.endpoints))
    nodes = {
        node
        for node in difference(before.nodes, now.nodes)
        if _said(before, node, facet) != _said(now, node, facet)
    }
    if nodes:
        tasks |= tasks_on(now.endpoints, nodes)
    return tasks


def _said(snapshot: Snapshot, node: NodeId, facet: Callable[[Node], object]) -> object:
    known = snapshot.nodes.get(node)
    return facet(known) if known is not None else None
