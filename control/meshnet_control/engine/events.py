"""What the engine says of its containers: read once, where it comes in, and kept until it is taken.

```
 engine ── line ──> parse ──> Event ──> Inbox ── get ──> the agent
                      └─ unreadable ──> RESYNC
```
A line that cannot be read, and more events than are kept, cost a look at everything (``RESYNC``),
never an event that nobody knows was missed, and never the stream.

Source: moby api/types/events, daemon/events.go (``exitCode`` of a ``die`` is text).
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from meshnet import drops
from meshnet.errors import WireError
from meshnet_control.engine.labels import TASK_LABEL

RESYNC: Final = "resync"
"""Action of the event that says: events may have been missed, look again."""
MOST_EVENTS: Final = 4096
"""Kept for a consumer that is busy: 500 containers that all start, die and go leave room."""
UNTAKEN: Final = "engine: events that nobody took in time"
_CODES: Final = range(-(2**31), 2**31)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a container."""

    action: str
    """``die``, ``start``, ``destroy``, ``health_status: healthy`` … or ``RESYNC``."""
    container: str = ""
    """Container ID, 64 hex digits."""
    task: str = ""
    """Task ID from the container's label, empty when it is not a task."""
    exit_code: int = 0
    """Of a ``die``."""


def parse(line: bytes) -> Event:
    """An event of the engine's stream, whose fields have the types they should have. PURE.

    A ``die`` without an exit code is not taken for a success: it cannot be read.

    Args:
        line: one line, JSON.

    Raises:
        WireError: it cannot be read; ``why`` is one of a few words of ours.
    """
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise _unreadable("no JSON") from None
    if not isinstance(said, dict):
        raise _unreadable("no object")
    action, actor = said.get("Action"), said.get("Actor")
    if not isinstance(action, str) or not action:
        raise _unreadable("no Action")
    if not isinstance(actor, dict) or not isinstance(actor.get("ID"), str) or not actor["ID"]:
        raise _unreadable("no Actor")
    attributes = actor.get("Attributes") or {}
    if not isinstance(attributes, dict):
        raise _unreadable("Attributes are no object")
    task = attributes.get(TASK_LABEL, "")
    if not isinstance(task, str):
        raise _unreadable("the task's label is no text")
    code = _exit_code(attributes.get("exitCode")) if action == "die" else 0
    return Event(action, actor["ID"], task, code)


def _exit_code(said: Any) -> int:  # noqa: ANN401 - any JSON value
    try:
        code = int(said)
    except (ValueError, TypeError, OverflowError):
        raise _unreadable("a die without an exit code") from None
    if isinstance(said, bool | float) or code not in _CODES:
        raise _unreadable("a die without an exit code")
    return code


def _unreadable(why: str) -> WireError:
    return WireError(peer="engine", why=f"event: {why}")


class Inbox:
    """Events between the engine's stream, which must always be read, and who takes them.

    An engine does not wait for a slow reader: it throws away what it could not send within 100 ms
    (moby daemon/events, pubsub), and says nothing. So the stream is read at once, and what is
    thrown away is thrown away here, where it is known.

    Args:
        most: events kept; one more and all of them become one ``RESYNC``.
    """

    def __init__(self, most: int = MOST_EVENTS) -> None:
        self._most = most
        self._events: deque[Event] = deque()
        self._filled = asyncio.Event()
        self._failed: BaseException | None = None

    def put(self, event: Event) -> None:
        """Keep an event; at the bound all are dropped and counted, and ``RESYNC`` is said."""
        if len(self._events) >= self._most:
            drops.count(UNTAKEN, len(self._events) + 1)
            self._events.clear()
            event = Event(RESYNC)
        self._events.append(event)
        self._filled.set()

    def resync(self) -> None:
        """Say ``RESYNC``, unless that is the newest word already."""
        if not self._events or self._events[-1].action != RESYNC:
            self.put(Event(RESYNC))

    def close(self, source: asyncio.Task[None]) -> None:
        """Callback of the task that puts: whoever takes the next event gets its error."""
        if not source.cancelled():
            self._failed = source.exception()
            self._filled.set()

    async def get(self) -> Event:
        """The oldest event, as soon as there is one."""
        while not self._events:
            if self._failed is not None:
                raise self._failed
            self._filled.clear()
            await self._filled.wait()
        return self._events.popleft()
