"""What of the cluster is to be looked at: what changed, and what depends on it. Pure.

A service is looked at with its tasks, a node with what it lacks itself and the tasks on it that
belong to no service any more. What a change makes to be looked at is in ``StoreView.apply``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice


@dataclass(frozen=True)
class Scope:
    """A part of the cluster, by ids; those of what is gone included."""

    services: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    """Of no service; all others come with theirs."""
    networks: bool = False
    """What no network has yet."""
    cluster: bool = False
    """What concerns the cluster as a whole."""

    def __bool__(self) -> bool:
        """There is something to look at."""
        return bool(self.services or self.nodes or self.tasks or self.networks or self.cluster)

    def __or__(self, other: Scope) -> Scope:
        """Both."""
        if not other:
            return self
        if not self:
            return other
        return Scope(
            self.services | other.services,
            self.nodes | other.nodes,
            self.tasks | other.tasks,
            self.networks or other.networks,
            self.cluster or other.cluster,
        )

    def cut(self, most: int) -> tuple[Scope, Scope]:
        """A part that is looked at in one go, and the rest.

        Args:
            most: services, and others, of the part. Small things that others wait for go first.
        """
        services, rest = _cut(self.services, most)
        nodes, more_nodes = _cut(self.nodes, most)
        tasks, more_tasks = _cut(self.tasks, most)
        first = replace(self, services=services, nodes=nodes, tasks=tasks)
        return first, Scope(rest, more_nodes, more_tasks)


def _cut(ids: frozenset[str], most: int) -> tuple[frozenset[str], frozenset[str]]:
    if len(ids) <= most:
        return ids, frozenset()
    part = frozenset(islice(sorted(ids), most))
    return part, ids - part


def scope_of(ids: Iterable[str]) -> Scope:
    """What has these ids, be it a service or a node."""
    both = frozenset(ids)
    return Scope(services=both, nodes=both)
