"""What every part of the control API works with: the store, one writer at a time, a clock, chance.

Reads take no lock. A write reads what it depends on, decides and commits under one lock, and hands
the store the version it has read: what a manager elsewhere or the orchestrator wrote in between is
never overwritten, the write is decided on again (``written``).

The version that users see, and that their updates must name, moves only by what users ask for:

    create, version 41 ── addresses given ── update at 41: fine, version 43 ── update at 41: refused
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

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
from meshnet_control.store.index import name_of
from meshnet_control.store.store import Delete, Object, OutOfSequenceError, Put, Store, Where

T = TypeVar("T", Cluster, Config, Network, Node, Secret, Service, Task)
P = ParamSpec("P")
R = TypeVar("R")
TRIES: Final = 20
"""Of a write that others keep forestalling; each of them takes milliseconds."""


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

    async def all(self, kind: type[T], where: Where | None = None) -> list[T]:
        """The objects of a kind that meet the conditions (None: all), by id."""
        return sorted(await self.store.list(kind, where), key=lambda o: o.id)

    async def find(self, kind: type[T], reference: str) -> T:
        """The object meant by an id, a name or a unique id prefix.

        Raises:
            ControlError: none, or several.
        """
        word = kind.DESCRIPTOR.name.lower()
        exact: T | None = await self.store.get(kind, reference)
        if exact is not None:
            return exact
        found = await self.all(kind, Where(meant=reference)) if reference else []
        return lookup.find(word, found, reference, name_of)

    def new_id(self) -> str:
        """A fresh object id."""
        return new_id(self.rng)

    def timestamp(self) -> Timestamp:
        """Now, as objects carry it."""
        now = Timestamp()
        now.FromNanoseconds(int(self.wall() * 1e9))
        return now

    async def put(self, *objects: Object, unchanged: Sequence[Object] = ()) -> None:
        """Write what a user asked for; each object must be as it was read (or not be there yet).

        Args:
            objects: to write; each gets a new version that users see.
            unchanged: what the decision rests on, too.

        Raises:
            OutOfSequenceError: one of them changed meanwhile; see ``written``.
        """
        expect = {(type(o), o.id): o.version.index for o in (*objects, *unchanged)}
        for each in objects:
            each.version.ClearField("asked")
        await self.store.commit([Put(o) for o in objects], expect=expect)

    async def delete(self, objects: Sequence[T]) -> None:
        """Remove objects; gone already is success."""
        if objects:
            await self.store.commit([Delete(type(o), o.id) for o in objects])


class Writer(Protocol):
    """A part of the control API that writes."""

    _access: Access


W = TypeVar("W", bound=Writer)


def written(
    decide: Callable[Concatenate[W, P], Awaitable[R]],
) -> Callable[Concatenate[W, P], Coroutine[Any, Any, R]]:
    """A method that reads, decides and writes: one at a time, again when others wrote in between.

    Raises:
        ControlError: they did every time (500, "update out of sequence").
    """

    @wraps(decide)
    async def deciding(writer: W, /, *args: P.args, **kwargs: P.kwargs) -> R:
        access = writer._access  # noqa: SLF001 - a method's decorator
        async with access.writing:
            for _ in range(TRIES):
                try:
                    return await decide(writer, *args, **kwargs)
                except OutOfSequenceError:
                    continue
        raise out_of_sequence()

    return deciding


def check_version(stored: T, asked: int) -> None:
    """Refuse an update made from an older reading of what users asked for.

    Raises:
        ControlError: 500, "update out of sequence".
    """
    if (stored.version.asked or stored.version.index) != asked:
        raise out_of_sequence()
