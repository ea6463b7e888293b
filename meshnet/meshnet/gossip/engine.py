"""The gossip engine: datagrams and timers in, datagrams and events out. It performs no I/O.

The whole surface is aioquic's: ``receive_datagram``, ``datagrams_to_send``, ``next_timer``,
``handle_timer``, ``next_event``; streams (TCP) are one request and one reply. ``now`` is always an
argument, so whoever drives the engine owns time.

Two mechanisms, one packet format:

* membership (``members.py``): probe, indirect probe, suspect, refute; news rides on every packet;
* records (``table.py``): each node owns its keys; a change goes out at once to ``fanout`` members,
  digests every gossip interval repair whatever got lost.

Be aware: without a key ring the engine is silent and deaf.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from meshnet.errors import WireError
from meshnet.gossip import members as swim
from meshnet.gossip import wire
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.members import Address, Member, State
from meshnet.gossip.suspicion import (
    remaining_suspicion_s,
    retransmit_limit,
    suspicion_bounds_s,
)
from meshnet.gossip.table import Delta, Table, cut
from meshnet.gossip.wire import KeyRing, Message
from meshnet.model.ids import NodeId, Rng


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """A member's state or address is new."""

    member: Member


@dataclass(frozen=True, slots=True)
class RecordsChanged:
    """Some records of ``owner`` are new or gone."""

    owner: NodeId


@dataclass(frozen=True, slots=True)
class Synced:
    """The first whole-state exchange with a peer is done."""


Event = MemberChanged | RecordsChanged | Synced


@dataclass(slots=True)
class _Probe:
    target: NodeId
    sequence: int
    indirect: bool = False
    nacks_missing: int = 0


@dataclass(slots=True)
class _Relay:
    asker: Address
    sequence: int


@dataclass(order=True, slots=True)
class _Timer:
    when: float
    order: int
    kind: str = field(compare=False)
    subject: str = field(compare=False, default="")


