"""One whole-state exchange over a stream: frames in, frames out. It performs no I/O.

```
 opener    sync…, end ──────────────────────────────>
           <──────────────── sync…, deltas…, end       acceptor
           deltas…, end ────────────────────────────>
```
Every frame is sealed for itself and taken whole or not at all, so no more than one frame is ever
held of a peer that has not shown its key. A turn that would be too long ends with ``more``; the
rest comes with the next exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from meshnet.errors import WireError
from meshnet.gossip import wire
from meshnet.gossip.anti_entropy import AntiEntropy
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.members import Address
from meshnet.gossip.membership import Membership
from meshnet.gossip.messages import End, Message, Sync
from meshnet.gossip.table import Delta
from meshnet.model.ids import NodeId

_ROWS: Final = 256
"""Members in one sync: well below a frame."""


@dataclass(frozen=True, slots=True)
class Sealing:
    """Seals and opens with the key ring of the moment; both raise WireError without one."""

    seal: Callable[[Sequence[bytes]], bytes]
    open: Callable[[bytes, Address], tuple[Message, ...]]


class Exchange:
    """One side of one stream.

    Args:
        config: sizes.
        peer: the other side.
        opener: whether this side opened the stream.
        sealing: seals and opens frames.
        membership: who takes part.
        entropy: everybody's records.
        finished: called on the opener's side when the peer told all (False) or had to cut (True).
    """

    def __init__(
        self,
        config: GossipConfig,
        peer: Address,
        *,
        opener: bool,
        sealing: Sealing,
        membership: Membership,
        entropy: AntiEntropy,
        finished: Callable[[bool], None],
    ) -> None:
        self._config = config
        self._peer = peer
        self._opener = opener
        self._sealing = sealing
        self._membership = membership
        self._entropy = entropy
        self._finished = finished
        self._sender: NodeId | None = None
        self._digest: dict[NodeId, tuple[int, int]] = {}
        self._replied = False
        self.done = False
        """Nothing more is to come from the peer."""

    def begin(self, now: float) -> list[bytes]:
        """The opener's first turn.

        Raises:
            WireError: there is no key yet.
        """
        return self._turn(self._state(now))

    def receive_frame(self, data: bytes, now: float) -> list[bytes]:
        """Takes a frame in; returns the frames of our turn when the peer's is over.

        Raises:
            WireError: not ours, or out of turn; nothing of it was taken, close the stream.
        """
        messages = self._sealing.open(data, self._peer)
        self._check(messages)
        for message in messages:
            match message:
                case Sync():
                    self._sender = message.sender
                    self._digest.update(message.versions)
                    self._membership.heard_rows(message.rows, message.sender, now)
                case Delta():
                    self._entropy.heard_delta(message, self._peer, now)
                case End(more):
                    return self._ended(now, more=more)
                case _:
                    pass
        return []

    # ---- inside ----

    def _check(self, messages: Sequence[Message]) -> None:
        """The whole frame fits into the turn, before any of it is taken."""
        known = self._sender
        for place, message in enumerate(messages):
            last = place == len(messages) - 1
            match message:
                case Sync(sender) if known in {None, sender} and not self._replied:
                    known = sender
                case Delta() if known is not None and (self._opener or self._replied):
                    pass
                case End() if last and known is not None and not self.done:
                    pass
                case _:
                    raise WireError(self._peer[0], "unexpected message on a stream")

    def _ended(self, now: float, *, more: bool) -> list[bytes]:
        if self._replied:
            self.done = True
            return []
        self._replied = True
        if self._sender is not None:
            self._entropy.synced_with(self._sender, self._digest, now)
        deltas = self._entropy.lacking(self._digest)
        if not self._opener:
            return self._turn(chain(self._state(now), deltas))
        self.done = True
        self._finished(more)
        return self._turn(deltas)

    def _state(self, now: float) -> Iterator[Message]:
        me = self._membership.me.id
        rows = self._membership.rows(now)
        for start in range(0, len(rows), _ROWS):
            some = tuple(rows[start : start + _ROWS])
            yield Sync(me, some, self._entropy.table.versions(row.id for row in some))

    def _turn(self, messages: Iterable[Message]) -> list[bytes]:
        room = self._config.frame_bytes - wire.OVERHEAD - wire.LIST_HEAD - 2
        frames: list[bytes] = []
        held: list[bytes] = []
        left, total, more = room, 0, False
        for message in messages:
            encoded = wire.encode(message)
            total += len(encoded)
            if total > self._config.turn_bytes and isinstance(message, Delta):
                more = True
                break
            if held and (len(encoded) > left or len(held) == wire.MESSAGES - 1):
                frames.append(self._sealing.seal(held))
                held, left = [], room
            held.append(encoded)
            left -= len(encoded)
        held.append(wire.encode(End(more)))
        frames.append(self._sealing.seal(held))
        return frames
