"""The leader's picture of the cluster, and what a step of the orchestration returns. Pure.

    StoreView ──step(view, now, rng)──> Step(writes, wake_at) ──view.apply(writes)──> the next one

A StoreView is a value: ``apply`` makes a new one and shares what did not change with the old one.

Be aware: the messages in a StoreView are shared too. Copy one before changing it (``changed``).
Secrets and configs are not part of the picture: no step decides anything from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.store.store import Delete, Object, Put

__all__ = ["Delete", "Put", "Step", "StepFunction", "StoreView", "Write", "changed"]

Write: TypeAlias = Put | Delete
_Index: TypeAlias = dict[str, dict[str, pb.Task]]

M = TypeVar("M", pb.Cluster, pb.Node, pb.Service, pb.Task, pb.Network)


@dataclass(frozen=True)
class Step:
    """What one step wants: writes now, and to be called again later."""

    writes: tuple[Write, ...] = ()
    wake_at: float | None = None
    """Unix seconds at which time alone changes the answer; None: only a changed object does."""


StepFunction: TypeAlias = Callable[["StoreView", float, Rng], Step]
"""``step(view, now, rng)``; ``now`` is wall-clock time in Unix seconds."""


def changed(message: M) -> M:
    """A copy of a message of a StoreView, free to be changed."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


class StoreView:
    """Every object a decision needs, with tasks indexed by service and by node.

    Args:
        objects: the objects; of two with the same kind and id the last counts.
    """

    def __init__(self, objects: Iterable[Object] = ()) -> None:
        self._cluster: pb.Cluster | None = None
        self._nodes: dict[str, pb.Node] = {}
        self._services: dict[str, pb.Service] = {}
        self._networks: dict[str, pb.Network] = {}
        self._tasks: dict[str, pb.Task] = {}
        self._by_service: _Index = {}
        self._by_node: _Index = {}
        if writes := [Put(message) for message in objects]:
            self.__dict__.update(self.apply(writes).__dict__)

    @classmethod
    def of(cls, messages: Iterable[Object]) -> StoreView:
        """The StoreView of these objects."""
        return cls(messages)

    @property
    def cluster(self) -> pb.Cluster | None:
        """The cluster; None before there is one."""
        return self._cluster

    @property
    def nodes(self) -> Mapping[str, pb.Node]:
        """Nodes by id."""
        return self._nodes

    @property
    def services(self) -> Mapping[str, pb.Service]:
        """Services by id."""
        return self._services

    @property
    def tasks(self) -> Mapping[str, pb.Task]:
        """Tasks by id, those of services that are gone included."""
        return self._tasks

    @property
    def networks(self) -> Mapping[str, pb.Network]:
        """Cluster networks by id."""
        return self._networks

    def tasks_of_service(self, service_id: str) -> Sequence[pb.Task]:
        """The tasks of a service, in the order of their ids; also when the service is gone."""
        return _in_order(self._by_service.get(service_id, {}))

    def tasks_on_node(self, node_id: str) -> Sequence[pb.Task]:
        """The tasks assigned to a node, in the order of their ids; "" for those without a node."""
        return _in_order(self._by_node.get(node_id, {}))

    def apply(self, writes: Iterable[Write]) -> StoreView:
        """The StoreView after these writes; this one stays as it is."""
        new = StoreView()
        new._cluster = self._cluster
        new._nodes, new._services = dict(self._nodes), dict(self._services)
        new._networks, new._tasks = dict(self._networks), dict(self._tasks)
        new._by_service, new._by_node = dict(self._by_service), dict(self._by_node)
        owned: set[tuple[bool, str]] = set()
        for write in writes:
            new._take(write, owned)
        return new

    def _take(self, write: Write, owned: set[tuple[bool, str]]) -> None:
        message = write.message if isinstance(write, Put) else None
        kind = type(write.message) if isinstance(write, Put) else write.kind
        key = write.message.id if isinstance(write, Put) else write.id
        if kind is pb.Task:
            old = self._tasks.pop(key, None)
            for task, put in ((old, False), (message, True)):
                if isinstance(task, pb.Task):
                    self._index(task, owned, put=put)
            if isinstance(message, pb.Task):
                self._tasks[key] = message
        elif kind is pb.Cluster:
            self._cluster = message if isinstance(message, pb.Cluster) else None
        elif kind is pb.Node:
            _set(self._nodes, key, message if isinstance(message, pb.Node) else None)
        elif kind is pb.Service:
            _set(self._services, key, message if isinstance(message, pb.Service) else None)
        elif kind is pb.Network:
            _set(self._networks, key, message if isinstance(message, pb.Network) else None)

    def _index(self, task: pb.Task, owned: set[tuple[bool, str]], *, put: bool) -> None:
        """Enter or strike out a task; a bucket is copied the first time one apply touches it."""
        indexes = ((self._by_service, task.service_id), (self._by_node, task.node_id))
        for index, key in indexes:
            mark = (index is self._by_node, key)
            if mark not in owned:
                owned.add(mark)
                index[key] = dict(index.get(key, {}))
            if put:
                index[key][task.id] = task
            else:
                index[key].pop(task.id, None)


def _set(objects: dict[str, M], key: str, message: M | None) -> None:
    if message is None:
        objects.pop(key, None)
    else:
        objects[key] = message


def _in_order(bucket: dict[str, pb.Task]) -> Sequence[pb.Task]:
    return [bucket[key] for key in sorted(bucket)]
