"""The gossip engine: datagrams and timers in, datagrams and events out. It performs no I/O.

The whole surface is aioquic's: ``receive_datagram``, ``datagrams_to_send``, ``next_timer``,
``handle_timer``, ``next_event``; a stream (TCP) is one request, one reply and one rest. ``now`` is
always an argument, so whoever drives the engine owns time.

Three parts share one outbox and one packet format:

* ``membership.py``: who takes part; news rides on every packet;
* ``prober.py``: who does not answer;
* ``table.py``: each node's records. A change goes out at once to ``fanout`` members; digests, every
  gossip interval, repair whatever got lost. A digest also carries the fingerprint of the member
  list: two nodes that differ exchange everything over a stream.

Be aware: without a key ring the engine is silent and deaf.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from meshnet.errors import WireError
from meshnet.gossip import wire
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.events import Event, RecordsChanged, Synced
from meshnet.gossip.members import Address, Member, State
from meshnet.gossip.membership import Membership, Outbox
from meshnet.gossip.prober import Prober
from meshnet.gossip.table import Delta, Digest, Table, cut
from meshnet.gossip.timers import Timers
from meshnet.gossip.wire import KeyRing, Message
from meshnet.model.ids import NodeId, Rng

_DELTA_HEAD_BYTES = 300
"""Room kept in a packet for what is around a delta's entries, and for riders."""
_WHOLE = 1 << 30
"""Room of a delta on a stream."""


