"""Finds members that do not answer: probe, indirect probe, suspicion (SWIM section 3.1).

Every probe interval one member, in shuffled turn, is pinged. No ack within the probe timeout: up to
k others are asked to ping it for us. No ack by the next interval: it is suspect. Our own timeouts
stretch with the local health score (Lifeguard), which grows when even the helpers are silent.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshnet.gossip import wire
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.members import Address, Member, State
from meshnet.gossip.membership import Membership, Outbox
from meshnet.gossip.timers import Timers
from meshnet.model.ids import NodeId, Rng


@dataclass(slots=True)
class _Probe:
    target: NodeId
    sequence: int
    silent_helpers: int = 0


@dataclass(frozen=True, slots=True)
class _Relay:
    asker: Address
    sequence: int


class Prober:
    """The failure detector of one node; arms ``probe``, ``indirect`` and ``relay`` deadlines."""

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
        self._outbox = outbox
        self._timers = timers
        self._turn: list[NodeId] = []
        self._probe: _Probe | None = None
        self._relays: dict[int, _Relay] = {}
        self._sequence = rng.getrandbits(31)

    def probe_due(self, now: float) -> None:
        """Judges the last probe and starts the next one."""
        stretch = self._membership.health + 1
        self._timers.arm(now + self._config.probe_interval_s * stretch, "probe")
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
            me = self._membership.me.id
            accusation = [wire.SUSPECT, target.id, target.incarnation, me]
            self._outbox.append((target.address, accusation))
        when = now + self._config.probe_timeout_s * stretch
        self._timers.arm(when, "indirect", str(self._sequence))

    def indirect_due(self, sequence: int) -> None:
        """No direct ack in time: others try, and we try once more."""
        probe = self._probe
        if probe is None or probe.sequence != sequence:
            return
        target = self._membership.all.get(probe.target)
        if target is None:
            return
        count = self._config.indirect_probes
        others = [m for m in self._membership.sample(count + 1) if m.id != target.id][:count]
        probe.silent_helpers = len(others)
        for helper in others:
            ask = [wire.PING_REQ, probe.sequence, target.id, *target.address]
            self._outbox.append((helper.address, ask))
        # A lost datagram is not a dead node.
        self._outbox.append((target.address, [wire.PING, probe.sequence, target.id]))

    def relay(
        self, asker: Address, sequence: int, target: NodeId, address: Address, now: float
    ) -> None:
        """Pings ``target`` for somebody else."""
        self._sequence += 1
        self._relays[self._sequence] = _Relay(asker, sequence)
        self._outbox.append((address, [wire.PING, self._sequence, target]))
        when = now + self._config.probe_timeout_s
        self._timers.arm(when, "relay", str(self._sequence))

    def relay_due(self, sequence: int) -> None:
        """The target did not answer us either: say so, which proves that *we* are alive."""
        relay = self._relays.pop(sequence, None)
        if relay is not None:
            self._outbox.append((relay.asker, [wire.NACK, relay.sequence]))

    def acked(self, sequence: int) -> None:
        """An ack came in, for us or for somebody we relay for."""
        relay = self._relays.pop(sequence, None)
        if relay is not None:
            self._outbox.append((relay.asker, [wire.ACK, relay.sequence]))
        if self._probe is not None and self._probe.sequence == sequence:
            self._probe = None
            self._membership.health = max(0, self._membership.health - 1)

    def nacked(self, sequence: int) -> None:
        """A helper is alive but could not reach the target."""
        if self._probe is not None and self._probe.sequence == sequence:
            self._probe.silent_helpers -= 1

    def _missed(self, probe: _Probe, now: float) -> None:
        target = self._membership.all.get(probe.target)
        if target is None or not target.counted:
            return
        if probe.silent_helpers > 0:
            self._membership.unwell()
        self._membership.accuse(target, now)

    def _next_in_turn(self) -> Member | None:
        for _ in range(2):
            while self._turn:
                member = self._membership.all.get(self._turn.pop())
                if member is not None and member.counted:
                    return member
            self._turn = [m.id for m in self._membership.sample(len(self._membership.all))]
        return None
