"""What every part of the control API works with: the store, one writer at a time, a clock, chance.

Reads take no lock. A write reads what it depends on, decides and commits under one lock, and hands
the store the version it has read: a manager elsewhere, or the orchestrator in between, makes it
"update out of sequence", never a lost update.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from meshnet.model.ids import Rng, new_id
from meshnet_control.api.control_pb2 import (
    Cluster,
    Config,
    Network,
    Node,
    Secret,
    Service,
    Task,
)
from meshnet_control.controlapi import lookup
from meshnet_control.controlapi.refusals import out_of_sequence
from meshnet_control.store.store import Delete, OutOfSequenceError, Put, Store

T = TypeVar("T", Cluster, Config, Network, Node, Secret, Service, Task)


@dataclass
class Access:
    """A cluster's store as the control API uses it."""

    store: Store
    rng: Rng
    wall: Callable[[], float]
    """Seconds since 1970, for what users read."""
    conflicting_route: Callable[[str], str | None] = lambda _: None
    """Name of a host route that overlaps a subnet (CIDR), None when there is none."""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def all(self, kind: type[T]) -> list[T]:
        """Every object of a kind, by id."""
        return sorted(await self.store.list(kind), key=lambda o: o.id)

    async def find(self, kind: type[T], reference: str) -> T:
        """The object meant by an id, a name or a unique id prefix.

        Raises:
            ControlError: none, or several.
        """
        word = kind.DESCRIPTOR.name.lower()
        exact: T | None = await self.store.get(kind, reference)
        if exact is not None:
            return exact
        return lookup.find(word, await self.all(kind), reference, name_of)

    def new_id(self) -> str:
        """A fresh object id."""
        return new_id(self.rng)

    def timestamp(self) -> Timestamp:
        """Now, as objects carry it."""
        now = Timestamp()
        now.FromNanoseconds(int(self.wall() * 1e9))
        return now

    async def put(self, *objects: T) -> None:
        """Write objects; each must still have the version it was read with (0: must be new).

        Raises:
            ControlError: one of them changed meanwhile (500, "update out of sequence").
        """
        expect = {(type(o), o.id): o.version.index for o in objects}
        try:
            await self.store.commit([Put(o) for o in objects], expect=expect)
        except OutOfSequenceError:
            raise out_of_sequence() from None

    async def delete(self, objects: Sequence[T]) -> None:
        """Remove objects; gone already is success."""
        if objects:
            await self.store.commit([Delete(type(o), o.id) for o in objects])


def check_version(stored: T, asked: int) -> None:
    """Refuse an update made from an older reading of the object.

    Raises:
        ControlError: 500, "update out of sequence".
    """
    if stored.version.index != asked:
        raise out_of_sequence()


def name_of(stored: Cluster | Config | Network | Node | Secret | Service | Task) -> str:
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
