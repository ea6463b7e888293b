"""Whether a store in etcd can write: since when nobody leads, and what is said of it. Pure.

An election takes one to two seconds and is no trouble: who writes or reads waits for it. What takes
longer is a lost quorum: then reads answer what was last known and writes fail at once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from meshnet_control.store.store import NO_LEADER

ELECTION_S: Final = 3.0
"""Without a leader for so long, the managers that are left are too few."""


class Quorum:
    """What this manager knows of its cluster's leader.

    Args:
        wall: seconds since 1970.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._clock = wall
        self._since: float | None = None
        self._wall = 0.0
        self._others: dict[str, str] = {}

    def answered(self) -> None:
        """Something was written or read with the consent of most managers."""
        self._since = None

    def unanswered(self, now: float) -> None:
        """A try of that kind failed.

        Args:
            now: monotonic seconds.
        """
        if self._since is None:
            self._since, self._wall = now, self._clock()

    def refused(self, what: str, why: str) -> None:
        """Something else keeps writes from being done; ``why`` empty: not any more."""
        if why and not self._others and self._since is None:
            self._wall = self._clock()
        if why:
            self._others[what] = why
        else:
            self._others.pop(what, None)

    @property
    def doubtful(self) -> bool:
        """The last try failed."""
        return self._since is not None

    def lost(self, now: float) -> bool:
        """Nobody waits any more."""
        return self._since is not None and now - self._since >= ELECTION_S

    def trouble(self, now: float) -> str:
        """What a person is told; empty: nothing is wrong."""
        why = NO_LEADER if self.lost(now) else next(iter(self._others.values()), "")
        if not why:
            return ""
        since = datetime.fromtimestamp(self._wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"store: {why} (since {since})"
