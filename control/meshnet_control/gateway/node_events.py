"""Containers of this node come onto overlay networks and off them, as events of scope ``local``.

```
 what this node knows of its containers' endpoints, before and now ──> connect, disconnect
```
The engine tells the same of its own networks; what is on ours it does not know. One ``remember``
for a gateway; the last ``MOST_PAST`` are kept for who asks for the past, as in ``cluster_events``.
What was there when meshnetd started is no event.

Source: moby daemon/container_operations.go (connectToNetwork, disconnectFromNetwork) and
daemon/events.go (LogNetworkEventWithAttributes).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from meshnet_control.dataplane.overlays import Overlays
from meshnet_control.gateway.cluster_events import MOST_PAST, Event, Listener, tell
from meshnet_control.gateway.node_control import NodeControl
from meshnet_control.gateway.routes import swarm_events

Place: TypeAlias = tuple[str, str]
"""Container and network, by ID."""
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Places:
    """Where this node's containers are."""

    names: Mapping[Place, str]
    """The network's name, by place."""
    sure: bool
    """All that survived a restart of meshnetd is known."""


def places(known: Overlays | None) -> Places:
    """Where they are, as far as this node knows; PURE."""
    if known is None:
        return Places({}, sure=False)
    there = (each for mine in known.endpoints.values() for each in mine)
    names = {(each.container, str(each.network)): known.name_of(each.network) for each in there}
    return Places(names, sure=known.snapshot.complete)


def events(before: Places, now: Places, at: int) -> Iterator[dict[str, Any]]:
    """What happened between two looks, as Engine JSON; PURE.

    Args:
        before: at the look before.
        now: at this one.
        at: Unix nanoseconds.
    """
    if not before.sure:
        return
    for action, one, other in (("disconnect", before, now), ("connect", now, before)):
        for container, network in sorted(one.names.keys() - other.names.keys()):
            name = one.names[container, network]
            yield {
                "Type": "network",
                "Action": action,
                "Actor": {
                    "ID": network,
                    "Attributes": {"container": container, "name": name, "type": "overlay"},
                },
                "scope": "local",
                "time": at // _SECOND_NS,
                "timeNano": at,
            }


class NodeEvents:
    """Where clients listen."""

    def __init__(self, wall: Callable[[], int] = time.time_ns) -> None:
        self._wall = wall
        self._past: deque[Event] = deque(maxlen=MOST_PAST)
        self._listeners: set[Listener] = set()

    async def remember(self, node: NodeControl) -> None:
        """Look again whenever something changes, until cancelled."""
        known, before = None, places(None)
        while True:
            seen = node.overlays()
            if seen is not known:
                known, now = seen, places(seen)
                self._tell(events(before, now, self._wall()))
                before = now
            await node.overlays_changed()

    @contextmanager
    def listen(self, cut: Callable[[], None]) -> Iterator[Listener]:
        """Everything from now on.

        Args:
            cut: called once the client has fallen behind too far; nothing more will come.
        """
        listener = Listener(cut, tuple(self._past))
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def _tell(self, said: Iterable[dict[str, Any]]) -> None:
        for each in said:
            event = Event(each, swarm_events.line(each))
            self._past.append(event)
            for listener in tuple(self._listeners):
                tell(self._listeners, listener, event)
