"""Brings records to those who lack them: at once by a push, for certain by fingerprints.

```
 a record changes ──> what is new to ``fanout`` members, who do the same    within milliseconds
 every interval ────> summary (two fingerprints) to ``fanout`` members      at rest: nothing else
   records differ ──> fingerprints of buckets back
                        <── digest of the owners in those that differ
                      deltas, and a digest of what we lack ourselves ──>
   members differ, or too much is lacking for datagrams ──> a stream
```
Every owner that is remembered is spoken of, the dead too: who takes part is for the receiver to
decide, and a process that starts beside a dead one learns what that one last said. A digest speaks
of the owners that it names and of no other. Nothing is remembered of what a peer has: that would be
a table of all owners for each of all peers. Who gets news on top of something that it lacks asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from meshnet.errors import CapacityError
from meshnet.gossip import packets, wire
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.events import Event, RecordsChanged
from meshnet.gossip.members import Address
from meshnet.gossip.membership import Membership
from meshnet.gossip.messages import ID_LENGTH, NUMBER_MAX, Buckets, DigestMessage, Summary
from meshnet.gossip.news import Outbox
from meshnet.gossip.records import PROOF_BYTES, Delta, cut, total
from meshnet.gossip.refusals import Refusals
from meshnet.gossip.signing import Signer
from meshnet.gossip.table import ForgedError, Table
from meshnet.gossip.timers import Timers
from meshnet.model.ids import NodeId, Rng

_NUMBER_BYTES: Final = 9
_DELTA_HEAD_BYTES: Final = 8 + ID_LENGTH + 4 * _NUMBER_BYTES + 2 + PROOF_BYTES
"""What is around the entries of a delta, at most."""


class AntiEntropy:
    """The records of one node and what its peers know of them.

    Args:
        config: timing and sizes.
        generation: of our own records.
        signer: this node's hand.
        membership: who takes part.
        rng: picks where a digest that is cut begins.
        outbox: where messages go.
        events: where changes are told.
        timers: ``gossip`` deadlines are armed here.
        streams: addresses to exchange everything with.
        refusals: counts what is not taken.
        accepts: whether a record (key, value) may be read; others are passed on and not shown.
        now: the caller's clock.
    """

    def __init__(
        self,
        config: GossipConfig,
        generation: int,
        signer: Signer,
        membership: Membership,
        rng: Rng,
        outbox: Outbox,
        events: deque[Event],
        timers: Timers,
        streams: list[Address],
        refusals: Refusals,
        accepts: Callable[[str, bytes], bool],
        now: float,
    ) -> None:
        self._config = config
        self._generation = generation
        self._membership = membership
        self._rng = rng
        self._outbox = outbox
        self._events = events
        self._timers = timers
        self._streams = streams
        self._refusals = refusals
        self._accepts = accepts
        self._unread: set[tuple[NodeId, str]] = set()
        self._self_id = membership.me.id
        self._changed: dict[NodeId, int] = {}
        self._last_stream = now
        self._repaired = now
        self._room = config.packet_bytes - wire.OVERHEAD - wire.LIST_HEAD - _DELTA_HEAD_BYTES
        self.table = Table(signer)
        self.table.begin(self._self_id, generation)

    def records(self) -> dict[tuple[NodeId, str], bytes]:
        """Records of all that take part; those that are not well formed are not shown."""
        return self._records(self._membership.counted())

    def all_records(self) -> dict[tuple[NodeId, str], bytes]:
        """Also of those that do not take part (any more): what each last said."""
        return self._records(self._membership.all)

    def record(self, owner: NodeId, key: str) -> bytes | None:
        """One record of a member that is known, as ``all_records`` has it."""
        shown = owner in self._membership.all and (owner, key) not in self._unread
        return self.table.value(owner, key) if shown else None

    def told(self, key: str) -> dict[NodeId, bytes]:
        """What all that take part have in their record ``key``."""
        found = {owner: self.record(owner, key) for owner in self._membership.counted()}
        return {owner: value for owner, value in found.items() if value is not None}

    # ---- what we say ----

    def put(self, key: str, value: bytes | None, now: float) -> None:
        """Changes one of our records.

        Raises:
            CapacityError: more than any peer would take; nothing changed.
        """
        before = self.table.version_of(self._self_id)
        if self.table.put(self._self_id, self._generation, key, value, now):
            self._tell_changed()
            self._is_new(self._self_id, before)

    def push(self) -> None:
        """Sends what changed since the last push to some members."""
        if not self._changed:
            return
        changed, self._changed = self._changed, {}
        news = [self.table.above(owner, base) for owner, base in changed.items()]
        for member in self._membership.sample(self._config.gossip_fanout):
            self._send_deltas(member.address, news)

    def gossip_due(self, now: float) -> None:
        """Says what we know, in two numbers."""
        self._timers.arm(now + self._config.gossip_interval_s, "gossip")
        summary = Summary(self._membership.fingerprint(), self.fingerprint())
        for member in self._membership.sample(self._config.gossip_fanout):
            self._outbox.append((member.address, summary))

    def fingerprint(self) -> int:
        """Of everybody's records."""
        return self.table.sums.whole

    # ---- what others say ----

    def heard_summary(self, summary: Summary, peer: Address, now: float) -> None:
        """A peer's two fingerprints."""
        if summary.members != self._membership.fingerprint():
            self.want_stream(peer, now)
        if summary.records != self.fingerprint() and self._may_repair(now):
            self._outbox.append((peer, Buckets(self.table.sums.buckets)))

    def heard_buckets(self, buckets: Buckets, peer: Address, now: float) -> None:
        """A peer's fingerprints of its buckets: it is told what we know in those that differ."""
        owners = self._membership.within(self.table.sums.differing(buckets.records))
        if not self._send_digest(peer, owners):
            self.want_stream(peer, now)

    def heard_digest(
        self, digest: Mapping[NodeId, tuple[int, int]], peer: Address, now: float
    ) -> None:
        """What a peer knows of some owners: it gets what it lacks, and we ask for what we lack."""
        if not self._send_deltas(peer, self.table.lacking(digest)):
            self.want_stream(peer, now)
        about = [owner for owner in digest if owner in self._membership.all]
        if behind := [owner for owner in about if digest[owner] > self.table.version_of(owner)]:
            self._send_digest(peer, behind)

    def heard_delta(self, delta: Delta, peer: Address, now: float) -> None:
        """Records of somebody."""
        if delta.owner == self._self_id:
            self._renew(delta)
            return
        owner = self._membership.all.get(delta.owner)
        hand = self._membership.hand_of(delta.owner)
        if owner is None or hand is None:
            self._refusals.count("records of nobody we know")
            return
        before = self.table.version_of(delta.owner)
        try:
            merged = self.table.merge(delta, now, hand, peer)
        except CapacityError:
            self._refusals.name("one member's records are too many", owner.address)
            return
        except ForgedError:
            self._refusals.name("records that their owner did not sign", peer)
            return
        if merged is None:
            self._send_digest(peer, [delta.owner])
        elif merged:
            self._tell_changed()
            self._is_new(delta.owner, before)

    def synced(self, now: float) -> None:
        """A stream has told what a peer knows where we differ."""
        self._last_stream = now

    def lacking(self, digest: Mapping[NodeId, tuple[int, int]]) -> Iterable[Delta]:
        """Every record that a peer lacks, in pieces that fit into a frame of a stream each."""
        room = self._config.frame_bytes - wire.OVERHEAD - wire.LIST_HEAD - _DELTA_HEAD_BYTES
        for delta in self.table.lacking(digest):
            yield from cut(delta, room)

    def forget(self, member: NodeId) -> None:
        """A member is no longer remembered."""
        self.table.forget(member)
        self._tell_changed()
        self._changed.pop(member, None)
        self._unread = {place for place in self._unread if place[0] != member}

    # ---- inside ----

    def _records(self, owners: Iterable[NodeId]) -> dict[tuple[NodeId, str], bytes]:
        return {
            (owner, key): value
            for owner in owners
            for key, value in self.table.values(owner).items()
            if (owner, key) not in self._unread
        }

    def _tell_changed(self) -> None:
        changed = self.table.take_changed()
        for owner, key in changed:
            value = self.table.value(owner, key)
            if value is None or owner == self._self_id or self._accepts(key, value):
                self._unread.discard((owner, key))
            else:
                self._unread.add((owner, key))
                self._refusals.name("malformed record", self._membership.all[owner].address)
        if changed:
            self._events.append(RecordsChanged(changed))

    def _renew(self, delta: Delta) -> None:
        """A peer has records of ours that we did not write: our clock was behind at the start.

        Nobody takes our records then, so they get a generation above; if we have signed those once.
        """
        told = (delta.generation, delta.upto)
        if told <= self.table.version_of(self._self_id) or delta.generation >= NUMBER_MAX:
            return
        mine = self._membership.hand_of(self._self_id)
        if delta.proof is not None and mine and delta.proof.holds(mine, self._self_id, *told):
            self._generation = delta.generation + 1
            self.table.begin(self._self_id, self._generation)
            self._changed[self._self_id] = 0

    def _is_new(self, owner: NodeId, before: tuple[int, int]) -> None:
        """The next push tells what is above the version ``before``."""
        base = before[1] if before[0] == self.table.version_of(owner)[0] else 0
        self._changed[owner] = min(base, self._changed.get(owner, base))

    def _may_repair(self, now: float) -> bool:
        if now - self._repaired < self._config.repair_interval_s:
            return False
        self._repaired = now
        return True

    def want_stream(self, peer: Address, now: float) -> None:
        """One exchange at a time: while news still travels, nodes differ for a moment anyway."""
        if now - self._last_stream > self._config.rejoin_interval_s:
            self._last_stream = now
            self._streams.append(peer)

    def _send_digest(self, peer: Address, owners: Sequence[NodeId]) -> bool:
        """Sends what a datagram holds of what we know of ``owners``; False: half is left out."""
        start = int(self._rng.random() * len(owners))
        turned = [*owners[start:], *owners[:start]]
        told = packets.named(turned, self._config.packet_bytes)
        if told:
            self._outbox.append((peer, DigestMessage(self.table.versions(told))))
        return len(owners) <= 2 * len(told)

    def _send_deltas(self, peer: Address, deltas: Iterable[Delta]) -> bool:
        """Sends what fits into a few datagrams; False: there is more.

        What an owner says goes whole: a record that fits into none, or too much of it, holds up
        what the same owner says beside it, and no other owner's.
        """
        left = self._config.burst_packets * self._room
        whole = True
        for delta in deltas:
            pieces = list(cut(delta, self._room))
            used = [total(piece.entries) for piece in pieces]
            need = sum(used) + _DELTA_HEAD_BYTES * len(pieces)
            if need > left + _DELTA_HEAD_BYTES or max(used) > self._room:
                whole = False  # a part of it would prove nothing
                continue
            left -= need
            self._outbox.extend((peer, piece) for piece in pieces)
        return whole
