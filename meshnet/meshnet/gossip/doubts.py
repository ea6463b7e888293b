"""How long a suspect has to say that it lives, and how far this node trusts itself (Lifeguard)."""

from __future__ import annotations

from meshnet.gossip.config import GossipConfig
from meshnet.gossip.members import Member
from meshnet.gossip.suspicion import remaining_suspicion_s, suspicion_bounds_s
from meshnet.model.ids import NodeId


class Doubts:
    """Suspicions that run, and the local health.

    Args:
        config: timing.
    """

    def __init__(self, config: GossipConfig) -> None:
        self._config = config
        self._since: dict[NodeId, float] = {}
        self._slept_s = 0.0
        self.health = 0
        """Local health score: 0 is well; it stretches our own timeouts."""

    def begin(self, member: NodeId, now: float) -> None:
        """A member is suspect from now on."""
        self._since[member] = now - self._slept_s

    def forget(self, member: NodeId) -> None:
        """A member is no longer remembered."""
        self._since.pop(member, None)

    def unwell(self) -> None:
        """One more sign that it is us who are slow."""
        self.health = min(self._config.health_max, self.health + 1)

    def overslept(self, late_s: float) -> None:
        """We were not there for a time: it counts against nobody but us."""
        self._slept_s += late_s
        level = min(self._config.health_max, int(late_s / self._config.probe_timeout_s))
        self.health = max(self.health, level)

    def left_s(self, member: Member, now: float, size: int) -> float:
        """Seconds that a suspect has left; below zero: none.

        Args:
            member: the suspect.
            now: the caller's clock.
            size: members that can be talked to, this node included.
        """
        config = self._config
        low, high = suspicion_bounds_s(
            size,
            config.probe_interval_s,
            config.suspicion_mult,
            config.suspicion_growth,
            config.suspicion_max_mult,
        )
        wanted, slower = self.wanted(size), 1.0 + self.health / 2
        if wanted:
            high *= slower  # nobody confirms it, and not even the helpers answer: it may be us
        else:
            low *= slower
        elapsed = now - self._slept_s - self._since[member.id]
        return remaining_suspicion_s(len(member.accusers) - 1, wanted, elapsed, low, high)

    def wanted(self, size: int) -> int:
        """How many that confirm make the wait the shortest."""
        return max(0, min(self._config.indirect_probes, size - 3))