class GossipEngine:
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
        self.synced = False
        self.dropped: Counter[str] = Counter()
        """Packets not taken, by reason."""
        self._config = config
        self._self_id = self_id
        self._generation = generation
        self._rng = rng
        self._ring: KeyRing | None = None
        self._outbox: Outbox = deque()
        self._events: deque[Event] = deque()
        self._timers = Timers()
        me = Member(self_id, address, 1, State.ALIVE, now)
        self._membership = Membership(config, me, rng, self._outbox, self._events, self._timers)
        self._prober = Prober(config, self._membership, rng, self._outbox, self._timers)
        self._table = Table()
        self._table.adopt(self_id, generation)
        self._known: dict[NodeId, dict[NodeId, tuple[int, int]]] = {}
        self._seeds: frozenset[Address] = frozenset()
        self._streams: list[Address] = []
        self._last_stream = now
        self._push_wanted = False
        for kind, delay in (
            ("probe", config.probe_interval_s),
            ("gossip", config.gossip_interval_s),
            ("push_pull", config.push_pull_interval_s),
            ("rejoin", config.rejoin_interval_s),
            ("reap", config.tombstone_s),
        ):
            self._timers.arm(now + delay * (0.5 + 0.5 * rng.random()), kind)

    # ---- what the owner of the engine says ----

    def set_keys(self, keys: Sequence[bytes]) -> None:
        """Replaces the key ring, newest first, 16 bytes each; empty makes the engine silent."""
        self._ring = KeyRing(tuple(keys)) if keys else None

    def join(self, seeds: Iterable[Address]) -> None:
        """Sets the addresses that must be members; whoever is missing is tried until it answers."""
        self._seeds = frozenset(seeds) - {self._membership.me.address}
        self._rejoin()

    def leave(self, now: float) -> None:
        """Says goodbye; the datagrams must still be sent."""
        self._membership.leave(now)

    def set_record(self, key: str, value: bytes | None, now: float) -> None:
        """Changes one of our records; None deletes it. It is sent with the next datagrams."""
        if self._table.put(self._self_id, self._generation, key, value, now):
            self._push_wanted = True

    # ---- views ----

    def members(self) -> dict[NodeId, Member]:
        """Every member we know of, ourselves included."""
        return dict(self._membership.all)

    def records(self) -> dict[tuple[NodeId, str], bytes]:
        """Records of ourselves and of alive or suspect members; those of the dead are hidden."""
        return {
            (member.id, key): value
            for member in self._membership.all.values()
            if member.counted
            for key, value in self._table.values(member.id).items()
        }

    # ---- the five verbs ----

    def receive_datagram(self, data: bytes, peer: Address, now: float) -> None:
        """Takes one datagram; anything that is not ours is counted in ``dropped``."""
        try:
            for message in self._open(data, peer):
                self._take(message, peer, now)
        except WireError as error:
            self.dropped[error.why] += 1
        except (TypeError, ValueError, AttributeError):
            # The right number of fields but the wrong types: the peer's fault, not ours.
            self.dropped["malformed field"] += 1

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """Sealed packets to send now, each with its destination."""
        if self._push_wanted:
            self._push_wanted = False
            for member in self._membership.sample(self._config.gossip_fanout):
                self._send_lacking(member)
        if self._ring is None:
            self._outbox.clear()
            return []
        by_peer: dict[Address, list[Message]] = {}
        while self._outbox:
            address, message = self._outbox.popleft()
            by_peer.setdefault(address, []).append(message)
        room = self._config.packet_bytes - wire.OVERHEAD - 8
        packets: list[tuple[bytes, Address]] = []
        for address, messages in by_peer.items():
            held: list[Message] = []
            left = room
            for message in messages:
                size = wire.size_of(message)
                if held and size > left:
                    packets.append((self._seal(held), address))
                    held, left = [], room
                held.append(message)
                left -= size
            held.extend(self._membership.riders(left))
            packets.append((self._seal(held), address))
        return packets

    def next_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called next, on the caller's clock."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """Does everything that is due."""
        while (timer := self._timers.pop_due(now)) is not None:
            match timer.kind:
                case "probe":
                    self._prober.probe_due(now)
                case "indirect":
                    self._prober.indirect_due(int(timer.subject))
                case "relay":
                    self._prober.relay_due(int(timer.subject))
                case "suspicion":
                    self._membership.suspicion_due(timer.subject, now)
                case "gossip":
                    self._gossip_due(now)
                case "push_pull":
                    self._timers.arm(now + self._config.push_pull_interval_s, "push_pull")
                    self._streams.extend(m.address for m in self._membership.sample(1))
                case "rejoin":
                    self._timers.arm(now + self._config.rejoin_interval_s, "rejoin")
                    self._rejoin()
                case _:
                    self._reap_due(now)

    def next_event(self) -> Event | None:
        """The next thing that happened, or None."""
        return self._events.popleft() if self._events else None

    # ---- streams (TCP): request, reply and rest, so that both sides end up with everything ----

    def streams_to_open(self) -> list[Address]:
        """Peers to exchange the whole state with; send ``stream_request`` to each."""
        wanted = list(dict.fromkeys(self._streams))
        self._streams.clear()
        return wanted if self._ring is not None else []

    def stream_request(self) -> bytes:
        """What to send on a stream that we open."""
        return self._seal([self._sync()])

    def receive_stream(self, data: bytes, peer: Address, now: float) -> bytes:
        """The reply to a peer's stream request.

        Raises:
            WireError: not ours; close the stream.
        """
        digest = self._merge_sync(self._open(data, peer), peer, now)
        return self._seal([self._sync(), *self._deltas(digest, _WHOLE)])

    def receive_stream_reply(self, data: bytes, peer: Address, now: float) -> bytes:
        """Takes the reply to our request in; returns what the peer still lacks, to send back.

        Raises:
            WireError: not ours; close the stream.
        """
        messages = self._open(data, peer)
        digest = self._merge_sync(messages, peer, now)
        for message in messages[1:]:
            self._take(message, peer, now)
        if not self.synced:
            self.synced = True
            self._events.append(Synced())
        return self._seal(list(self._deltas(digest, _WHOLE)))

    # ---- inside ----

    def _take(self, message: Message, peer: Address, now: float) -> None:
        match message:
            case [wire.PING, sequence, target]:
                if target == self._self_id:
                    self._outbox.append((peer, [wire.ACK, sequence]))
            case [wire.PING_REQ, sequence, target, host, port]:
                self._prober.relay(peer, sequence, NodeId(target), (host, port), now)
            case [wire.ACK, sequence]:
                self._prober.acked(sequence)
            case [wire.NACK, sequence]:
                self._prober.nacked(sequence)
            case [wire.ALIVE, id_, host, port, incarnation]:
                self._membership.heard_alive(NodeId(id_), (host, port), incarnation, now)
            case [wire.SUSPECT, id_, incarnation, accuser]:
                self._membership.heard_suspect(NodeId(id_), incarnation, NodeId(accuser), now)
            case [wire.DEAD, id_, incarnation, accuser]:
                self._membership.heard_dead(NodeId(id_), incarnation, NodeId(accuser), now)
            case [wire.DIGEST, digest, fingerprint]:
                self._heard_digest(_digest(digest), fingerprint, peer, now)
            case [wire.DELTA, owner, generation, base, upto, floor, entries]:
                rows = tuple((key, version, value) for key, version, value in entries)
                delta = Delta(NodeId(owner), generation, base, upto, floor, rows)
                self._heard_delta(delta, peer, now)
            case _:
                raise WireError(peer[0], "unexpected message")

    def _heard_digest(self, digest: Digest, fingerprint: int, peer: Address, now: float) -> None:
        sender = self._membership.at(peer)
        if sender is not None:
            self._known[sender.id] = dict(digest)
        room = self._config.packet_bytes - _DELTA_HEAD_BYTES
        self._outbox.extend((peer, message) for message in self._deltas(digest, room))
        mine = self._table.digest()
        if any(pair > mine.get(owner, (0, 0)) for owner, pair in digest.items()):
            self._outbox.append((peer, [wire.DIGEST, mine, self._membership.fingerprint()]))
        # One exchange at a time: while news still travels, nodes differ for a moment anyway.
        rested = now - self._last_stream > self._config.rejoin_interval_s
        if rested and fingerprint != self._membership.fingerprint():
            self._last_stream = now
            self._streams.append(peer)

    def _heard_delta(self, delta: Delta, peer: Address, now: float) -> None:
        if delta.owner == self._self_id:
            return
        merged = self._table.merge(delta, now)
        if merged is None:
            digest = [wire.DIGEST, self._table.digest(), self._membership.fingerprint()]
            self._outbox.append((peer, digest))
        elif merged:
            sender = self._membership.at(peer)
            if sender is not None:
                known = self._known.setdefault(sender.id, {})
                told = (delta.generation, delta.upto)
                known[delta.owner] = max(known.get(delta.owner, (0, 0)), told)
            self._events.append(RecordsChanged(delta.owner))
            self._push_wanted = True

    def _gossip_due(self, now: float) -> None:
        self._timers.arm(now + self._config.gossip_interval_s, "gossip")
        digest = list(self._table.digest().items())
        take = (self._config.packet_bytes - _DELTA_HEAD_BYTES) // 48
        if len(digest) > take:
            start = int(self._rng.random() * len(digest))
            digest = (digest[start:] + digest[:start])[:take]
        message = [wire.DIGEST, dict(digest), self._membership.fingerprint()]
        for member in self._membership.sample(self._config.gossip_fanout):
            self._outbox.append((member.address, message))

    def _reap_due(self, now: float) -> None:
        self._timers.arm(now + self._config.tombstone_s / 2, "reap")
        self._table.reap(now - self._config.tombstone_s)
        for id_ in self._membership.forget(now - self._config.forget_dead_s):
            self._table.forget(id_)
            self._known.pop(id_, None)

    def _rejoin(self) -> None:
        members = self._membership.all.values()
        present = {m.address for m in members if m.counted}
        self._streams.extend(sorted(self._seeds - present))
        dead = [m.address for m in members if m.state is State.DEAD]
        if dead:
            self._streams.append(dead[int(self._rng.random() * len(dead))])

    def _send_lacking(self, member: Member) -> None:
        known = self._known.setdefault(member.id, {})
        room = self._config.packet_bytes - _DELTA_HEAD_BYTES
        self._outbox.extend((member.address, message) for message in self._deltas(known, room))
        known.update(self._table.digest())

    def _deltas(self, digest: Digest, room: int) -> Iterable[Message]:
        for delta in self._table.lacking(digest):
            for piece in cut(delta, room, size=16):
                entries = [list(entry) for entry in piece.entries]
                head = [piece.owner, piece.generation, piece.base, piece.upto, piece.floor]
                yield [wire.DELTA, *head, entries]

    def _open(self, data: bytes, peer: Address) -> list[Message]:
        if self._ring is None:
            raise WireError(peer[0], "no key yet")
        return self._ring.open(data, peer[0])

    def _seal(self, messages: Sequence[Message]) -> bytes:
        if self._ring is None:
            raise WireError("us", "no key yet")
        return self._ring.seal(messages, self._rng.getrandbits(96).to_bytes(12, "big"))

    def _sync(self) -> Message:
        return [wire.SYNC, self._self_id, self._membership.rows(), self._table.digest()]

    def _merge_sync(self, messages: Sequence[Message], peer: Address, now: float) -> Digest:
        if not messages or messages[0][0] != wire.SYNC:
            raise WireError(peer[0], "expected a sync")
        _, sender, rows, digest = messages[0]
        try:
            known = _digest(digest)
            self._membership.heard_rows(rows, NodeId(sender), now)
        except (TypeError, ValueError, AttributeError) as error:
            raise WireError(peer[0], "malformed sync") from error
        self._known[NodeId(sender)] = dict(known)
        self._last_stream = now
        return known


def _digest(fields: dict[str, list[int]]) -> dict[NodeId, tuple[int, int]]:
    return {NodeId(owner): (pair[0], pair[1]) for owner, pair in fields.items()}
