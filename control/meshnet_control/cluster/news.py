"""What a node is told when the cluster changes: the difference, from what changed alone. Pure.

    objects before ─┐
    objects now ────┼──> news(node) ──> message, or nothing
    what changed ───┘

Law: merged into the state before it is the state now, and there is a message when there is a
difference (``assignments.difference``); but it costs what changed.

Be aware: what changed may be more than what is between the two; a task's node is not in it, as a
node's tasks are compared by themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from immutables import Map

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.assignments import (
    Change,
    Needs,
    Objects,
    needs_of,
    settings_of,
)
from meshnet_control.cluster.views import concerns, told_config, told_secret, told_task


class _Named(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_Named)


@dataclass(frozen=True)
class Touched:
    """Ids of what changed."""

    nodes: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    """Secrets and configs."""

    def __bool__(self) -> bool:
        """Something changed."""
        return bool(self.nodes or self.services or self.networks or self.files)

    def __or__(self, other: Touched) -> Touched:
        """Both."""
        return Touched(
            self.nodes | other.nodes,
            self.services | other.services,
            self.networks | other.networks,
            self.files | other.files,
        )


def touched(old: Objects, new: Objects, changes: Iterable[Change]) -> Touched:
    """What nodes may be told of when these changes made the new objects of the old ones."""
    found: dict[type, set[str]] = defaultdict(set)
    for kind, name, _ in changes:
        found[kind].add(name)
    services = found[pb.Service]
    if found[pb.Network]:  # a name that a service gives may be another network's
        views = new.service_views.items()
        services |= {name for name, view in views if old.service_views.get(name) is not view}
    return Touched(
        frozenset(found[pb.Node]),
        frozenset(services),
        frozenset(found[pb.Network]),
        frozenset(found[pb.Secret] | found[pb.Config]),
    )


def news(
    old: Objects, new: Objects, node_id: str, needed: Needs, changed: Touched
) -> tuple[pb.Assignments | None, Needs]:
    """The message that leads one node from the objects it was told of to those of now.

    Args:
        old: what it was told of.
        new: what is now.
        node_id: the node.
        needed: what it needed of ``old``.
        changed: what changed since.

    Returns:
        The message, without a version; None: nothing that concerns the node has changed. What the
        node needs now.
    """
    nothing: Map[str, pb.Task] = Map()
    before, after = old.tasks_of.get(node_id, nothing), new.tasks_of.get(node_id, nothing)
    same = _tasks(before, after) == frozenset() and not changed.networks
    needs = needed if same else needs_of(new, node_id)
    moved = needs.networks ^ needed.networks
    services = {*old.service_views, *new.service_views} if moved else changed.services
    networks = changed.networks | moved
    secrets = changed.files | (needs.secrets ^ needed.secrets)
    configs = changed.files | (needs.configs ^ needed.configs)
    message = pb.Assignments()
    tasks = _tasks(before, after)
    _tell(message, "tasks", tasks, _of(before, tasks, told_task), _of(after, tasks, told_task))
    _tell(
        message,
        "networks",
        networks,
        _of(old.network_views, needed.networks),
        _of(new.network_views, needs.networks),
    )
    _tell(message, "services", services, _services(old, needed), _services(new, needs))
    _tell(message, "nodes", changed.nodes, old.node_views.get, new.node_views.get)
    _tell(
        message,
        "secrets",
        secrets,
        _of(old.secrets, needed.secrets, told_secret),
        _of(new.secrets, needs.secrets, told_secret),
    )
    _tell(
        message,
        "configs",
        configs,
        _of(old.configs, needed.configs, told_config),
        _of(new.configs, needs.configs, told_config),
    )
    kept = old.cluster is new.cluster and old.managers is new.managers
    settings = settings_of(new, needs) if message.ByteSize() or not kept else None
    if settings is None or (not message.ByteSize() and settings == settings_of(old, needed)):
        return None, needs
    message.MergeFrom(settings)
    return message, needs


def _tasks(before: Mapping[str, pb.Task], after: Mapping[str, pb.Task]) -> frozenset[str]:
    """Ids of the tasks that are not the same objects."""
    if before is after:
        return frozenset()
    return frozenset(name for name in {*before, *after} if before.get(name) is not after.get(name))


def _of(
    objects: Mapping[str, T], ids: AbstractSet[str], told: Callable[[T], Any] = lambda each: each
) -> Callable[[str], Any]:
    """What a node is told of an object, if it is one of these."""

    def find(name: str) -> object:
        found = objects.get(name) if name in ids else None
        return None if found is None else told(found)

    return find


def _services(objects: Objects, needs: Needs) -> Callable[[str], pb.ServiceView | None]:
    def find(name: str) -> pb.ServiceView | None:
        found = objects.service_views.get(name)
        return found if found is not None and concerns(found, needs.networks) else None

    return find


def _tell(
    message: pb.Assignments,
    field: str,
    ids: AbstractSet[str],
    before: Callable[[str], Any],
    after: Callable[[str], Any],
) -> None:
    """Enter what became of some objects, in the order of their ids."""
    for name in sorted(ids):
        was, is_now = before(name), after(name)
        if is_now is None and was is not None:
            getattr(message, f"removed_{field}").append(name)
        elif is_now is not None and is_now is not was and is_now != was:
            getattr(message, field).append(is_now)
