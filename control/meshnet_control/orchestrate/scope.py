"""What of the cluster is to be looked at: what changed, and what depends on it. Pure.

A service is looked at with its tasks, or, where one of these changed, a slot of it alone
(``StoreView.parts``); a node with what it lacks itself and the tasks on it that belong to no
service any more. What a change makes to be looked at is in ``StoreView.apply``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, TypeAlias, TypeVar

from meshnet_control.orchestrate.slots import Slot

Due: TypeAlias = str | Slot
"""A service or a node by its id, or a slot."""
D = TypeVar("D", str, Slot)
SLOTS: Final = 8
"""Slots that one service is taken for in a part."""


@dataclass(frozen=True)
class Scope:
    """A part of the cluster, by ids; those of what is gone included."""

    services: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    """Of no service; all others come with theirs."""
    slots: frozenset[Slot] = frozenset()
    """Of services that need not be looked at whole for what changed in them."""
    networks: bool = False
    """What no network has yet."""
    cluster: bool = False
    """What concerns the cluster as a whole."""

    def __bool__(self) -> bool:
        """There is something to look at."""
        return bool(
            self.services or self.nodes or self.tasks or self.slots or self.networks or self.cluster
        )

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
            self.slots | other.slots,
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
        slots, more_slots = _cut(self.slots, most * SLOTS)
        first = replace(self, services=services, nodes=nodes, tasks=tasks, slots=slots)
        return first, Scope(rest, more_nodes, more_tasks, more_slots)

    def looks_at(self, due: Due) -> bool:
        """Whether something is looked at in it, if it is there."""
        if isinstance(due, str):
            return due in self.services or due in self.nodes
        return due in self.slots or due[0] in self.services


def _cut(ids: frozenset[D], most: int) -> tuple[frozenset[D], frozenset[D]]:
    if len(ids) <= most:
        return ids, frozenset()
    part = frozenset(islice(sorted(ids), most))
    return part, ids - part


def scope_of(ids: Iterable[Due]) -> Scope:
    """What has these ids, be it a service or a node; and these slots."""
    every = frozenset(ids)
    both = frozenset(each for each in every if isinstance(each, str))
    slots = frozenset(each for each in every if not isinstance(each, str))
    return Scope(services=both, nodes=both, slots=slots)
