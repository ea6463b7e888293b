"""The leader's picture of the cluster, and what a step of the orchestration returns. Pure.

    StoreView ──step(view, now, rng)──> Step(writes, wakes) ──view.apply(writes)──> the next one

A StoreView is a value: ``apply`` makes a new one and shares what did not change with the old one.
It knows what of it is to be looked at (``Scope``): everything at first, then what was changed since
somebody was done with it (``rested``), and whatever depends on that. So a step costs what changed:

    a task      its slot; its service, where that is not as it should be or the slot has no number
    a node      the node, services with tasks on it, services that want a task on every node
    a service   itself        the ingress network, or what the cluster wants of all: everything

Law: what is decided by looking at the scope is what looking at everything decides.

Be aware: the messages in a StoreView are shared too. Copy one before changing it (``changed``).
Secrets and configs are not part of the picture: no step decides anything from them. What is to be
decided about in the order of something is sorted first: the mappings have no order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar, cast

from immutables import Map, MapMutation

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.folds import Waiting
from meshnet_control.orchestrate.indexes import OF_NOTHING, Changes, Indexes
from meshnet_control.orchestrate.scope import Due, Scope
from meshnet_control.orchestrate.slots import Slot, Tally
from meshnet_control.store.store import Delete, Object, Put

__all__ = ["Delete", "Put", "Step", "StepFunction", "StoreView", "Write", "changed"]

Write: TypeAlias = Put | Delete

UPDATING: Final = frozenset({"updating", "rollback_started"})
"""States of an update that goes on."""
M = TypeVar("M", pb.Cluster, pb.Node, pb.Service, pb.Task, pb.Network)
R = TypeVar("R")


@dataclass(frozen=True)
class Step:
    """What one step wants: writes now, and to be called again later."""

    writes: tuple[Write, ...] = ()
    wakes: Mapping[Due, float] = field(default_factory=dict)
    """Service, slot or node -> Unix seconds at which time alone changes what is decided of it."""
    lacking: frozenset[str] = frozenset()
    """Services and nodes that wait for something which any change elsewhere may bring."""

    @property
    def wake_at(self) -> float | None:
        """When to be called again, Unix seconds; None: only a changed object changes the answer."""
        return min(self.wakes.values(), default=None)


StepFunction: TypeAlias = Callable[["StoreView", float, Rng], Step]
"""``step(view, now, rng)``; ``now`` is wall-clock time in Unix seconds."""


def changed(message: M) -> M:
    """A copy of a message of a StoreView, free to be changed."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


@dataclass(frozen=True)
class _Objects:
    cluster: pb.Cluster | None = None
    nodes: Map[str, pb.Node] = field(default_factory=Map)
    services: Map[str, pb.Service] = field(default_factory=Map)
    networks: Map[str, pb.Network] = field(default_factory=Map)
    tasks: Map[str, pb.Task] = field(default_factory=Map)


