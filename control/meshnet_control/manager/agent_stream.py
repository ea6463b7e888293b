"""One agent's stream, as who writes to it sees it: what was sent, what is due, what was taken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import assignments
from meshnet_control.cluster.gossip_ring import Ring
from meshnet_control.cluster.news import Touched, news

Since: TypeAlias = Callable[[assignments.Objects], Touched | None]
"""What changed after some objects; None: too long ago."""


class ToldRing:
    """Which ring a node works with, as it acknowledged what it was told."""

    def __init__(self) -> None:
        self.ring: Ring = ()
        """The one that it acknowledged."""
        self.since = 0.0
        """When it did so, seconds on the clock of who hears it."""
        self._told: Ring | None = None
        """The last one that was sent."""
        self._sent: deque[tuple[int, Ring]] = deque()

    def sent(self, version: int, ring: Ring) -> None:
        """Each message has the whole ring; one that is new is waited for."""
        if ring != self._told:
            self._told = ring
            self._sent.append((version, ring))

    def acknowledged(self, version: int, now: float) -> bool:
        """The node has taken what it was told up to this version; whether its ring is new."""
        before = self.ring
        while self._sent and self._sent[0][0] <= version:
            _, self.ring = self._sent.popleft()
        if self.ring != before:
            self.since = now
        return self.ring != before


class AgentStream:
    """A stream that is open."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.beat = False
        self.look = True
        """What is new may concern the node."""
        self.seen: assignments.Objects | None = None
        self.closed = False
        self.removed = False
        self.referred = False
        """This manager leads no more."""
        self.version = 0
        """Of the last assignments that were sent."""
        self.needs: assignments.Needs | None = None
        """What the node needs of what was seen; None: nothing was sent yet."""
        self.gossip, self.overlays = ToldRing(), ToldRing()
        """Of keys that the node has."""

    def acknowledged(self, version: int, now: float) -> bool:
        """The node has taken what it was told up to this version; whether it has other keys.

        A version that was not sent on this stream is of another one, and says nothing.
        """
        if version > self.version:
            return False
        gossip = self.gossip.acknowledged(version, now)
        overlays = self.overlays.acknowledged(version, now)
        return gossip or overlays

    @property
    def over(self) -> bool:
        """Nothing more is read or written."""
        return self.closed or self.referred

    def due(
        self, objects: assignments.Objects, node_id: str, since: Since
    ) -> pb.SessionReply | None:
        """The next message; None when there is nothing to say."""
        if self.removed:
            self.closed = True
            return pb.SessionReply(removed=True)
        beat, self.beat = self.beat, False
        if self.look and node_id in objects.nodes:
            self.look = False
            message = self._news(objects, node_id, since)
            self.seen = objects
            if message is not None:
                self.version += 1
                message.version = self.version
                self.gossip.sent(self.version, tuple(message.gossip_keys))
                self.overlays.sent(self.version, tuple(message.esp_keys))
                return pb.SessionReply(assignments=message)
        return pb.SessionReply() if beat else None

    def _news(
        self, objects: assignments.Objects, node_id: str, since: Since
    ) -> pb.Assignments | None:
        touched = since(self.seen) if self.seen is not None else None
        if self.seen is None or self.needs is None or touched is None:
            self.needs = assignments.needs_of(objects, node_id)
            return assignments.node_assignments(objects, node_id)
        message, self.needs = news(self.seen, objects, node_id, self.needs, touched)
        return message
