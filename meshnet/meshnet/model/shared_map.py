"""A mapping that never changes and shares most of itself with the one it was made from. Pure.

```
 before: [b0][b1][b2] … [b1023]        a change of one key copies the row of buckets and one bucket
 after:   |   |  [b2']    |            of it; the others are the same objects
```
So a change of one entry among n costs about sqrt(n), and so does ``difference``: buckets that are
the same object are equal. Persistent maps of libraries (immutables, pyrsistent) share as well, but
do not tell two of them apart without walking both.

Be aware: values are compared by identity first and by equality then, so what is equal is no change;
the order of entries is no order at all.
"""

from __future__ import annotations

from collections.abc import (
    Collection,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    ValuesView,
)
from itertools import chain
from typing import Any, Final, TypeVar, cast

K = TypeVar("K")
V = TypeVar("V")
_NARROWEST: Final = 16
_ABSENT: Final[Any] = object()


class SharedMap(Mapping[K, V]):
    """What ``dict(entries)`` holds; ``changed`` makes another one of it.

    Attributes:
        buckets: a power of two of them; none is ever changed.
        size: how many entries they have.
    """

    __slots__ = ("buckets", "size")

    def __init__(self, entries: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        """All of it; as large as that."""
        whole = dict(entries)
        width = _NARROWEST
        while len(whole) > width * width:
            width *= 4
        made: list[dict[K, V]] = [{} for _ in range(width)]
        for key, value in whole.items():
            made[hash(key) & width - 1][key] = value
        self.buckets: Sequence[Mapping[K, V]] = made
        self.size = len(whole)

    def changed(self, put: Mapping[K, V], drop: Iterable[K] = ()) -> SharedMap[K, V]:
        """The same without ``drop`` and with ``put``; itself when that is no change."""
        copied: dict[int, dict[K, V]] = {}
        mask, size = len(self.buckets) - 1, self.size

        def bucket_of(key: K) -> dict[K, V]:
            at = hash(key) & mask
            if at not in copied:
                copied[at] = dict(self.buckets[at])
            return copied[at]

        for key in drop:
            if key not in put and key in self:
                bucket = bucket_of(key)
                size -= key in bucket
                bucket.pop(key, None)
        for key, value in put.items():
            had = self.get(key, _ABSENT)
            if not _same(had, value):
                bucket_of(key)[key] = value
                size += had is _ABSENT
        if not copied:
            return self
        buckets = list(self.buckets)
        for at, bucket in copied.items():
            buckets[at] = bucket
        made: SharedMap[K, V] = SharedMap.__new__(SharedMap)
        made.buckets, made.size = buckets, size
        return SharedMap(made) if size > len(buckets) ** 2 else made

    def __getitem__(self, key: K) -> V:
        return self.buckets[hash(key) & len(self.buckets) - 1][key]

    def get(self, key: object, default: Any = None) -> Any:  # noqa: ANN401 - as dict's
        """Its value, or ``default``."""
        bucket = self.buckets[hash(key) & len(self.buckets) - 1]
        return cast("Mapping[object, V]", bucket).get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self.buckets[hash(key) & len(self.buckets) - 1]

    def __iter__(self) -> Iterator[K]:
        return chain.from_iterable(self.buckets)

    def __len__(self) -> int:
        return self.size

    def items(self) -> ItemsView[K, V]:
        """Its entries."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """Its values."""
        return _Values(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return len(self) == len(other) and not difference(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SharedMap({dict(self)!r})"


class _Items(ItemsView[K, V]):
    """Without a look-up of each key."""

    def __init__(self, shared: SharedMap[K, V]) -> None:
        super().__init__(shared)
        self._shared = shared

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return chain.from_iterable(bucket.items() for bucket in self._shared.buckets)


class _Values(ValuesView[V]):
    """Without a look-up of each key."""

    def __init__(self, shared: SharedMap[Any, V]) -> None:
        super().__init__(shared)
        self._shared = shared

    def __iter__(self) -> Iterator[V]:
        return chain.from_iterable(bucket.values() for bucket in self._shared.buckets)


def shared(entries: Mapping[K, V]) -> SharedMap[K, V]:
    """The same as a map that shares; itself when it is one."""
    return entries if isinstance(entries, SharedMap) else SharedMap(entries)


def difference(before: Mapping[K, V], now: Mapping[K, V]) -> Collection[K]:
    """Keys whose values differ, or that are in one of the two alone."""
    if before is now:
        return ()
    if not isinstance(before, SharedMap) or not isinstance(now, SharedMap):
        return _difference(before, now)
    if len(before.buckets) != len(now.buckets):
        return _difference(dict(before), dict(now))
    found: list[K] = []
    for had, has in zip(before.buckets, now.buckets, strict=True):
        if had is not has:
            found += _difference(had, has)
    return found


def _difference(before: Mapping[K, V], now: Mapping[K, V]) -> list[K]:
    others = [key for key, value in now.items() if before.get(key, _ABSENT) is not value]
    found = [key for key in others if not _same(before.get(key, _ABSENT), now[key])]
    if len(now) - len(found) == len(before):
        return found  # every key of before is in now, with its value
    return [*found, *(key for key in before if key not in now)]


def _same(one: object, other: object) -> bool:
    return one is other or (one is not _ABSENT and one == other)
