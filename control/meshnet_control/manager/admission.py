"""Who makes room when there are too many connections. Pure.

```
 limit for all 4, for a group 2:     a1 b1 a2 | a3 ──> a1 goes      c1 ──> b1 stays, a2 goes
```

A stranger who opens connections by the thousand takes the places of its own older ones: whoever
comes anew is always let in, and no group keeps out another.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Admission(Generic[K]):
    """Connections in the order in which they came, by group.

    Args:
        most: at the same time.
        most_of_group: of one group at the same time.
    """

    def __init__(self, most: int, most_of_group: int) -> None:
        self._most, self._most_of_group = most, most_of_group
        self._groups: dict[str, dict[K, None]] = {}
        self._group_of: dict[K, str] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._group_of)

    def add(self, key: K, group: str) -> K | None:
        """Let one in.

        Returns:
            The one that has to go for it, no longer counted: the oldest of the same group, or of
            the group that holds most; None when there is room.
        """
        goes: K | None = None
        if len(self._groups.get(group, ())) >= self._most_of_group:
            goes = next(iter(self._groups[group]))
        elif len(self._group_of) >= self._most:
            largest = max(self._groups, key=lambda name: len(self._groups[name]))
            goes = next(iter(self._groups[largest]))
        if goes is not None:
            self.remove(goes)
        self._groups.setdefault(group, {})[key] = None
        self._group_of[key] = group
        return goes

    def remove(self, key: K) -> None:
        """One has gone; twice is fine."""
        group = self._group_of.pop(key, None)
        if group is None:
            return
        members = self._groups[group]
        del members[key]
        if not members:
            del self._groups[group]
