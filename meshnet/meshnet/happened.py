"""What befell this host lately and was put right: a short memory, for ``meshnet status``.

And what changed, by whom, and when it was put right: a longer one, for ``meshnet events``.

Who looks after something going wrong looks for what it was: a firewall that was reloaded, a clock
that was set, a host that was away. Sentences are in words the code chose, with names of hosts.

Be aware: it lasts as long as the process.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Final

MOST: Final = 20
"""Kept; older ones are forgotten."""
MOST_CHANGES: Final = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        at: when last, unix seconds.
        what: one sentence.
        times: how often.
    """

    at: float
    what: str
    times: int = 1


class Memory:
    """The newest events, each sentence once; safe from any thread.

    Args:
        wall: unix time, seconds.
        told: of each.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._wall, self._told = wall, told
        self._lock = Lock()
        self._events: dict[str, Event] = {}

    def note(self, what: str) -> None:
        """It happened now."""
        self._told(what)
        with self._lock:
            before = self._events.pop(what, Event(0.0, what, 0))
            self._events[what] = replace(before, at=self._wall(), times=before.times + 1)
            if len(self._events) > MOST:
                del self._events[next(iter(self._events))]

    def recent(self) -> Sequence[Event]:
        """The newest last."""
        with self._lock:
            return tuple(self._events.values())


@dataclass(frozen=True, slots=True)
class Change:
    """Something changed.

    Attributes:
        number: grows, also over a restart.
        at: when, or when it was noticed; unix seconds.
        part: ``cluster``, ``host``, or the reconciler that saw to it.
        who: ``others`` than us, ``meshnet``, ``managers``, ``gossip``, or a host.
        what: words.
        repaired_s: seconds from ``at`` until it was as it should be; negative: nothing to repair.
    """

    number: int
    at: float
    part: str
    who: str
    what: str
    repaired_s: float = -1.0


class Journal:
    """The newest changes in order; safe from any thread.

    Args:
        wall: unix time, seconds.
        most: kept; older ones are forgotten.
    """

    def __init__(self, wall: Callable[[], float] = time.time, most: int = MOST_CHANGES) -> None:
        self._wall = wall
        self._lock = Lock()
        self._changes: deque[Change] = deque(maxlen=most)
        self._number = int(wall() * 1000)

    def record(
        self, part: str, who: str, what: str, *, at: float | None = None, repaired_s: float = -1.0
    ) -> None:
        """It changed ``at`` that moment, or now."""
        with self._lock:
            self._number += 1
            moment = self._wall() if at is None else at
            self._changes.append(Change(self._number, moment, part, who, what, repaired_s))

    def after(self, number: int) -> Sequence[Change]:
        """Those with a greater number, the newest last."""
        with self._lock:
            return tuple(change for change in self._changes if change.number > number)


journal: Final = Journal()
_HERE: Final = Memory(told=lambda what: journal.record("host", "", what))
note = _HERE.note
recent = _HERE.recent