class StoreView:
    """Every object a decision needs, with what decisions look up in them.

    Args:
        objects: the objects; of two with the same kind and id the last counts.
    """

    def __init__(self, objects: Iterable[Object] = ()) -> None:
        self._objects = _Objects()
        self.indexes = OF_NOTHING
        self.scope = Scope()
        """What is to be looked at."""
        self.most_new: int | None = None
        """Tasks that may be made before the store has them; None: any number."""
        self._found: dict[Hashable, object] = {}
        if writes := [Put(message) for message in objects]:
            self.__dict__.update(self.apply(writes).__dict__)

    @classmethod
    def of(cls, messages: Iterable[Object]) -> StoreView:
        """The StoreView of these objects."""
        return cls(messages)

    @property
    def cluster(self) -> pb.Cluster | None:
        """The cluster; None before there is one."""
        return self._objects.cluster

    @property
    def nodes(self) -> Mapping[str, pb.Node]:
        """Nodes by id."""
        return self._objects.nodes

    @property
    def services(self) -> Mapping[str, pb.Service]:
        """Services by id."""
        return self._objects.services

    @property
    def tasks(self) -> Mapping[str, pb.Task]:
        """Tasks by id, those of services that are gone included."""
        return self._objects.tasks

    @property
    def networks(self) -> Mapping[str, pb.Network]:
        """Cluster networks by id."""
        return self._objects.networks

    def tasks_of_service(self, service_id: str) -> Sequence[pb.Task]:
        """The tasks of a service, in the order of their ids; also when the service is gone."""
        return _in_order(self.indexes.by_service.get(service_id))

    def tasks_on_node(self, node_id: str) -> Sequence[pb.Task]:
        """The tasks assigned to a node, in the order of their ids; "" for those without a node."""
        return _in_order(self.indexes.by_node.get(node_id))

    def waiting(self, for_what: Waiting) -> Sequence[pb.Task]:
        """The tasks that wait for something, in the order of their ids."""
        return _in_order(self.indexes.waiting.get(for_what))

    def remembered(self, key: Hashable, make: Callable[[], R]) -> R:
        """What ``make`` found out of this StoreView when it was asked for by this key first."""
        if key not in self._found:
            self._found[key] = make()
        return cast("R", self._found[key])

    # ---- what is to be looked at ----

    def everything(self) -> Scope:
        """The scope of all there is."""
        return Scope(
            services=frozenset({*self.services, *self.indexes.by_service}),
            nodes=frozenset({*self.nodes, *self.indexes.by_node}),
            networks=True,
            cluster=True,
        )

    def within(self, scope: Scope, most_new: int | None = None) -> StoreView:
        """The same objects, of which something else is to be looked at."""
        new: StoreView = StoreView.__new__(StoreView)
        new.__dict__.update(self.__dict__)
        new.scope, new.most_new = scope, most_new
        new._found = {}
        return new

    def rested(self) -> StoreView:
        """The same objects, with nothing to be looked at."""
        return self.within(Scope())

    @property
    def room(self) -> int | None:
        """Tasks that may still be made now, below zero when more were; None: any number."""
        if self.most_new is None:
            return None
        return self.most_new - len(self.indexes.waiting.get(Waiting.STORE, ()))

    def written(self, service_id: str) -> int:
        """Tasks of a service that the store has, at least."""
        made = len(self.indexes.waiting.get(Waiting.STORE, ()))
        return max(0, len(self.indexes.by_service.get(service_id, ())) - made)

    def due_services(self) -> Sequence[pb.Service]:
        """The services to look at whole, in the order of their ids."""
        there = self._objects.services
        found = (there.get(name) for name in sorted(self.scope.services | self._parts()[0]))
        return [service for service in found if service is not None]

    def parts(self) -> Sequence[tuple[pb.Service, Sequence[Slot]]]:
        """The services of which some slots alone are to be looked at, and which, in order.

        Of those all slots are occupied, and as many as there are to be: whatever changed in one is
        decided by what is in it.
        """
        return self._parts()[1]

    def _parts(self) -> tuple[frozenset[str], Sequence[tuple[pb.Service, Sequence[Slot]]]]:
        return self.remembered("parts", self._parted)

    def _parted(self) -> tuple[frozenset[str], Sequence[tuple[pb.Service, Sequence[Slot]]]]:
        """Services of slots that are to be looked at whole, and the others with their slots."""
        by_service: dict[str, list[Slot]] = {}
        for slot in sorted(self.scope.slots):
            if slot[0] not in self.scope.services:
                by_service.setdefault(slot[0], []).append(slot)
        away = {task.service_id for task in self.waiting(Waiting.RETURN)} if by_service else set()
        whole: set[str] = set()
        parts: list[tuple[pb.Service, Sequence[Slot]]] = []
        for name, slots in by_service.items():
            service = self._objects.services.get(name)
            if service is None or name in away or not self._is_full(service):
                whole.add(name)
            else:
                parts.append((service, slots))
        return frozenset(whole), parts

    def _is_full(self, service: pb.Service) -> bool:
        """Each slot that a replicated service is to have is occupied, by what it specifies now."""
        mode, tally = service.spec.mode, self.indexes.tallies.get(service.id, Tally())
        asked = int(mode.replicated.replicas) if mode.replicated.HasField("replicas") else 1
        return (
            (mode.HasField("replicated") or not mode.ListFields())
            and service.update_status.state not in UPDATING
            and tally.slots == asked
            and not tally.loose
            and all(version == service.spec_version for version in tally.versions)
        )

    def due_nodes(self) -> Sequence[pb.Node]:
        """The nodes to look at, in the order of their ids."""
        found = (self._objects.nodes.get(name) for name in sorted(self.scope.nodes))
        return [node for node in found if node is not None]

    def due_tasks(self) -> Sequence[pb.Task]:
        """The tasks to look at one by one, in the order of their ids."""
        return self.remembered("due tasks", self._due_tasks)

    def _due_tasks(self) -> Sequence[pb.Task]:
        found: dict[str, pb.Task] = {}
        for name in self.scope.services:
            found.update(self.indexes.by_service.get(name, {}))
        for name in self.scope.nodes:
            found.update(self.indexes.by_node.get(name, {}))
        for slot in self.scope.slots:
            if slot[0] in self.scope.services:
                continue
            found.update((task.id, task) for task in self.indexes.slots.get(slot, ()))
        there = self._objects.tasks
        found.update((name, there[name]) for name in self.scope.tasks if name in there)
        return [found[name] for name in sorted(found)]

    # ---- changes ----

    def apply(self, writes: Iterable[Write]) -> StoreView:
        """The StoreView after these writes, with what they concern to be looked at, too.

        This one stays as it is.
        """
        new: StoreView = StoreView.__new__(StoreView)
        new.most_new, new._found = self.most_new, {}
        edit = _Edit(self._objects, self.indexes)
        for write in writes:
            edit.write(write)
        new._objects, new.indexes = edit.finish()
        touched = edit.touched(self.indexes, new.indexes)
        new.scope = new.everything() if touched is None else self.scope | touched
        return new


