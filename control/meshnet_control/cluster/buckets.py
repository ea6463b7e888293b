"""Maps that share what they have in common, and maps of such maps. Pure.

    Map: "web" -> Map(t1, t2, t3)   ──edit: drop t2 of web──>   "web" -> Map(t1, t3)
         "db"  -> Map(t4)                                       "db"  -> the same Map(t4)

An edit costs what it changes, not what is there; the map before stays as it is.

Be aware: the order of a Map is by hash: whoever decides by it sorts first. A mapping is taken for
unchanged when it is the same object.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeAlias, TypeVar

from immutables import Map, MapMutation

K = TypeVar("K", bound=Hashable)
Id = TypeVar("Id", bound=Hashable)
V = TypeVar("V")

Buckets: TypeAlias = Map[K, Map[Id, V]]
"""Items by key, and by their ids within one; a key without items is not there."""


class BucketsEdit(Generic[K, Id, V]):
    """Buckets on their way to others.

    Args:
        start: what there is.
    """

    def __init__(self, start: Buckets[K, Id, V]) -> None:
        self._start = start
        self._open: dict[K, MapMutation[Id, V]] = {}

    def put(self, key: K, item: Id, value: V) -> None:
        """Enter an item, or replace it."""
        self._of(key)[item] = value

    def drop(self, key: K, item: Id) -> None:
        """Strike out an item; one that is not there is no change."""
        self._of(key).pop(item, None)

    def finish(self) -> Buckets[K, Id, V]:
        """What it has come to; not to be edited further."""
        if not self._open:
            return self._start
        outer = self._start.mutate()
        for key, mutation in self._open.items():
            inner = mutation.finish()
            if inner:
                outer[key] = inner
            else:
                outer.pop(key, None)
        return outer.finish()

    def _of(self, key: K) -> MapMutation[Id, V]:
        found = self._open.get(key)
        if found is None:
            there = self._start.get(key)
            found = self._open[key] = (Map[Id, V]() if there is None else there).mutate()
        return found
