"""Brings records to those who lack them: at once by a push, for certain by fingerprints.

```
 a record changes ──> delta to ``fanout`` members, who do the same          within milliseconds
 every interval ────> summary (two fingerprints) to ``fanout`` members      at rest: nothing else
   records differ ──> digest back ──> deltas; lacks something itself: its own digest
   members differ, or too much is lacking for datagrams ──> a stream
```
Every owner that is remembered is spoken of, the dead and those that left too: who takes part is for
the receiver to decide, and a process that starts beside a dead one learns what that one last said.
What a peer is known to have is remembered, so that a push carries what is new and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from meshnet.gossip import wire
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.events import Event, RecordsChanged
from meshnet.gossip.members import Address, Member
from meshnet.gossip.membership import Membership, Outbox
from meshnet.gossip.messages import ID_LENGTH, NUMBER_MAX, DigestMessage, Summary
from meshnet.gossip.refusals import Refusals
from meshnet.gossip.table import Delta, Table, cut, weight
from meshnet.gossip.timers import Timers
from meshnet.model.ids import NodeId, Rng

_NUMBER_BYTES: Final = 9
_DELTA_HEAD_BYTES: Final = 8 + ID_LENGTH + 4 * _NUMBER_BYTES
"""What is around the entries of a delta, at most."""


class AntiEntropy:
    """The records of one node and what its peers know of them.

    Args:
        config: timing and sizes.
        generation: of our own records.
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
        self._known: dict[NodeId, dict[NodeId, tuple[int, int]]] = {}
        self._changed: set[NodeId] = set()
        self._last_stream = now
        self._fingerprint: tuple[tuple[int, int], int] | None = None
        self._room = config.packet_bytes - wire.OVERHEAD - wire.LIST_HEAD - _DELTA_HEAD_BYTES
        self.table = Table()
        self.table.begin(self._self_id, generation)

    def records(self) -> dict[tuple[NodeId, str], bytes]:
        """Records of all that take part; those that are not well formed are not shown."""
        return self._records(self._membership.counted())

    def all_records(self) -> dict[tuple[NodeId, str], bytes]:
        """Also of those that do not take part (any more): what each last said."""
        return self._records(self._membership.all)

    # ---- what we say ----

    def put(self, key: str, value: bytes | None, now: float) -> None:
        """Changes one of our records.

        Raises:
            CapacityError: more than any peer would take; nothing changed.
        """
        if self.table.put(self._self_id, self._generation, key, value, now):
            self._changed.add(self._self_id)

    def push(self) -> None:
        """Sends what changed since the last push to some members."""
        if not self._changed:
            return
        changed, self._changed = self._changed, set()
        for member in self._membership.sample(self._config.gossip_fanout):
            known = self._known.get(member.id)
            if known is None:
                self._send_digest(member.address)
            elif self._send_deltas(member.address, known, changed):
                known.update(self.table.versions(changed))

    def gossip_due(self, now: float) -> None:
        """Says what we know, in two numbers."""
        self._timers.arm(now + self._config.gossip_interval_s, "gossip")
        summary = Summary(self._membership.fingerprint(), self.fingerprint())
        for member in self._membership.sample(self._config.gossip_fanout):
            self._outbox.append((member.address, summary))

    def fingerprint(self) -> int:
        """Of everybody's records."""
        state = (self._membership.changes, self.table.changes)
        if self._fingerprint is None or self._fingerprint[0] != state:
            self._fingerprint = (state, self.table.fingerprint(self._membership.all))
        return self._fingerprint[1]

    # ---- what others say ----

    def heard_summary(self, summary: Summary, peer: Address, now: float) -> None:
        """A peer's two fingerprints."""
        if summary.members != self._membership.fingerprint():
            # One exchange at a time: while news still travels, nodes differ for a moment anyway.
            self._want_stream(peer, now)
        if summary.records != self.fingerprint():
            self._send_digest(peer)
        elif (sender := self._membership.at(peer)) is not None:
            self._known[sender.id] = self.table.versions(self._membership.all)

    def heard_digest(
        self, digest: Mapping[NodeId, tuple[int, int]], peer: Address, now: float
    ) -> None:
        """What a peer knows of some owners: it gets what it lacks, and we ask for what we lack."""
        self._renew(digest.get(self._self_id, (0, 0)))
        about = [owner for owner in digest if owner in self._membership.all]
        sender = self._membership.at(peer)
        if sender is not None:
            self._known.setdefault(sender.id, {}).update({o: digest[o] for o in about})
        if not self._send_deltas(peer, digest, about):
            self._want_stream(peer, now)
        if any(digest[owner] > self.table.version_of(owner) for owner in about):
            self._send_digest(peer)

    def heard_delta(self, delta: Delta, peer: Address, now: float) -> None:
        """Records of somebody."""
        if delta.owner == self._self_id:
            return
        owner = self._membership.all.get(delta.owner)
        if owner is None:
            self._refusals.count("records of nobody we know")
            return
        if not self.table.has_room(delta):
            self._refusals.name("one member's records are too many", owner.address)
            return
        merged = self.table.merge(delta, now)
        if merged is None:
            self._send_digest(peer)
        elif merged:
            sender = self._membership.at(peer)
            if sender is not None:
                known = self._known.setdefault(sender.id, {})
                told = (delta.generation, delta.upto)
                known[delta.owner] = max(known.get(delta.owner, (0, 0)), told)
            self._read(delta, owner)
            self._events.append(RecordsChanged(delta.owner))
            self._changed.add(delta.owner)

    def synced_with(
        self, sender: NodeId, digest: Mapping[NodeId, tuple[int, int]], now: float
    ) -> None:
        """A stream told what a peer knows."""
        self._renew(digest.get(self._self_id, (0, 0)))
        if sender in self._membership.all:
            self._known[sender] = dict(digest)
        self._last_stream = now

    def lacking(self, digest: Mapping[NodeId, tuple[int, int]]) -> Iterable[Delta]:
        """Every record that a peer lacks, in pieces that fit into a frame of a stream each."""
        room = self._config.frame_bytes - wire.OVERHEAD - wire.LIST_HEAD - _DELTA_HEAD_BYTES
        for delta in self.table.lacking(digest, list(self._membership.all)):
            yield from cut(delta, room)

    def forget(self, member: NodeId) -> None:
        """A member is no longer remembered."""
        self.table.forget(member)
        self._known.pop(member, None)
        self._changed.discard(member)
        self._unread = {place for place in self._unread if place[0] != member}

    # ---- inside ----

    def _records(self, owners: Iterable[NodeId]) -> dict[tuple[NodeId, str], bytes]:
        return {
            (owner, key): value
            for owner in owners
            for key, value in self.table.values(owner).items()
            if (owner, key) not in self._unread
        }

    def _read(self, delta: Delta, owner: Member) -> None:
        for key, _, _ in delta.entries:
            value = self.table.value(owner.id, key)
            if value is None or self._accepts(key, value):
                self._unread.discard((owner.id, key))
            else:
                self._unread.add((owner.id, key))
                self._refusals.name("malformed record", owner.address)

    def _renew(self, told: tuple[int, int]) -> None:
        """A peer has records of ours that we did not write: our clock was behind at the start.

        Nobody takes our records then, so they get a generation above.
        """
        if told > self.table.version_of(self._self_id) and told[0] < NUMBER_MAX:
            self._generation = told[0] + 1
            self.table.begin(self._self_id, self._generation)
            self._changed.add(self._self_id)

    def _want_stream(self, peer: Address, now: float) -> None:
        if now - self._last_stream > self._config.rejoin_interval_s:
            self._last_stream = now
            self._streams.append(peer)

    def _send_digest(self, peer: Address) -> None:
        owners = list(self._membership.all)
        pair = 2 + 1 + 2 * _NUMBER_BYTES
        room = self._config.packet_bytes - wire.OVERHEAD - wire.LIST_HEAD - 8
        start = int(self._rng.random() * len(owners))
        told: dict[NodeId, tuple[int, int]] = {}
        for owner in owners[start:] + owners[:start]:
            room -= len(owner) + pair
            if room < 0:
                break
            told[owner] = self.table.version_of(owner)
        self._outbox.append((peer, DigestMessage(told)))

    def _send_deltas(
        self,
        peer: Address,
        known: Mapping[NodeId, tuple[int, int]],
        owners: Iterable[NodeId],
    ) -> bool:
        """Sends what fits into a few datagrams; False: there is more.

        A record that fits into none holds up what its owner said after it, and no other owner's.
        """
        left = self._config.burst_packets * self._room
        whole = True
        for delta in self.table.lacking(known, owners):
            for piece in cut(delta, self._room):
                used = sum(weight(entry) for entry in piece.entries)
                if used > left:
                    return False
                if used > self._room:
                    whole = False
                    break
                left -= used + _DELTA_HEAD_BYTES
                self._outbox.append((peer, piece))
        return whole
