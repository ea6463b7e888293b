"""A value that follows changes, and is worked out when somebody asks for it. Pure.

    Kept ──after(changes)──> Kept ──after(changes)──> Kept ──now()──> the value: one fold of both

An object that changed twice counts once, from what it was first to what it is last.

Nobody who asks can tell. Of the steps of a decision few ask for the same, and its last picture is
thrown away: what nobody asked for was never worked out.

Be aware: what is worked out for one is not for those before it. Who makes many of one works that
one out first; else ``MOST`` changes are put off at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

V = TypeVar("V")
M = TypeVar("M")
Change: TypeAlias = tuple[str, M | None, M | None]
"""The id of an object, what it was and what it is; None: it is not there."""
Pairs: TypeAlias = Mapping[str, tuple[M | None, M | None]]
"""Objects before and after, by id."""

MOST: Final = 64
"""Changes in a row that are put off."""


class Kept(Generic[V, M]):
    """A value, or the one before it and what has changed since.

    Args:
        start: the value of no objects at all, or what it is made of once it is asked for.
        fold: the value after some changes of the one before them.
        put_off: changes in a row that nobody asked about.
    """

    __slots__ = ("fold", "put_off", "state")

    def __init__(
        self, start: V | After[V, M], fold: Callable[[V, Pairs[M]], V], put_off: int = 0
    ) -> None:
        self.state, self.fold, self.put_off = start, fold, put_off

    def after(self, changes: Sequence[Change[M]]) -> Kept[V, M]:
        """The same after more changes, each object's in order."""
        if not changes:
            return self
        if self.put_off >= MOST:
            self.now()
        return Kept(After(self, changes), self.fold, self.put_off + 1)

    def now(self) -> V:
        """The value."""
        state = self.state
        if not isinstance(state, After):
            return state
        put_off: list[Sequence[Change[M]]] = []
        while isinstance(state, After):
            put_off.append(state.changes)
            state = state.before.state
        pairs: dict[str, tuple[M | None, M | None]] = {}
        for changes in reversed(put_off):
            for name, old, new in changes:
                pairs[name] = (pairs[name][0] if name in pairs else old), new
        self.state, self.put_off = self.fold(state, pairs), 0
        return self.state


class After(Generic[V, M]):
    """What a value is made of once it is asked for."""

    __slots__ = ("before", "changes")

    def __init__(self, before: Kept[V, M], changes: Sequence[Change[M]]) -> None:
        self.before, self.changes = before, changes
