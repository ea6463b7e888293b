"""Brings records to those whom they concern: at once by a push, for certain by fingerprints.

```
 a record changes ──> what is new to ``fanout`` members, who do the same    within milliseconds
 every interval ────> summary (two fingerprints) to ``fanout`` members      at rest: nothing else
   records differ ──> fingerprints of buckets back
                        <── digest of the shares in those that differ
                      deltas, and a digest of what we lack ourselves ──>
   members differ, or too much is lacking for datagrams ──> a stream
```
Every owner that is remembered is spoken of, the dead too: who takes part is for the receiver to
decide, and a process that starts beside a dead one learns what that one last said. A digest speaks
of the shares that it names and of no other. Nothing is remembered of what a peer has: that would be
a table of all owners for each of all peers. Who gets news on top of something that it lacks asks.

What an owner says on a network is pushed to those that take part in it. Two nodes compare what goes
to all and the networks of both, in one sum; of those on a network of ours one more is compared with
each time, so that what a push missed is found as soon there as among all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Final

from meshnet.errors import CapacityError
from meshnet.gossip import packets, wire
from meshnet.gossip.audiences import EVERY
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.events import Event, RecordsChanged
from meshnet.gossip.members import Address, Member
from meshnet.gossip.membership import Membership
from meshnet.gossip.messages import NUMBER_MAX, Buckets, DigestMessage, Summary
from meshnet.gossip.news import Outbox
from meshnet.gossip.records import PROOF_BYTES, Delta, cut, total
from meshnet.gossip.refusals import Refusals
from meshnet.gossip.shares import Share, parts, placed, share_of
from meshnet.gossip.signing import Signer
from meshnet.gossip.sums import bucket_of
from meshnet.gossip.table import Digest, ForgedError, Mark, Table
from meshnet.gossip.timers import Timers
from meshnet.model.ids import NodeId, Rng

_NUMBER_BYTES: Final = 9
_DELTA_HEAD_BYTES: Final = 8 + 4 * _NUMBER_BYTES + 2 + PROOF_BYTES
"""What is around the entries of a delta and the name of its share, at most."""


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
        self._changed: dict[Share, int] = {}
        self._turn = 0
        self._last_stream = now
        self._repaired = now
        self._room = config.packet_bytes - wire.OVERHEAD - wire.LIST_HEAD
        self.table = Table(signer, self._self_id)
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
        share = share_of(self._self_id, placed(key)[0])
        before = self.table.version_of(share)
        if self.table.put(self._self_id, self._generation, key, value, now):
            self._tell_changed()
            self._is_new(share, before)

    def push(self) -> None:
        """Sends what changed since the last push to some of those whom it concerns."""
        if not self._changed:
            return
        changed, self._changed = self._changed, {}
        news: dict[str, list[Delta]] = {}
        for share, base in changed.items():
            if self.table.audiences.counts(share):
                news.setdefault(parts(share)[1], []).append(self.table.above(share, base))
        for network, deltas in news.items():
            for member in self._sample(self._config.gossip_fanout, network):
                self._send_deltas(member.address, deltas)

    def gossip_due(self, now: float) -> None:
        """Says what we know, in two numbers."""
        self._timers.arm(now + self._config.gossip_interval_s, "gossip")
        members = self._membership.sample(self._config.gossip_fanout)
        if networks := sorted(self.table.audiences.networks(self._self_id) - {EVERY}):
            self._turn += 1
            members += self._sample(1, networks[self._turn % len(networks)])
        for member in members:
            whole = self.fingerprint(self.table.audiences.shared(member.id))
            summary = Summary(self._membership.fingerprint(), whole)
            self._outbox.append((member.address, summary))

    def fingerprint(self, networks: Iterable[str] = ()) -> int:
        """Of everybody's records, to all and on these networks."""
        return self.table.summed(networks).whole

    def shared(self, peer: Address) -> Set[str]:
        """The networks that concern both us and who is at this address."""
        member = self._membership.at(peer)
        return self.table.audiences.shared(member.id) if member is not None else frozenset()

    def shares_in(self, buckets: Set[int], networks: Iterable[str]) -> list[Share]:
        """Shares on these networks of the owners that fall into these buckets."""
        return [
            share_of(owner, network)
            for network in networks
            for owner in sorted(self.table.audiences.members(network))
            if bucket_of(owner) in buckets and owner in self._membership.all
        ]

    # ---- what others say ----

    def heard_summary(self, summary: Summary, peer: Address, now: float) -> None:
        """A peer's two fingerprints."""
        if summary.members != self._membership.fingerprint():
            self.want_stream(peer, now)
        shared = self.shared(peer)
        if summary.records != self.fingerprint(shared) and self._may_repair(now):
            self._outbox.append((peer, Buckets(self.table.summed(shared).buckets)))

    def heard_buckets(self, buckets: Buckets, peer: Address, now: float) -> None:
        """A peer's fingerprints of its buckets: it is told what we know in those that differ."""
        shared = self.shared(peer)
        differing = self.table.summed(shared).differing(buckets.records)
        owners = self._membership.within(differing)
        if not self._send_digest(peer, [*owners, *self.shares_in(differing, shared)]):
            self.want_stream(peer, now)

    def heard_digest(self, digest: Digest, peer: Address, now: float) -> None:
        """What a peer knows of some shares: it gets what it lacks, and we ask for what we lack."""
        if not self._send_deltas(peer, self.table.lacking(digest)):
            self.want_stream(peer, now)
        if behind := [share for share in digest if self._is_behind(share, digest[share])]:
            self._send_digest(peer, behind)

    def heard_delta(self, delta: Delta, peer: Address, now: float) -> None:
        """Records of somebody."""
        id_, network = parts(delta.share)
        if id_ == self._self_id:
            self._renew(delta)
            return
        owner = self._membership.all.get(id_)
        hand = self._membership.hand_of(id_)
        if owner is None or hand is None:
            self._refusals.count("records of nobody we know")
            return
        if not self.table.audiences.hears(self._self_id, network):
            self._refusals.count("records of a network that we are not on")
            return
        before = self.table.version_of(delta.share)
        try:
            merged = self.table.merge(delta, now, hand, peer)
        except CapacityError:
            self._refusals.name("one member's records are too many", owner.address)
            return
        except ForgedError:
            self._refusals.name("records that their owner did not sign", peer)
            return
        if merged is None:
            self._send_digest(peer, [delta.share])
        elif merged:
            self._tell_changed()
            self._is_new(delta.share, before)

    def synced(self, now: float) -> None:
        """A stream has told what a peer knows where we differ."""
        self._last_stream = now

    def lacking(self, digest: Digest) -> Iterable[Delta]:
        """Every record that a peer lacks, in pieces that fit into a frame of a stream each."""
        room = self._config.frame_bytes - wire.OVERHEAD - wire.LIST_HEAD
        for delta in self.table.lacking(digest):
            yield from cut(delta, room - _head_bytes(delta))

    def forget(self, member: NodeId) -> None:
        """A member is no longer remembered."""
        self.table.forget(member)
        self._tell_changed()
        self._changed = {s: base for s, base in self._changed.items() if parts(s)[0] != member}
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
            if value is None or owner == self._self_id or self._accepts(placed(key)[1], value):
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
        if not self._is_behind(delta.share, told) or delta.generation >= NUMBER_MAX:
            return
        mine = self._membership.hand_of(self._self_id)
        if delta.proof is not None and mine and delta.proof.holds(mine, delta.share, *told):
            self._generation = delta.generation + 1
            self.table.begin(self._self_id, self._generation)
            self._changed |= dict.fromkeys(self.table.shares_of(self._self_id), 0)

    def _is_behind(self, share: Share, told: Mark) -> bool:
        """Whether somebody knows more of a share than we do, and we would take it.

        Of ours nobody does but for what we said when our clock was ahead.
        """
        owner, network = parts(share)
        known = self.table.version_of(share)
        if owner == self._self_id:
            known = max(known, (self._generation, 0))
        hears = self.table.audiences.hears(self._self_id, network)
        return told > known and hears and owner in self._membership.all

    def _is_new(self, share: Share, before: Mark) -> None:
        """The next push tells what is above the version ``before``."""
        base = before[1] if before[0] == self.table.version_of(share)[0] else 0
        self._changed[share] = min(base, self._changed.get(share, base))

    def _sample(self, count: int, network: str) -> list[Member]:
        """Some of those whom a network concerns; or of all."""
        among = self.table.audiences.hearers(network) if network else None
        return self._membership.sample(count, among)

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

    def _send_digest(self, peer: Address, shares: Sequence[Share]) -> bool:
        """Sends what a datagram holds of what we know of ``shares``; False: half is left out."""
        start = int(self._rng.random() * len(shares))
        turned = [*shares[start:], *shares[:start]]
        told = packets.named(turned, self._config.packet_bytes)
        if told:
            self._outbox.append((peer, DigestMessage(self.table.versions(told))))
        return len(shares) <= 2 * len(told)

    def _send_deltas(self, peer: Address, deltas: Iterable[Delta]) -> bool:
        """Sends what fits into a few datagrams; False: there is more.

        A share goes whole: a record that fits into none, or too much of it, holds up what is beside
        it in the same share, and nothing else.
        """
        left = self._config.burst_packets * self._room
        whole = True
        for delta in deltas:
            head = _head_bytes(delta)
            pieces = list(cut(delta, self._room - head))
            used = [total(piece.entries) + head for piece in pieces]
            need = sum(used)
            if need > left or max(used) > self._room:
                whole = False  # a part of it would prove nothing
                continue
            left -= need
            self._outbox.extend((peer, piece) for piece in pieces)
        return whole


def _head_bytes(delta: Delta) -> int:
    return _DELTA_HEAD_BYTES + len(delta.share)
