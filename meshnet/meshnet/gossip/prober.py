"""Finds members that do not answer, and ways that do not lead there (SWIM section 3.1, Lifeguard).

Every probe interval two members, in shuffled turn, are pinged, and those that were not heard for a
while. No ack within the probe timeout: up to k others are asked to ping it for us. Nothing by twice
that time: it is suspect, and some of those who hear of it ping it at once. Answered to others only,
several times in a row: it is alive, and the way between it and us is cut; it is pinged every
interval until it answers us.

Our own timeouts stretch with the local health score, which grows when even the helpers are silent
and when an ack comes after we gave up waiting: then it is us who are slow.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from meshnet.gossip.config import GossipConfig
from meshnet.gossip.members import Address, Member, State
from meshnet.gossip.membership import Membership
from meshnet.gossip.messages import Nack, Ping, PingReq, RelayedAck, Suspect
from meshnet.gossip.news import Outbox
from meshnet.gossip.timers import Timers
from meshnet.model.ids import NodeId, Rng

_MISSED: Final = 64
"""Probes remembered after they were given up, to tell when their ack comes late."""
_SEQUENCES: Final = 1 << 32


@dataclass(slots=True)
class _Probe:
    target: NodeId
    silent_helpers: int = 0
    relayed: bool = False


@dataclass(frozen=True, slots=True)
class _Relay:
    asker: Address
    sequence: int


@dataclass(slots=True)
class _Way:
    """What we know of the way to a member."""

    heard: float
    probed: float = 0.0
    misses: int = 0


class Prober:
    """The failure detector of one node; arms ``probe``, ``indirect``, ``judge`` and ``relay``."""

    def __init__(
        self,
        config: GossipConfig,
        membership: Membership,
        rng: Rng,
        outbox: Outbox,
        timers: Timers,
    ) -> None:
        self._config = config
        self._membership = membership
        self._rng = rng
        self._outbox = outbox
        self._timers = timers
        self._turn: list[NodeId] = []
        self._probes: dict[int, _Probe] = {}
        self._given_up: OrderedDict[int, NodeId] = OrderedDict()
        self._relays: dict[int, _Relay] = {}
        self._ways: dict[NodeId, _Way] = {}
        self._sequence = rng.getrandbits(31)

    def probe_due(self, now: float) -> None:
        """Starts the next probes."""
        stretch = self._membership.doubts.health + 1
        self._timers.arm(now + self._config.probe_interval_s * stretch, "probe")
        turn = [self._next_in_turn() for _ in range(self._config.probes)]
        targets = {m.id: m for m in [*turn, *self._watched(now)] if m is not None}
        for target in targets.values():
            self._start(target, now)

    def verify(self, now: float) -> None:
        """Some of many probe whom others suspect: to confirm it, or to have it refute at once."""
        accused, self._membership.accused = self._membership.accused, []
        for id_ in accused:
            target = self._membership.all.get(id_)
            few = self._rng.random() * len(self._membership.peers()) < self._config.verifiers
            if target is not None and target.present and few:
                self._start(target, now)

    def judge_due(self, sequence: int, now: float) -> None:
        """The time of a probe is over."""
        probe = self._probes.pop(sequence, None)
        if probe is not None:
            self._judge(sequence, probe, now)

    def indirect_due(self, sequence: int) -> None:
        """No direct ack in time: others try, and we try once more."""
        probe = self._probes.get(sequence)
        target = self._membership.all.get(probe.target) if probe is not None else None
        if probe is None or target is None or not target.present:
            return
        count = self._config.indirect_probes
        others = [m for m in self._membership.sample(count + 1) if m.id != target.id][:count]
        probe.silent_helpers = len(others)
        for helper in others:
            self._outbox.append((helper.address, PingReq(sequence, target.id, target.address)))
        # A lost datagram is not a dead node.
        self._outbox.append((target.address, Ping(sequence, target.id)))

    def relay(
        self, asker: Address, sequence: int, target: NodeId, address: Address, now: float
    ) -> None:
        """Pings ``target`` for somebody else."""
        if len(self._relays) >= self._config.relays_max:
            self._outbox.append((asker, Nack(sequence)))
            return
        mine = self._next_sequence()
        self._relays[mine] = _Relay(asker, sequence)
        self._outbox.append((address, Ping(mine, target)))
        self._timers.arm(now + self._config.probe_timeout_s, "relay", str(mine))

    def relay_due(self, sequence: int) -> None:
        """The target did not answer us either: say so, which proves that *we* are alive."""
        relay = self._relays.pop(sequence, None)
        if relay is not None:
            self._outbox.append((relay.asker, Nack(relay.sequence)))

    def acked(self, sequence: int) -> None:
        """The target of a ping answered us, on our own behalf or for somebody we relay for."""
        relay = self._relays.pop(sequence, None)
        if relay is not None:
            self._outbox.append((relay.asker, RelayedAck(relay.sequence)))
        probe = self._probes.pop(sequence, None)
        if probe is not None:
            self._well()
            self._reached(probe.target)
        elif (late := self._given_up.pop(sequence, None)) is not None:
            self._membership.doubts.unwell()
            self._reached(late)

    def relayed(self, sequence: int) -> None:
        """The target of our probe answered a helper."""
        probe = self._probes.get(sequence)
        if probe is not None and not probe.relayed:
            probe.relayed = True
            self._well()
        elif self._given_up.pop(sequence, None) is not None:
            self._membership.doubts.unwell()

    def nacked(self, sequence: int) -> None:
        """A helper is alive but could not reach the target."""
        probe = self._probes.get(sequence)
        if probe is not None:
            probe.silent_helpers -= 1

    def heard(self, member: Member, now: float) -> None:
        """A datagram came from ``member`` itself."""
        way = self._way(member.id, now)
        way.heard = now
        if member.direct:
            way.misses = 0
        if member.state is State.SUSPECT:
            self._tell_suspect(member)  # it speaks, so it can say that it lives

    def forget(self, member: NodeId) -> None:
        """A member is no longer remembered."""
        self._ways.pop(member, None)

    # ---- inside ----

    def _start(self, target: Member, now: float) -> None:
        if any(probe.target == target.id for probe in self._probes.values()):
            return  # its answer is due any moment
        sequence = self._next_sequence()
        self._probes[sequence] = _Probe(target.id)
        self._way(target.id, now).probed = now
        self._outbox.append((target.address, Ping(sequence, target.id)))
        if target.state is State.SUSPECT:
            self._tell_suspect(target)
        wait_s = self._config.probe_timeout_s * (self._membership.doubts.health + 1)
        self._timers.arm(now + wait_s, "indirect", str(sequence))
        self._timers.arm(now + 2 * wait_s, "judge", str(sequence))

    def _tell_suspect(self, target: Member) -> None:
        """It can refute at once (Lifeguard's buddy system)."""
        me = self._membership.me.id
        self._outbox.append((target.address, Suspect(target.id, target.incarnation, me)))

    def _judge(self, sequence: int, probe: _Probe, now: float) -> None:
        target = self._membership.all.get(probe.target)
        if target is None or not target.present:
            return
        if probe.relayed:
            way = self._way(target.id, now)
            way.misses += 1
            if way.misses >= self._config.direct_misses:
                self._membership.reach(target, direct=False)
            return
        self._given_up[sequence] = target.id
        while len(self._given_up) > _MISSED:
            self._given_up.popitem(last=False)
        if probe.silent_helpers > 0:
            self._membership.doubts.unwell()
        self._membership.accuse(target, now)

    def _reached(self, id_: NodeId) -> None:
        way = self._ways.get(id_)
        if way is not None:
            way.misses = 0
        member = self._membership.all.get(id_)
        if member is not None:
            self._membership.reach(member, direct=True)

    def _well(self) -> None:
        doubts = self._membership.doubts
        doubts.health = max(0, doubts.health - 1)

    def _watched(self, now: float) -> list[Member]:
        """Members to probe out of turn: the way there is in doubt; those probed longest ago."""
        doubtful = [
            (way.probed, member)
            for member in self._membership.peers()
            if (way := self._way(member.id, now)).misses or now - way.heard > self._config.silent_s
        ]
        doubtful.sort(key=lambda each: each[0])
        return [member for _, member in doubtful[: self._config.watched]]

    def _way(self, id_: NodeId, now: float) -> _Way:
        way = self._ways.get(id_)
        if way is None:
            way = self._ways[id_] = _Way(heard=now)
        return way

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) % _SEQUENCES
        return self._sequence

    def _next_in_turn(self) -> Member | None:
        for _ in range(2):
            while self._turn:
                member = self._membership.all.get(self._turn.pop())
                if member is not None and member.present:
                    return member
            self._turn = [m.id for m in self._membership.sample(len(self._membership.all))]
        return None
