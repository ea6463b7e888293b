"""Gossip settings, each with its formula, unit and trade.

Source of the formulas: memberlist config.go; SWIM (Das et al., 2002); Lifeguard (Dadgar et al.,
2017).
"""

from __future__ import annotations

from dataclasses import dataclass

PORT = 7946
"""UDP for probes and deltas, TCP for whole-state exchange; Swarm's port."""


@dataclass(frozen=True, slots=True)
class GossipConfig:
    """Timing and sizes. Shorter intervals find a dead node sooner and cost more packets."""

    probe_interval_s: float = 0.5
    """One member is probed every interval (times health + 1), in shuffled turn."""
    probe_timeout_s: float = 0.2
    """Wait for a direct ack before asking others to probe."""
    indirect_probes: int = 3
    """Members asked to probe on our behalf (SWIM's k)."""
    suspicion_mult: float = 2.5
    """Shortest suspicion = mult * max(1, log10(members)) * probe interval, seconds."""
    suspicion_max_mult: float = 2.0
    """Longest suspicion = shortest * this; confirmations by others shrink it (Lifeguard)."""
    health_max: int = 8
    """Ceiling of the local health score, which stretches our own timeouts when *we* are slow."""
    gossip_interval_s: float = 0.2
    """Digests go to ``gossip_fanout`` random members every interval; new records go out at once."""
    gossip_fanout: int = 3
    retransmit_mult: int = 4
    """A membership message rides on mult * ceil(log10(members + 1)) packets."""
    push_pull_interval_s: float = 15.0
    """Whole-state exchange over TCP with one random member."""
    rejoin_interval_s: float = 1.0
    """Seeds and dead members that do not answer are tried again every interval."""
    tombstone_s: float = 60.0
    """A deleted record is remembered this long, so that slow members learn of the deletion."""
    forget_dead_s: float = 24 * 3600.0
    """A dead member and its records are forgotten after this time."""
    packet_bytes: int = 1400
    """Largest sealed datagram."""

    @classmethod
    def lan(cls) -> GossipConfig:
        """Hosts on one site: a killed node is declared dead about 2 to 3 s later."""
        return cls()
