"""The gossip engine: datagrams and timers in, datagrams and events out. It performs no I/O.

The whole surface is aioquic's: ``receive_datagram``, ``datagrams_to_send``, ``next_timer``,
``handle_timer``, ``next_event``; a stream (TCP) is an ``Exchange``. ``now`` is always an argument,
so whoever drives the engine owns time.

Parts that share one outbox and one packet format:

* ``membership.py``: who takes part; news rides on every packet;
* ``prober.py``: who does not answer, and what way is cut;
* ``anti_entropy.py``: each node's records;
* ``participation.py``: on which networks we are, whose records we so have;
* ``exchange.py``: both, whole, over a stream;
* ``acknowledgements.py``: who has applied what we changed.

What comes in is parsed before it is taken (``wire.py``, ``messages.py``); a packet that is not ours
or malformed is counted by its reason. Any other exception is our own fault and is
not caught here.

Be aware: without a key ring the engine is silent and deaf. A timer that is handled late says that
*we* slept, so what arrived meanwhile is heard first and nobody is judged by that time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import msgpack

from meshnet.errors import WireError
from meshnet.gossip import packets
from meshnet.gossip.acknowledgements import Acknowledgements
from meshnet.gossip.anti_entropy import AntiEntropy
from meshnet.gossip.audiences import Audiences
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.events import Event, MemberForgotten, Synced
from meshnet.gossip.exchange import Exchange
from meshnet.gossip.hearing import Hearing
from meshnet.gossip.members import Address, Member, State, Word
from meshnet.gossip.membership import Membership
from meshnet.gossip.messages import (
    Message,
)
from meshnet.gossip.news import Outbox
from meshnet.gossip.parsing import parse_address
from meshnet.gossip.participation import Participation
from meshnet.gossip.prober import Prober
from meshnet.gossip.refusals import Refusals
from meshnet.gossip.rejoining import Rejoining
from meshnet.gossip.sealer import STRANGERS, Sealer
from meshnet.gossip.shares import Share
from meshnet.gossip.signing import Signer
from meshnet.gossip.table import Mark
from meshnet.gossip.timers import Timer, Timers
from meshnet.model.ids import NodeId, Rng

UNREACHED_KEY: Final = "unreachable"
"""Our record of the members that others reach and we do not: a msgpack list of ids, ascending."""
UNREACHED: Final = 32
"""Most of them in the record."""
_JUDGING: Final = frozenset({"probe", "indirect", "judge", "relay", "suspicion"})


class GossipEngine:
    """One node's gossip.

    Args:
        config: timing and sizes.
        self_id: this node; 1 to 64 printable ASCII characters.
        address: where others reach us: (IPv4 address, port).
        generation: greater after every start of the process (milliseconds of wall time will do).
        rng: randomness; must be unpredictable in production (it makes nonces).
        now: the caller's clock.
        signer: this node's hand; the others must be told its public half (``expect``).
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
        signer: Signer,
        accepts: Callable[[str, bytes], bool] = lambda _key, _value: True,
    ) -> None:
        self.synced = False
        self.self_id = self_id
        self.config = config
        self._rng = rng
        self._outbox: Outbox = deque()
        self._events: deque[Event] = deque()
        self.refusals = Refusals(self._events)
        self._sealer = Sealer(rng, self.refusals)
        self._timers = Timers()
        self._held: list[Timer] = []
        self._said_at = 0
        me = Word.of(signer, self_id, parse_address(*address), 1, State.ALIVE)
        self._membership = Membership(
            config,
            me,
            signer,
            now,
            rng,
            self._outbox,
            self._events,
            self._timers,
            self.refusals,
        )
        self._prober = Prober(config, self._membership, rng, self._outbox, self._timers)
        self._streams: list[Address] = []
        self._entropy = AntiEntropy(
            config,
            generation,
            signer,
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
        self._participation = Participation(
            config, self._membership, self._entropy, rng, self._streams
        )
        self._acknowledgements = Acknowledgements(
            config,
            self._membership,
            self._entropy.table.audiences,
            self._outbox,
            self._events,
            self._timers,
            self.refusals,
        )
        self._hearing = Hearing(
            self._membership,
            self._prober,
            self._entropy,
            self._acknowledgements,
            self._outbox,
            self.refusals,
        )
        self._rejoining = Rejoining(config, self._membership, rng, self._streams, self.refusals)
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
        """Replaces the key ring, the first seals; none makes the engine silent.

        A key that is not 16 bytes long, and what is too many, is counted in ``dropped``.
        """
        self._sealer.set_keys(keys)

    def join(self, seeds: Iterable[Address]) -> None:
        """Sets the addresses that must be members; whoever is missing is tried until it answers.

        What is no IPv4 address and port is counted in ``dropped``.
        """
        self._rejoining.join(seeds)

    def expect(self, hands: Mapping[NodeId, bytes], now: float) -> None:
        """Sets who belongs to the cluster, dead or not, and the public key of each.

        Before this is said nobody is believed. Who does not belong to it is believed nothing any
        more, whatever keys it has: it has left, is not dialled, and soon forgotten. Who has another
        key than before begins anew: nothing that it said in the other one holds it up.
        """
        for member in self._membership.expect(hands, now):
            self._entropy.forget(member)

    def leave(self, now: float) -> None:
        """Says goodbye; the datagrams must still be sent."""
        self._membership.leave(now)

    def announce_restart(self, now: float) -> None:
        """Says that this process ends and another will come; the datagrams must still be sent."""
        self._membership.announce_restart(now)

    def take_part(self, networks: Collection[str], now: float) -> None:
        """From now on this node is on exactly these networks; ``audiences.EVERY``: it hears of all.

        All that was said there is asked for at once. Of one that is left it hears for a while more.

        Raises:
            CapacityError: they are more than any peer would take.
        """
        self._participation.choose(networks, now)

    def set_record(self, key: str, value: bytes | None, now: float) -> None:
        """Changes one of our records; None deletes it. It is sent with the next datagrams.

        Args:
            key: ``name``, told to all, or ``network name``, told to those that hear of that.
            value: of the record.
            now: the caller's clock.

        Raises:
            CapacityError: more than any peer would take; nothing changed.
        """
        self._entropy.put(key, value, now)

    def applied(self, marks: Mapping[Share, Mark]) -> None:
        """What of each member's changes this node has applied, told to whoever asks."""
        self._acknowledgements.applied(marks)

    def ask(self, wanted: Mapping[Share, Mark], now: float) -> None:
        """Asks exactly these from now on, until each has applied its mark of ours.

        Args:
            wanted: share of who is asked -> what we said to all, or on that network.
            now: the caller's clock.
        """
        self._acknowledgements.ask(wanted, now)

    # ---- views ----

    @property
    def acknowledged(self) -> Mapping[Share, Mark]:
        """What of our changes each member that was asked has applied, as it said last."""
        return self._acknowledgements.told

    @property
    def audiences(self) -> Audiences:
        """Who is on which network; not to be changed."""
        return self._entropy.table.audiences

    @property
    def dropped(self) -> Counter[str]:
        """What was not taken, by reason."""
        return self.refusals.counts

    def members(self) -> dict[NodeId, Member]:
        """Every member we know of, ourselves included."""
        return self._membership.views()

    def records(self) -> dict[tuple[NodeId, str], bytes]:
        """Records of ourselves and of all that take part; those of the dead are hidden."""
        return self._entropy.records()

    def all_records(self) -> dict[tuple[NodeId, str], bytes]:
        """Records of every member we know of, the dead and those that left included."""
        return self._entropy.all_records()

    def record(self, owner: NodeId, key: str) -> bytes | None:
        """One record of a member we know of, as ``all_records`` has it; None: it has none."""
        return self._entropy.record(owner, key)

    def told(self, key: str) -> dict[NodeId, bytes]:
        """What all that take part say in their record ``key``."""
        return self._entropy.told(key)

    # ---- the five verbs ----

    def receive_datagram(self, data: bytes, peer: Address, now: float) -> None:
        """Takes one datagram; anything that is not ours is counted in ``dropped``."""
        try:
            messages = self._sealer.open_datagram(data, peer)
        except WireError as error:
            self.refuse(error, peer)
            return
        sender = self._membership.at(peer)
        if sender is not None:
            self._prober.heard(sender, now)
        for message in messages:
            self._hearing.take(message, peer, now)
        self._prober.verify(now)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """Sealed packets to send now, each with its destination."""
        self._say_unreached(now)
        self._entropy.push()
        if not self._sealer.is_ready:
            self._outbox.clear()
            return []
        by_peer: dict[Address, list[Message]] = {}
        while self._outbox:
            address, message = self._outbox.popleft()
            by_peer.setdefault(address, []).append(message)
        return [
            (self._sealer.seal([*held, *self._membership.riders(left)]), address)
            for address, messages in by_peer.items()
            for held, left in packets.packed(messages, self.config.packet_bytes)
        ]

    def next_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called next, on the caller's clock."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """Does everything that is due. Late, it judges nobody before what came in is heard."""
        due = self._timers.next()
        stalled = due is not None and now - due > self.config.late_s
        if due is not None and stalled:
            self._membership.doubts.overslept(now - due)
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
        if error.why in STRANGERS:
            self.refusals.count(error.why)
        else:
            self.refusals.name(error.why, peer)

    # ---- streams (TCP) ----

    def streams_to_open(self) -> list[Address]:
        """Peers to exchange the whole state with; ``open_stream`` for each."""
        wanted = list(dict.fromkeys(self._streams))
        self._streams.clear()
        return wanted if self._sealer.is_ready else []

    def open_stream(self, peer: Address) -> Exchange:
        """Our side of a stream that we open."""
        return self._exchange(peer, opener=True)

    def accept_stream(self, peer: Address) -> Exchange:
        """Our side of a stream that a peer opened."""
        return self._exchange(peer, opener=False)

    # ---- inside ----

    def _due(self, timer: Timer, now: float) -> None:  # noqa: PLR0912 - a table
        match timer.kind:
            case "probe":
                self._prober.probe_due(now)
            case "indirect":
                self._prober.indirect_due(int(timer.subject))
            case "judge":
                self._prober.judge_due(int(timer.subject), now)
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
            case "ask":
                self._acknowledgements.ask_due(now)
            case "forget":
                self._forget_due(now)
            case "push_pull":
                self._timers.arm(now + self.config.push_pull_interval_s, "push_pull")
                self._streams.extend(m.address for m in self._membership.sample(1))
            case "rejoin":
                self._timers.arm(now + self.config.rejoin_interval_s, "rejoin")
                self._rejoining.due()
                self._participation.due(now)
            case _:
                self._reap_due(now)

    def _reap_due(self, now: float) -> None:
        self._timers.arm(now + self.config.tombstone_s / 2, "reap")
        self._entropy.table.reap(now - self.config.tombstone_s)
        self._forget_due(now)

    def _forget_due(self, now: float) -> None:
        for id_ in self._membership.forget_due(now):
            self._entropy.forget(id_)
            self._prober.forget(id_)
            self._acknowledgements.forget(id_)
            self._events.append(MemberForgotten(id_))

    def _say_unreached(self, now: float) -> None:
        if self._said_at == self._membership.changes:
            return
        self._said_at = self._membership.changes
        unreached = self._membership.unreached()[:UNREACHED]
        self._entropy.put(UNREACHED_KEY, msgpack.packb(unreached) if unreached else None, now)

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
            sealer=self._sealer,
            membership=self._membership,
            entropy=self._entropy,
            finished=finished,
        )
