"""One exchange of the whole state over a stream: frames in, frames out. It performs no I/O.

```
 opener    hello, end ──────────────────────────────>
           <───────────────────── hello, sync…, end    acceptor
           sync…, deltas…, end ─────────────────────>
           <─────────────────────────── deltas…, end
```
A hello has the fingerprints of the buckets. Of what is in buckets that are equal nothing is said,
so an exchange of two that agree is four small frames, whatever the number of members. The opener
names the networks that it would hear of, also where nobody knows yet that it takes part: so who
begins to has all that is said there with one exchange.
Every frame is sealed for itself and taken whole or not at all, so no more than one frame is ever
held of a peer that has not shown its key. A turn that would be too long ends with ``more``; the
rest comes with the next exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import chain
from typing import Final

from meshnet.errors import WireError
from meshnet.gossip import wire
from meshnet.gossip.anti_entropy import AntiEntropy
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.members import Address
from meshnet.gossip.membership import Membership
from meshnet.gossip.messages import NETWORKS, End, Hello, Message, Sync
from meshnet.gossip.records import Delta
from meshnet.gossip.sealer import Sealer
from meshnet.gossip.shares import TO_ALL, Share, parts
from meshnet.model.ids import NodeId

_ROWS: Final = 256
"""Members in one sync: well below a frame."""


class Exchange:
    """One side of one stream.

    Args:
        config: sizes.
        peer: the other side.
        opener: whether this side opened the stream.
        sealer: seals and opens frames.
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
        sealer: Sealer,
        membership: Membership,
        entropy: AntiEntropy,
        finished: Callable[[bool], None],
    ) -> None:
        self._config = config
        self._peer = peer
        self._opener = opener
        self._sealer = sealer
        self._membership = membership
        self._entropy = entropy
        self._finished = finished
        self._sender: NodeId | None = None
        self._digest: dict[Share, tuple[int, int]] = {}
        self._differing: Set[int] = frozenset()
        self._networks: Set[str] = entropy.shared(peer) if opener else frozenset()
        self._differing_shares: Set[int] = frozenset()
        self._replied = False
        self._cut = False
        self.done = False
        """Nothing more is to come from the peer."""

    def begin(self, now: float) -> list[bytes]:
        """The opener's first turn.

        Raises:
            WireError: there is no key yet.
        """
        return self._turn([self._hello()])

    def receive_frame(self, data: bytes, now: float) -> list[bytes]:
        """Takes a frame in; returns the frames of our turn when the peer's is over.

        Raises:
            WireError: not ours, or out of turn; nothing of it was taken, close the stream.
        """
        messages = self._sealer.open(data, self._peer)
        self._check(messages)
        for message in messages:
            match message:
                case Hello(sender):
                    self._sender = sender
                    self._compare(message)
                case Sync(sender, rows, versions):
                    self._membership.heard_rows(rows, sender, self._peer, now)
                    self._digest.update(
                        (share, mark) for share, mark in versions.items() if self._is_known(share)
                    )
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
                case Hello(sender) if known is None:
                    known = sender
                case Sync(sender) if known == sender and self._replied is not self._opener:
                    pass
                case Delta() if self._replied:
                    pass
                case End() if last and known is not None and not self.done:
                    pass
                case _:
                    raise WireError(self._peer[0], "unexpected message on a stream")

    def _ended(self, now: float, *, more: bool) -> list[bytes]:
        if self._replied:
            self.done = True
            if self._opener:
                self._finished(more or self._cut)
                return []
            self._entropy.synced(now)
            known = dict.fromkeys(self._shares_in_question(), (0, 0)) | self._digest
            return self._turn(self._entropy.lacking(known))
        self._replied = True
        if not self._opener:
            return self._turn(chain([self._hello()], self._state(now)))
        self._entropy.synced(now)
        # The acceptor named what it knows in these buckets; what it does not name it hears of now.
        about = [*self._in_question(), *self._shares_in_question()]
        known = {each: self._digest.get(each, (0, 0)) for each in about}
        return self._turn(chain(self._state(now), self._entropy.lacking(known)))

    def _hello(self) -> Hello:
        mine, table = self._membership, self._entropy.table
        return Hello(
            mine.me.id,
            mine.sums.buckets,
            table.summed().buckets,
            tuple(sorted(self._networks)[:NETWORKS]),
            table.sums_of(self._networks).buckets,
        )

    def _compare(self, theirs: Hello) -> None:
        """Where we differ; of the networks that the opener named and both hear of."""
        table = self._entropy.table
        heard = table.audiences.heard(self._membership.me.id)
        self._networks = frozenset(theirs.networks) & heard
        self._differing_shares = table.sums_of(self._networks).differing(theirs.shares)
        members = self._membership.sums.differing(theirs.members)
        self._differing = members | table.summed().differing(theirs.records)

    def _state(self, now: float) -> Iterator[Message]:
        """What is in the buckets that differ."""
        me = self._membership.me.id
        members = self._in_question()
        for start in range(0, len(members), _ROWS):
            some = members[start : start + _ROWS]
            rows = tuple(self._membership.rows(some, now))
            yield Sync(me, rows, self._entropy.table.versions(some))
        shares = self._shares_in_question()
        for start in range(0, len(shares), _ROWS):
            yield Sync(me, (), self._entropy.table.versions(shares[start : start + _ROWS]))

    def _is_known(self, share: Share) -> bool:
        """Whether there is anything to say of it."""
        owner, network = parts(share)
        return owner in self._membership.all and network in {TO_ALL, *self._networks}

    def _in_question(self) -> list[NodeId]:
        return self._membership.within(self._differing)

    def _shares_in_question(self) -> list[Share]:
        """On networks, in the buckets that differ; and what the peer named of them."""
        known = self._entropy.shares_in(self._differing_shares, self._networks)
        named = [share for share in self._digest if parts(share)[1] in self._networks]
        return list(dict.fromkeys([*known, *named]))

    def _turn(self, messages: Iterable[Message]) -> list[bytes]:
        room = self._config.frame_bytes - wire.OVERHEAD - wire.LIST_HEAD - 2
        frames: list[bytes] = []
        held: list[bytes] = []
        left, total, more = room, 0, False
        share: Share | None = None
        for message in messages:
            encoded = wire.encode(message)
            if isinstance(message, Delta) and message.share != share:
                if share is not None and total > self._config.turn_bytes:
                    more = True
                    break
                share = message.share  # it goes whole: a part proves nothing
            total += len(encoded)
            if held and (len(encoded) > left or len(held) == wire.MESSAGES - 1):
                frames.append(self._sealer.seal(held))
                held, left = [], room
            held.append(encoded)
            left -= len(encoded)
        self._cut = more
        held.append(wire.encode(End(more)))
        frames.append(self._sealer.seal(held))
        return frames
