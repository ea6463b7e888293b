"""The cluster's endpoints, and which of them are on a node. Pure.

A node that dies or comes touches its endpoints alone: they are found without a walk over all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from meshnet.model.ids import NodeId, TaskId
from meshnet.model.shared_map import SharedMap
from meshnet.model.snapshot import Endpoint


class Placed(SharedMap[TaskId, Endpoint]):
    """Endpoints by task, as any map; ``placed`` makes another one of it.

    Attributes:
        on: the tasks of each node that has any.
    """

    __slots__ = ("on",)

    def __init__(self, entries: Mapping[TaskId, Endpoint] | None = None) -> None:
        """All of it."""
        super().__init__(entries or {})
        on: defaultdict[NodeId, set[TaskId]] = defaultdict(set)
        for task, endpoint in self.items():
            on[endpoint.node].add(task)
        self.on: SharedMap[NodeId, frozenset[TaskId]] = SharedMap(
            {node: frozenset(tasks) for node, tasks in on.items()}
        )

    def placed(self, put: Mapping[TaskId, Endpoint], drop: Iterable[TaskId] = ()) -> Placed:
        """The same without ``drop`` and with ``put``; itself when that is no change."""
        drop = set(drop) - put.keys()
        shared = self.changed(put, drop)
        if shared is self:
            return self
        on: dict[NodeId, set[TaskId]] = {}

        def tasks_on(node: NodeId) -> set[TaskId]:
            return on.setdefault(node, set(self.on.get(node, ())))

        for task in {*put, *drop}:
            had, has = self.get(task), put.get(task)
            if had is not None and (has is None or has.node != had.node):
                tasks_on(had.node).discard(task)
            if has is not None and (had is None or has.node != had.node):
                tasks_on(has.node).add(task)
        made = Placed.__new__(Placed)
        made.buckets, made.size = shared.buckets, len(shared)
        left = {node: frozenset(tasks) for node, tasks in on.items() if tasks}
        made.on = self.on.changed(left, on.keys() - left.keys())
        return made


def tasks_on(endpoints: Mapping[TaskId, Endpoint], nodes: Iterable[NodeId]) -> set[TaskId]:
    """Tasks on some nodes; a map that does not know them by node is walked."""
    if isinstance(endpoints, Placed):
        return set[TaskId]().union(*(endpoints.on.get(node, ()) for node in nodes))
    some = frozenset(nodes)
    return {task for task, each in endpoints.items() if each.node in some}
