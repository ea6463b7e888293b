"""The gossip engine: datagrams and timers in, datagrams and events out. It performs no I/O.

The whole surface is aioquic's: ``receive_datagram``, ``datagrams_to_send``, ``next_timer``,
``handle_timer``, ``next_event``; a stream (TCP) is an ``Exchange``. ``now`` is always an argument,
so whoever drives the engine owns time.

Parts that share one outbox and one packet format:

* ``membership.py``: who takes part; news rides on every packet;
* ``prober.py``: who does not answer, and what way is cut;
* ``anti_entropy.py``: each node's records;
* ``exchange.py``: both, whole, over a stream.

What comes in is parsed before it is taken (``wire.py``, ``messages.py``); a packet that is not ours
or malformed is counted by its reason. Any other exception is our own fault and is
not caught here.

Be aware: without a key ring the engine is silent and deaf. A timer that is handled late says that
*we* slept, so what arrived meanwhile is heard first and nobody is judged by that time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgpack

from meshnet.errors import WireError
from meshnet.gossip import wire
from meshnet.gossip.anti_entropy import AntiEntropy
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.events import Event, Synced
from meshnet.gossip.exchange import Exchange, Sealing
from meshnet.gossip.members import Address, Member, State
from meshnet.gossip.membership import Membership, Outbox
from meshnet.gossip.messages import (
    Ack,
    Alive,
    Dead,
    DigestMessage,
    Message,
    Nack,
    Ping,
    PingReq,
    RelayedAck,
    Restarting,
    Summary,
    Suspect,
    parse_address,
)
from meshnet.gossip.prober import Prober
from meshnet.gossip.refusals import Refusals
from meshnet.gossip.table import Delta
from meshnet.gossip.timers import Timer, Timers
from meshnet.gossip.wire import KeyRing
from meshnet.model.ids import NodeId, Rng

UNREACHED_KEY: Final = "unreachable"
"""Our record of the members that others reach and we do not: a msgpack list of ids, ascending."""
UNREACHED: Final = 32
"""Most of them in the record."""
_KEYS: Final = 4
"""Most keys that are tried on a packet."""
_TOO_LONG: Final = "datagram too long"
_NO_KEY: Final = "no key yet"
_STRANGERS: Final = frozenset({wire.NOT_OURS, wire.WRONG_KEY, _TOO_LONG, _NO_KEY})
"""Anybody can make these happen: they are counted and nothing else."""
_JUDGING: Final = frozenset({"probe", "indirect", "relay", "suspicion"})


class GossipEngine:
    """One node's gossip.

    Args:
        config: timing and sizes.
        self_id: this node; 1 to 64 printable ASCII characters.
        address: where others reach us: (IPv4 address, port).
        generation: greater after every start of the process (milliseconds of wall time will do).
        rng: randomness; must be unpredictable in production (it makes nonces).
        now: the caller's clock.
        accepts: whether a record (key, value) of another node may be read: its owner's own fault
            must not be everybody's.
    """

    def __init__(
        self,
        config: GossipConfig,
        self_id: NodeId,
        address: Address,
        generation: int,
        rng: Rng,
        now: float,
        accepts: Callable[[str, bytes], bool] = lambda _key, _value: True,
    ) -> None:
        self.synced = False
        self.self_id = self_id
        self.config = config
        self._rng = rng
        self._ring: KeyRing | None = None
        self._outbox: Outbox = deque()
        self._events: deque[Event] = deque()
        self.refusals = Refusals(self._events)
        self._timers = Timers()
        self._held: list[Timer] = []
        self._said_at = 0
        me = Member(self_id, parse_address(*address), 1, State.ALIVE, now)
        self._membership = Membership(
            config, me, rng, self._outbox, self._events, self._timers, self.refusals
        )
        self._prober = Prober(config, self._membership, rng, self._outbox, self._timers)
        self._streams: list[Address] = []
        self._entropy = AntiEntropy(
            config,
            generation,
            self._membership,
            rng,
            self._outbox,
            self._events,
            self._timers,
            self._streams,
            self.refusals,
            accepts,
            now,
        )
        self._seeds: frozenset[Address] = frozenset()
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
        """Replaces the key ring, newest first; none makes the engine silent.

        A key that is not 16 bytes long, and what is too many, is counted in ``dropped``.
        """
        usable = [key for key in keys if len(key) == wire.KEY_BYTES][:_KEYS]
        if len(usable) < len(keys):
            self.refusals.count("key of a wrong length, or too many", len(keys) - len(usable))
        self._ring = KeyRing(tuple(usable)) if usable else None

    def join(self, seeds: Iterable[Address]) -> None:
        """Sets the addresses that must be members; whoever is missing is tried until it answers.

        What is no IPv4 address and port is counted in ``dropped``.
        """
        usable: set[Address] = set()
        for host, port in seeds:
            try:
                usable.add(parse_address(host, port))
            except ValueError:
                self.refusals.count("seed without an IPv4 address")
        self._seeds = frozenset(usable - {self._membership.me.address})
        self._rejoin()

    def leave(self, now: float) -> None:
        """Says goodbye; the datagrams must still be sent."""
        self._membership.leave(now)

    def announce_restart(self, now: float) -> None:
        """Says that this process ends and another will come; the datagrams must still be sent."""
        self._membership.announce_restart(now)

    def set_record(self, key: str, value: bytes | None, now: float) -> None:
        """Changes one of our records; None deletes it. It is sent with the next datagrams.

        Raises:
            CapacityError: more than any peer would take; nothing changed.
        """
        self._entropy.put(key, value, now)

    # ---- views ----

    @property
    def dropped(self) -> Counter[str]:
        """What was not taken, by reason."""
        return self.refusals.counts

    def members(self) -> dict[NodeId, Member]:
        """Every member we know of, ourselves included."""
        return dict(self._membership.all)

    def records(self) -> dict[tuple[NodeId, str], bytes]:
        """Records of ourselves and of all that take part; those of the dead are hidden."""
        return self._entropy.records()

    def all_records(self) -> dict[tuple[NodeId, str], bytes]:
        """Records of every member we know of, the dead and those that left included."""
        return self._entropy.all_records()

    # ---- the five verbs ----

    def receive_datagram(self, data: bytes, peer: Address, now: float) -> None:
        """Takes one datagram; anything that is not ours is counted in ``dropped``."""
        try:
            messages = self._open_datagram(data, peer)
        except WireError as error:
            self.refuse(error, peer)
            return
        sender = self._membership.at(peer)
        if sender is not None:
            self._prober.heard(sender, now)
        for message in messages:
            self._take(message, peer, now)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """Sealed packets to send now, each with its destination."""
        self._say_unreached(now)
        self._entropy.push()
        if self._ring is None:
            self._outbox.clear()
            return []
        by_peer: dict[Address, list[Message]] = {}
        while self._outbox:
            address, message = self._outbox.popleft()
            by_peer.setdefault(address, []).append(message)
        return [
            (packet, address)
            for address, messages in by_peer.items()
            for packet in self._packed(messages)
        ]

    def next_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called next, on the caller's clock."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """Does everything that is due. Late, it judges nobody before what came in is heard."""
        due = self._timers.next()
        stalled = due is not None and now - due > self.config.late_s
        if due is not None and stalled:
            self._membership.overslept(now - due)
        while (timer := self._timers.pop_due(now)) is not None:
            if stalled and timer.kind in _JUDGING:
                if not self._held:
                    self._timers.arm(now + self.config.probe_timeout_s, "resume")
                self._held.append(timer)
            else:
                self._due(timer, now)

    def next_event(self) -> Event | None:
        """The next thing that happened, or None."""
        return self._events.popleft() if self._events else None

    def refuse(self, error: WireError, peer: Address) -> None:
        """Counts what a peer sent and we did not take."""
        if error.why in _STRANGERS:
            self.refusals.count(error.why)
        else:
            self.refusals.name(error.why, peer)

    # ---- streams (TCP) ----

    def streams_to_open(self) -> list[Address]:
        """Peers to exchange the whole state with; ``open_stream`` for each."""
        wanted = list(dict.fromkeys(self._streams))
        self._streams.clear()
        return wanted if self._ring is not None else []

    def open_stream(self, peer: Address) -> Exchange:
        """Our side of a stream that we open."""
        return self._exchange(peer, opener=True)

    def accept_stream(self, peer: Address) -> Exchange:
        """Our side of a stream that a peer opened."""
        return self._exchange(peer, opener=False)

    # ---- inside ----

    def _take(self, message: Message, peer: Address, now: float) -> None:  # noqa: PLR0912 - a table
        match message:
            case Ping(sequence, target):
                if target == self.self_id:
                    self._outbox.append((peer, Ack(sequence)))
            case PingReq(sequence, target, address):
                self._prober.relay(peer, sequence, target, address, now)
            case Ack(sequence):
                self._prober.acked(sequence)
            case RelayedAck(sequence):
                self._prober.relayed(sequence)
            case Nack(sequence):
                self._prober.nacked(sequence)
            case Alive(id_, address, incarnation):
                self._membership.heard_alive(id_, address, incarnation, now)
            case Suspect(id_, incarnation, accuser):
                self._membership.heard_suspect(id_, incarnation, accuser, now)
            case Dead(id_, incarnation, accuser):
                self._membership.heard_dead(id_, incarnation, accuser, now)
            case Restarting(id_, incarnation):
                self._membership.heard_restarting(id_, incarnation, now)
            case Summary():
                self._entropy.heard_summary(message, peer, now)
            case DigestMessage(versions):
                self._entropy.heard_digest(versions, peer, now)
            case Delta():
                self._entropy.heard_delta(message, peer, now)
            case _:
                self.refusals.name("message of a stream in a datagram", peer)

    def _due(self, timer: Timer, now: float) -> None:
        match timer.kind:
            case "probe":
                self._prober.probe_due(now)
            case "indirect":
                self._prober.indirect_due(int(timer.subject))
            case "relay":
                self._prober.relay_due(int(timer.subject))
            case "suspicion":
                self._membership.suspicion_due(timer.subject, now)
            case "restart":
                self._membership.restart_due(timer.subject, now)
            case "resume":
                held, self._held = self._held, []
                for each in held:
                    self._due(each, now)
            case "gossip":
                self._entropy.gossip_due(now)
            case "push_pull":
                self._timers.arm(now + self.config.push_pull_interval_s, "push_pull")
                self._streams.extend(m.address for m in self._membership.sample(1))
            case "rejoin":
                self._timers.arm(now + self.config.rejoin_interval_s, "rejoin")
                self._rejoin()
            case _:
                self._reap_due(now)

    def _reap_due(self, now: float) -> None:
        self._timers.arm(now + self.config.tombstone_s / 2, "reap")
        self._entropy.table.reap(now - self.config.tombstone_s)
        for id_ in self._membership.forget(now - self.config.forget_dead_s):
            self._entropy.forget(id_)
            self._prober.forget(id_)

    def _rejoin(self) -> None:
        members = self._membership.all.values()
        present = {m.address for m in members if m.present}
        self._streams.extend(sorted(self._seeds - present))
        silent = {m.address for m in members if m.state in {State.DEAD, State.RESTARTING}}
        if gone := sorted(silent - present - {self._membership.me.address}):
            self._streams.append(gone[int(self._rng.random() * len(gone))])

    def _say_unreached(self, now: float) -> None:
        if self._said_at == self._membership.changes:
            return
        self._said_at = self._membership.changes
        unreached = self._membership.unreached()[:UNREACHED]
        self._entropy.put(UNREACHED_KEY, msgpack.packb(unreached) if unreached else None, now)

    def _packed(self, messages: Sequence[Message]) -> Iterable[bytes]:
        """Packets of what is for one peer; of several digests or summaries only the newest goes."""
        newest = {type(m): place for place, m in enumerate(messages)}
        room = self.config.packet_bytes - wire.OVERHEAD - wire.LIST_HEAD
        held: list[bytes] = []
        left = room
        for place, message in enumerate(messages):
            if isinstance(message, DigestMessage | Summary) and newest[type(message)] != place:
                continue
            encoded = wire.encode(message)
            if held and (len(encoded) > left or len(held) == wire.MESSAGES):
                yield self._seal(held)
                held, left = [], room
            held.append(encoded)
            left -= len(encoded)
        held.extend(self._membership.riders(left))
        yield self._seal(held)

    def _exchange(self, peer: Address, *, opener: bool) -> Exchange:
        def finished(more: bool) -> None:  # noqa: FBT001 - a callback
            if more:
                self._streams.append(peer)
            elif not self.synced:
                self.synced = True
                self._events.append(Synced())

        return Exchange(
            self.config,
            peer,
            opener=opener,
            sealing=Sealing(self._seal, self._open),
            membership=self._membership,
            entropy=self._entropy,
            finished=finished,
        )

    def _open_datagram(self, data: bytes, peer: Address) -> tuple[Message, ...]:
        if len(data) > self.config.packet_bytes:
            raise WireError(peer[0], _TOO_LONG)
        messages = self._open(data, peer)
        if sum(isinstance(message, DigestMessage) for message in messages) > 1:
            raise WireError(peer[0], "several digests in one datagram")
        return messages

    def _open(self, data: bytes, peer: Address) -> tuple[Message, ...]:
        if self._ring is None:
            raise WireError(peer[0], _NO_KEY)
        return self._ring.open(data, peer[0])

    def _seal(self, encoded: Sequence[bytes]) -> bytes:
        if self._ring is None:
            raise WireError("us", _NO_KEY)
        return self._ring.seal(encoded, self._rng.getrandbits(96).to_bytes(12, "big"))
