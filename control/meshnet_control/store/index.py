"""Finds the objects of a kind that are asked for (``Where``); the others cost nothing. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from meshnet_control.api.control_pb2 import Network, Node, Task
from meshnet_control.store.store import Object, Where


def name_of(stored: Object) -> str:
    """The name users know an object by: a node's host name, a task's ``web.1.<id>``."""
    if isinstance(stored, Node):
        return str(stored.description.hostname)
    if isinstance(stored, Task):
        return task_name(stored)
    return str(stored.spec.name)


def task_name(task: Task) -> str:
    """``web.1.<task id>``, or ``web.<node id>.<task id>`` of a global service.

    Source: swarmkit api/naming/naming.go.
    """
    if task.name:
        return str(task.name)
    return f"{task.service_name}.{task.slot or task.node_id}.{task.id}"


def brief(task: Task, networks: Collection[str] = ()) -> Task:
    """What a task is counted by, and its addresses on some networks."""
    short = Task(
        id=task.id,
        service_id=task.service_id,
        node_id=task.node_id,
        slot=task.slot,
        desired_state=task.desired_state,
        displaced=task.displaced,
    )
    short.status.state = task.status.state
    if task.HasField("job_iteration"):
        short.job_iteration.CopyFrom(task.job_iteration)
    for each in task.networks_attachments:
        if each.network.id in networks:
            short.networks_attachments.add(
                network=Network(id=each.network.id), addresses=each.addresses
            )
    return short


class Index:
    """Objects of one kind: ids by name, and those of tasks by service, node and network."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        self._services: dict[str, set[str]] = {}
        self._nodes: dict[str, set[str]] = {}
        self._networks: dict[str, set[str]] = {}

    def put(self, message: Object, old: Object | None) -> None:
        """An object is there, or has changed."""
        keys = list(self._keys(message))
        if old is not None:
            if keys == list(self._keys(old)):
                return
            self.drop(old)
        for index, key in keys:
            index.setdefault(key, set()).add(message.id)

    def drop(self, message: Object) -> None:
        """An object is gone."""
        for index, key in self._keys(message):
            ids = index[key]
            ids.discard(message.id)
            if not ids:
                del index[key]

    def found(self, objects: Mapping[str, Object], where: Where) -> Iterable[Object]:
        """The objects that meet the conditions."""
        if where.meant:
            ids: Iterable[str] = self._meant(objects, where.meant)
        elif where.services:
            ids = (name for key in where.services for name in self._services.get(key, ()))
        elif where.nodes:
            ids = (name for key in where.nodes for name in self._nodes.get(key, ()))
        elif where.networks:
            each = (self._networks.get(key, ()) for key in where.networks)
            ids = set().union(*each)
        else:
            return objects.values()
        there = (objects[name] for name in ids)
        return (each for each in there if _holds(each, where))

    def _keys(self, message: Object) -> Iterator[tuple[dict[str, set[str]], str]]:
        yield self._names, name_of(message)
        if isinstance(message, Task):
            yield self._services, message.service_id
            yield self._nodes, message.node_id
            for network in _networks(message):
                yield self._networks, network

    def _meant(self, objects: Mapping[str, Object], said: str) -> Iterable[str]:
        if said in objects:
            return (said,)
        return self._names.get(said) or [name for name in objects if name.startswith(said)]


def _holds(message: Object, where: Where) -> bool:
    if not isinstance(message, Task):
        return True
    return (
        (not where.services or message.service_id in where.services)
        and (not where.nodes or message.node_id in where.nodes)
        and (not where.networks or not where.networks.isdisjoint(_networks(message)))
    )


def _networks(task: Task) -> set[str]:
    return {each.network.id for each in task.networks_attachments}