class Engine:
    """One node's gossip.

    Args:
        config: timing and sizes.
        self_id: this node.
        address: where others reach us: (IPv4 address, port).
        generation: greater after every start of the process (milliseconds of wall time will do).
        rng: randomness; must be unpredictable in production (it makes nonces).
        now: the caller's clock.
    """

    def __init__(
        self,
        config: GossipConfig,
        self_id: NodeId,
        address: Address,
        generation: int,
        rng: Rng,
        now: float,
    ) -> None:
        self.config = config
        self.self_id = self_id
        self.generation = generation
        self.synced = False
        self.dropped: Counter[str] = Counter()
        """Packets not taken, by reason."""
        self._rng = rng
        self._ring: KeyRing | None = None
        self._members: dict[NodeId, Member] = {
            self_id: Member(self_id, address, 1, State.ALIVE, now)
        }
        self._table = Table()
        self._table.adopt(self_id, generation)
        self._known: dict[NodeId, dict[NodeId, tuple[int, int]]] = {}
        self._seeds: frozenset[Address] = frozenset()
        self._news: dict[NodeId, tuple[Message, int]] = {}
        self._outbox: deque[tuple[Address, Message]] = deque()
        self._events: deque[Event] = deque()
        self._streams: deque[Address] = deque()
        self._timers: list[_Timer] = []
        self._order = 0
        self._turn: list[NodeId] = []
        self._probe: _Probe | None = None
        self._relays: dict[int, _Relay] = {}
        self._sequence = rng.getrandbits(31)
        self._health = 0
        self._push_wanted = False
        for kind, delay in (
            ("probe", config.probe_interval_s),
            ("gossip", config.gossip_interval_s),
            ("push_pull", config.push_pull_interval_s),
            ("rejoin", config.rejoin_interval_s),
            ("reap", config.tombstone_s),
        ):
            self._arm(now + delay * (0.5 + 0.5 * rng.random()), kind)

    # ---- what the owner of the engine says ----

    def set_keys(self, keys: Sequence[bytes]) -> None:
        """Replaces the key ring, newest first, 16 bytes each; empty makes the engine silent."""
        self._ring = KeyRing(tuple(keys)) if keys else None

    def join(self, seeds: Iterable[Address], now: float) -> None:
        """Sets the addresses that must be members; whoever is missing is tried until it answers."""
        self._seeds = frozenset(seeds) - {self._members[self.self_id].address}
        self._rejoin(now)

    def leave(self, now: float) -> None:
        """Says goodbye; the datagrams must still be sent."""
        me = self._members[self.self_id]
        self._members[self.self_id] = replace(me, state=State.LEFT, since=now)
        message: Message = [wire.DEAD, self.self_id, me.incarnation, self.self_id]
        for member in self._peers():
            self._outbox.append((member.address, message))

    def set_record(self, key: str, value: bytes | None, now: float) -> None:
        """Changes one of our records; None deletes it. It is sent with the next datagrams."""
        if self._table.put(self.self_id, self.generation, key, value, now):
            self._push_wanted = True

    # ---- views ----

    def members(self) -> dict[NodeId, Member]:
        """Every member we know of, ourselves included."""
        return dict(self._members)

    def records(self) -> dict[tuple[NodeId, str], bytes]:
        """Records of ourselves and of alive or suspect members; those of the dead are hidden."""
        return {
            (member.id, key): value
            for member in self._members.values()
            if member.counted
            for key, value in self._table.values(member.id).items()
        }

    # ---- the five verbs ----

    def receive_datagram(self, data: bytes, peer: Address, now: float) -> None:
        """Takes one datagram; anything that is not ours is counted in ``dropped``."""
        if self._ring is None:
            self.dropped["no key yet"] += 1
            return
        try:
            messages = self._ring.open(data, peer[0])
            for message in messages:
                self._take(message, peer, now)
        except WireError as error:
            self.dropped[error.why] += 1
        except (TypeError, ValueError, KeyError):
            # msgpack of the right length but the wrong types: the peer's fault, not ours.
            self.dropped["malformed field"] += 1

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """Sealed packets to send now, each with its destination."""
        if self._push_wanted:
            self._push_wanted = False
            for member in self._sample(self.config.gossip_fanout):
                self._send_lacking(member)
        if self._ring is None:
            self._outbox.clear()
            return []
        by_peer: dict[Address, list[Message]] = {}
        while self._outbox:
            address, message = self._outbox.popleft()
            by_peer.setdefault(address, []).append(message)
        room = self.config.packet_bytes - wire.OVERHEAD - 8
        packets: list[tuple[bytes, Address]] = []
        for address, messages in by_peer.items():
            held: list[Message] = []
            used = 0
            for message in messages:
                size = wire.size_of(message)
                if held and used + size > room:
                    packets.append((self._seal(held), address))
                    held, used = [], 0
                held.append(message)
                used += size
            held.extend(self._riders(room - used))
            packets.append((self._seal(held), address))
        return packets

    def next_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called next, on the caller's clock."""
        return self._timers[0].when if self._timers else None

    def handle_timer(self, now: float) -> None:
        """Does everything that is due."""
        while self._timers and self._timers[0].when <= now:
            timer = heapq.heappop(self._timers)
            getattr(self, f"_on_{timer.kind}")(timer.subject, now)

    def next_event(self) -> Event | None:
        """The next thing that happened, or None."""
        return self._events.popleft() if self._events else None

    # ---- streams (TCP): one request, one reply, both the whole state ----

    def streams_to_open(self) -> list[Address]:
        """Peers to exchange the whole state with; send ``stream_request`` to each."""
        wanted = list(dict.fromkeys(self._streams))
        self._streams.clear()
        return wanted if self._ring is not None else []

    def stream_request(self) -> bytes:
        """What to send on a stream that we open."""
        return self._seal([self._sync({})])

    def receive_stream(self, data: bytes, peer: Address, now: float) -> bytes:
        """The reply to a peer's stream request.

        Raises:
            WireError: not ours; close the stream.
        """
        message = self._open_sync(data, peer)
        digest = self._merge_sync(message, peer, now)
        return self._seal([self._sync(digest), *self._deltas(digest, room=1 << 30)])

    def receive_stream_reply(self, data: bytes, peer: Address, now: float) -> bytes:
        """Takes the reply to our request in; returns what the peer still lacks, to send back.

        Raises:
            WireError: not ours; close the stream.
        """
        if self._ring is None:
            raise WireError(peer[0], "no key yet")
        messages = self._ring.open(data, peer[0])
        digest: dict[NodeId, tuple[int, int]] = {}
        for message in messages:
            if message[0] == wire.SYNC:
                digest = self._merge_sync(message, peer, now)
            else:
                self._take(message, peer, now)
        if not self.synced:
            self.synced = True
            self._events.append(Synced())
        return self._seal([*self._deltas(digest, room=1 << 30)])

    # ---- messages in ----

    def _take(self, message: Message, peer: Address, now: float) -> None:
        match message:
            case [wire.PING, sequence, target]:
                if target == self.self_id:
                    self._outbox.append((peer, [wire.ACK, sequence]))
            case [wire.PING_REQ, sequence, target, host, port]:
                self._relay(peer, sequence, target, (host, port), now)
            case [wire.ACK, sequence]:
                self._acked(sequence)
            case [wire.NACK, sequence]:
                if self._probe is not None and self._probe.sequence == sequence:
                    self._probe.nacks_missing -= 1
            case [wire.ALIVE, id_, host, port, incarnation]:
                self._heard_alive(NodeId(id_), (host, port), incarnation, now)
            case [wire.SUSPECT, id_, incarnation, accuser]:
                self._heard_suspect(NodeId(id_), incarnation, NodeId(accuser), now)
            case [wire.DEAD, id_, incarnation, accuser]:
                self._heard_dead(NodeId(id_), incarnation, NodeId(accuser), now)
            case [wire.DIGEST, digest]:
                known = {NodeId(owner): (pair[0], pair[1]) for owner, pair in digest.items()}
                self._answer_digest(known, peer)
            case [wire.DELTA, owner, generation, base, upto, floor, entries]:
                delta = Delta(
                    NodeId(owner),
                    generation,
                    base,
                    upto,
                    floor,
                    tuple((key, version, value) for key, version, value in entries),
                )
                self._heard_delta(delta, peer, now)
            case _:
                raise WireError(peer[0], "unexpected message")

    def _relay(
        self, asker: Address, sequence: int, target: str, address: Address, now: float
    ) -> None:
        self._sequence += 1
        self._relays[self._sequence] = _Relay(asker, sequence)
        self._outbox.append((address, [wire.PING, self._sequence, target]))
        self._arm(now + self.config.probe_timeout_s, "relay", str(self._sequence))

    def _acked(self, sequence: int) -> None:
        relay = self._relays.pop(sequence, None)
        if relay is not None:
            self._outbox.append((relay.asker, [wire.ACK, relay.sequence]))
        if self._probe is not None and self._probe.sequence == sequence:
            self._probe = None
            self._health = max(0, self._health - 1)

    def _heard_alive(self, id_: NodeId, address: Address, incarnation: int, now: float) -> None:
        if id_ == self.self_id:
            me = self._members[id_]
            if incarnation > me.incarnation or (
                incarnation == me.incarnation and address != me.address
            ):
                self._refute(incarnation, now)
            return
        self._became(swim.alive(self._members.get(id_), id_, address, incarnation, now), now)

    def _heard_suspect(self, id_: NodeId, incarnation: int, accuser: NodeId, now: float) -> None:
        if id_ == self.self_id:
            self._refute(incarnation, now)
            return
        self._became(swim.suspect(self._members.get(id_), incarnation, accuser, now), now)

    def _heard_dead(self, id_: NodeId, incarnation: int, accuser: NodeId, now: float) -> None:
        if id_ == self.self_id:
            self._refute(incarnation, now)
            return
        self._became(swim.dead(self._members.get(id_), incarnation, accuser, now), now)

    def _refute(self, incarnation: int, now: float) -> None:
        me = self._members[self.self_id]
        if me.state is State.LEFT or incarnation < me.incarnation:
            return
        self._health = min(self.config.health_max, self._health + 1)
        self._members[self.self_id] = replace(me, incarnation=incarnation + 1, since=now)
        self._spread(self._members[self.self_id])

    def _became(self, member: Member | None, now: float) -> None:
        if member is None:
            return
        before = self._members.get(member.id)
        self._members[member.id] = member
        if member.state is State.SUSPECT:
            self._arm_suspicion(member, now)
        if not member.counted:
            self._known.pop(member.id, None)
        self._spread(member)
        if before is None or before.state is not member.state or before.address != member.address:
            self._events.append(MemberChanged(member))

    def _spread(self, member: Member) -> None:
        message: Message
        if member.state is State.ALIVE:
            message = [wire.ALIVE, member.id, *member.address, member.incarnation]
        elif member.state is State.SUSPECT:
            accuser = self.self_id if self.self_id in member.accusers else min(member.accusers)
            message = [wire.SUSPECT, member.id, member.incarnation, accuser]
        else:
            accuser = member.id if member.state is State.LEFT else self.self_id
            message = [wire.DEAD, member.id, member.incarnation, accuser]
        self._news[member.id] = (message, 0)
        for peer in self._sample(self.config.gossip_fanout):
            self._outbox.append((peer.address, message))

    def _answer_digest(self, digest: dict[NodeId, tuple[int, int]], peer: Address) -> None:
        sender = self._member_at(peer)
        if sender is not None:
            self._known[sender.id] = dict(digest)
        for message in self._deltas(digest, room=self.config.packet_bytes - 300):
            self._outbox.append((peer, message))
        mine = self._table.digest()
        if any(pair > mine.get(owner, (0, 0)) for owner, pair in digest.items()):
            self._outbox.append((peer, [wire.DIGEST, mine]))

    def _heard_delta(self, delta: Delta, peer: Address, now: float) -> None:
        if delta.owner == self.self_id:
            return
        merged = self._table.merge(delta, now)
        if merged is None:
            self._outbox.append((peer, [wire.DIGEST, self._table.digest()]))
        elif merged:
            sender = self._member_at(peer)
            if sender is not None:
                known = self._known.setdefault(sender.id, {})
                known[delta.owner] = max(
                    known.get(delta.owner, (0, 0)), (delta.generation, delta.upto)
                )
            self._events.append(RecordsChanged(delta.owner))
            self._push_wanted = True

    # ---- timers ----

    def _on_probe(self, _subject: str, now: float) -> None:
        self._arm(now + self.config.probe_interval_s * (self._health + 1), "probe")
        if self._probe is not None:
            self._missed(self._probe, now)
            self._probe = None
        target = self._next_in_turn()
        if target is None:
            return
        self._sequence += 1
        self._probe = _Probe(target.id, self._sequence)
        self._outbox.append((target.address, [wire.PING, self._sequence, target.id]))
        if target.state is State.SUSPECT:
            # Tell the suspect that it is one: it can refute at once (Lifeguard's buddy system).
            self._outbox.append(
                (target.address, [wire.SUSPECT, target.id, target.incarnation, self.self_id])
            )
        self._arm(
            now + self.config.probe_timeout_s * (self._health + 1), "indirect", str(self._sequence)
        )

    def _on_indirect(self, subject: str, _now: float) -> None:
        probe = self._probe
        if probe is None or probe.sequence != int(subject):
            return
        target = self._members.get(probe.target)
        if target is None:
            return
        helpers = [m for m in self._sample(self.config.indirect_probes + 1) if m.id != probe.target]
        probe.indirect = True
        probe.nacks_missing = min(len(helpers), self.config.indirect_probes)
        for helper in helpers[: self.config.indirect_probes]:
            self._outbox.append(
                (helper.address, [wire.PING_REQ, probe.sequence, target.id, *target.address])
            )
        # A lost datagram is not a dead node: ask once more directly.
        self._outbox.append((target.address, [wire.PING, probe.sequence, target.id]))

    def _missed(self, probe: _Probe, now: float) -> None:
        target = self._members.get(probe.target)
        if target is None or not target.counted:
            return
        if probe.indirect and probe.nacks_missing > 0:
            # Helpers that are alive but did not even say no: the slow one may be us.
            self._health = min(self.config.health_max, self._health + 1)
        self._became(swim.suspect(target, target.incarnation, self.self_id, now), now)

    def _on_relay(self, subject: str, _now: float) -> None:
        relay = self._relays.pop(int(subject), None)
        if relay is not None:
            self._outbox.append((relay.asker, [wire.NACK, relay.sequence]))

    def _on_suspicion(self, subject: str, now: float) -> None:
        id_, _, incarnation = subject.partition(" ")
        member = self._members.get(NodeId(id_))
        if (
            member is None
            or member.state is not State.SUSPECT
            or member.incarnation != int(incarnation)
        ):
            return
        if self._suspicion_left(member, now) > 0:
            self._arm_suspicion(member, now)
            return
        self._became(swim.dead(member, member.incarnation, self.self_id, now), now)

    def _on_gossip(self, _subject: str, now: float) -> None:
        self._arm(now + self.config.gossip_interval_s, "gossip")
        digest: Message = [wire.DIGEST, self._table.digest()]
        if wire.size_of(digest) > self.config.packet_bytes - 200:
            digest = [wire.DIGEST, self._part_of_digest()]
        for member in self._sample(self.config.gossip_fanout):
            self._outbox.append((member.address, digest))

    def _on_push_pull(self, _subject: str, now: float) -> None:
        self._arm(now + self.config.push_pull_interval_s, "push_pull")
        self._streams.extend(member.address for member in self._sample(1))

    def _on_rejoin(self, _subject: str, now: float) -> None:
        self._arm(now + self.config.rejoin_interval_s, "rejoin")
        self._rejoin(now)

    def _on_reap(self, _subject: str, now: float) -> None:
        self._arm(now + self.config.tombstone_s / 2, "reap")
        self._table.reap(now - self.config.tombstone_s)
        for member in list(self._members.values()):
            gone = not member.counted and member.id != self.self_id
            if gone and now - member.since > self.config.forget_dead_s:
                del self._members[member.id]
                self._table.forget(member.id)

    # ---- helpers ----

    def _arm(self, when: float, kind: str, subject: str = "") -> None:
        self._order += 1
        heapq.heappush(self._timers, _Timer(when, self._order, kind, subject))

    def _arm_suspicion(self, member: Member, now: float) -> None:
        self._arm(
            now + max(0.0, self._suspicion_left(member, now)),
            "suspicion",
            f"{member.id} {member.incarnation}",
        )

    def _suspicion_left(self, member: Member, now: float) -> float:
        count = sum(1 for m in self._members.values() if m.counted)
        low, high = suspicion_bounds_s(
            count,
            self.config.probe_interval_s,
            self.config.suspicion_mult,
            self.config.suspicion_max_mult,
        )
        wanted = max(0, min(self.config.indirect_probes, count - 3))
        return remaining_suspicion_s(
            len(member.accusers) - 1, wanted, now - member.since, low, high
        )

    def _peers(self) -> list[Member]:
        return [m for m in self._members.values() if m.counted and m.id != self.self_id]

    def _member_at(self, address: Address) -> Member | None:
        return next((m for m in self._members.values() if m.address == address), None)

    def _sample(self, count: int) -> list[Member]:
        peers = self._peers()
        for i in range(min(count, len(peers))):
            j = i + int(self._rng.random() * (len(peers) - i))
            peers[i], peers[j] = peers[j], peers[i]
        return peers[:count]

    def _next_in_turn(self) -> Member | None:
        for _ in range(2):
            while self._turn:
                member = self._members.get(self._turn.pop())
                if member is not None and member.counted:
                    return member
            self._turn = [member.id for member in self._sample(len(self._members))]
        return None

    def _rejoin(self, _now: float) -> None:
        present = {m.address for m in self._members.values() if m.counted}
        self._streams.extend(sorted(self._seeds - present))
        missing = [m for m in self._members.values() if m.state is State.DEAD]
        if missing:
            self._streams.append(missing[int(self._rng.random() * len(missing))].address)

    def _send_lacking(self, member: Member) -> None:
        known = self._known.setdefault(member.id, {})
        for message in self._deltas(known, room=self.config.packet_bytes - 300):
            self._outbox.append((member.address, message))
        known.update(self._table.digest())

    def _deltas(self, digest: dict[NodeId, tuple[int, int]], room: int) -> Iterable[Message]:
        for delta in self._table.lacking(digest):
            for piece in cut(delta, room, size=16):
                yield [
                    wire.DELTA,
                    piece.owner,
                    piece.generation,
                    piece.base,
                    piece.upto,
                    piece.floor,
                    [list(entry) for entry in piece.entries],
                ]

    def _part_of_digest(self) -> dict[NodeId, tuple[int, int]]:
        digest = list(self._table.digest().items())
        take = (self.config.packet_bytes - 300) // 48
        start = int(self._rng.random() * len(digest))
        return dict((digest[start:] + digest[:start])[:take])

    def _riders(self, room: int) -> list[Message]:
        """Membership news that still has retransmissions left and fits into ``room`` bytes."""
        limit = retransmit_limit(len(self._members), self.config.retransmit_mult)
        taken: list[Message] = []
        for id_, (message, sent) in sorted(self._news.items(), key=lambda item: item[1][1]):
            size = wire.size_of(message)
            if size > room:
                break
            taken.append(message)
            room -= size
            if sent + 1 >= limit:
                del self._news[id_]
            else:
                self._news[id_] = (message, sent + 1)
        return taken

    def _seal(self, messages: Sequence[Message]) -> bytes:
        if self._ring is None:
            raise WireError("us", "no key yet")
        return self._ring.seal(messages, self._rng.getrandbits(96).to_bytes(12, "big"))

    def _sync(self, _peer: dict[NodeId, tuple[int, int]]) -> Message:
        rows = [[m.id, *m.address, m.incarnation, m.state.value] for m in self._members.values()]
        return [wire.SYNC, self.self_id, rows, self._table.digest()]

    def _open_sync(self, data: bytes, peer: Address) -> Message:
        if self._ring is None:
            raise WireError(peer[0], "no key yet")
        messages = self._ring.open(data, peer[0])
        if not messages or messages[0][0] != wire.SYNC:
            raise WireError(peer[0], "expected a sync")
        return messages[0]

    def _merge_sync(
        self, message: Message, peer: Address, now: float
    ) -> dict[NodeId, tuple[int, int]]:
        _, sender, rows, digest = message
        try:
            for id_, host, port, incarnation, state in rows:
                believed = State(state)
                if believed in {State.DEAD, State.LEFT} and id_ not in self._members:
                    gone = Member(NodeId(id_), (host, port), incarnation, believed, now)
                    self._became(gone, now)
                    continue
                if believed in {State.ALIVE, State.SUSPECT}:
                    self._heard_alive(NodeId(id_), (host, port), incarnation, now)
                if believed is State.LEFT:
                    self._heard_dead(NodeId(id_), incarnation, NodeId(id_), now)
                elif believed in {State.SUSPECT, State.DEAD}:
                    # Hearsay of a death is only a suspicion: the member may refute.
                    self._heard_suspect(NodeId(id_), incarnation, NodeId(sender), now)
            known = {NodeId(owner): (pair[0], pair[1]) for owner, pair in digest.items()}
        except (TypeError, ValueError) as error:
            raise WireError(peer[0], "malformed sync") from error
        self._known[NodeId(sender)] = dict(known)
        return known