class _Edit:
    """Objects on their way to others."""

    def __init__(self, start: _Objects, indexes: Indexes) -> None:
        self._cluster = start.cluster
        self._nodes, self._services = start.nodes.mutate(), start.services.mutate()
        self._networks, self._tasks = start.networks.mutate(), start.tasks.mutate()
        self._indexes, self._changes = indexes, Changes()
        self._all = False
        self._due = Scope()
        self._moved: set[str] = set()
        """Nodes that take other tasks than before."""
        self._touched: tuple[set[str], set[str], set[str]] = set(), set(), set()
        self._slots: set[Slot] = set()

    def write(self, write: Write) -> None:
        """Put or delete one object."""
        message = write.message if isinstance(write, Put) else None
        kind = type(write.message) if isinstance(write, Put) else write.kind
        name = write.message.id if isinstance(write, Put) else write.id
        services, nodes, tasks = self._touched
        if kind is pb.Task:
            old_task, new_task = _exchange(self._tasks, name, cast("pb.Task | None", message))
            self._changes.tasks.append((name, old_task, new_task))
            for task in (old_task, new_task):
                if task is None:
                    continue
                if not task.service_id:
                    tasks.add(name)
                elif task.slot:
                    self._slots.add((task.service_id, task.slot))
                else:
                    services.add(task.service_id)
        elif kind is pb.Cluster:
            self._set_cluster(cast("pb.Cluster | None", message))
        elif kind is pb.Node:
            old_node, new_node = _exchange(self._nodes, name, cast("pb.Node | None", message))
            self._changes.nodes.append((name, old_node, new_node))
            nodes.add(name)
            if not _same_place(old_node, new_node):
                self._moved.add(name)
        elif kind is pb.Service:
            old, new = _exchange(self._services, name, cast("pb.Service | None", message))
            self._changes.services.append((name, old, new))
            services.add(name)
        elif kind is pb.Network:
            before, after = _exchange(self._networks, name, cast("pb.Network | None", message))
            self._changes.networks.append((name, before, after))
            self._due |= Scope(networks=True)
            self._all |= any(each is not None and each.spec.ingress for each in (before, after))

    def _set_cluster(self, cluster: pb.Cluster | None) -> None:
        before, self._cluster = self._cluster, cluster
        self._due |= Scope(cluster=True, networks=True)
        self._all |= before is None or cluster is None or before.spec != cluster.spec

    def finish(self) -> tuple[_Objects, Indexes]:
        """What it has come to."""
        objects = _Objects(
            self._cluster,
            self._nodes.finish(),
            self._services.finish(),
            self._networks.finish(),
            self._tasks.finish(),
        )
        return objects, self._indexes.after(self._changes)

    def touched(self, before: Indexes, now: Indexes) -> Scope | None:
        """What is to be looked at for it; None: everything."""
        if self._all:
            return None
        services, nodes, tasks = self._touched
        for name in self._moved:
            for tasks_on in (before.by_node.get(name), now.by_node.get(name)):
                services.update(t.service_id for t in (tasks_on or {}).values() if t.service_id)
        if self._moved:
            services.update(now.everywhere)
        scope = Scope(
            frozenset(services), frozenset(nodes), frozenset(tasks), frozenset(self._slots)
        )
        return self._due | scope


def _same_place(old: pb.Node | None, new: pb.Node | None) -> bool:
    """Whether a node is as good a place for tasks as it was, whatever else changed."""
    if old is None or new is None:
        return False
    return (
        (old.status.state, old.status.addr) == (new.status.state, new.status.addr)
        and old.spec == new.spec
        and old.description == new.description
    )


def _exchange(
    objects: MapMutation[str, M], name: str, message: M | None
) -> tuple[M | None, M | None]:
    """Put a message in the place of an object, or delete it; what was there, and what is."""
    old = objects.pop(name, None)
    if message is not None:
        objects[name] = message
    return old, message


def _in_order(bucket: Mapping[str, pb.Task] | None) -> Sequence[pb.Task]:
    return [bucket[key] for key in sorted(bucket)] if bucket else []
