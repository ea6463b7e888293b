"""Gossip settings, each with its formula, unit and trade.

Source of the formulas: memberlist config.go; SWIM (Das et al., 2002); Lifeguard (Dadgar et al.,
2017).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

_HEADERS_BYTES: Final = 20 + 8
"""IPv4 and UDP."""


@dataclass(frozen=True, slots=True)
class GossipConfig:
    """Timing and sizes. Shorter intervals find a dead node sooner and cost more packets."""

    probe_interval_s: float = 0.5
    """Members are probed every interval (times health + 1), in shuffled turn."""
    probes: int = 2
    """How many of them each time."""
    probe_timeout_s: float = 0.2
    """Wait for a direct ack before asking others to probe, and as long again for theirs."""
    indirect_probes: int = 3
    """Members asked to probe on our behalf (SWIM's k)."""
    suspicion_mult: float = 1.6
    """Shortest suspicion = mult * probe interval up to ten members, seconds. A suspect is told so
    at once and refutes in a round trip; what is left of it is how long a host may be busy."""
    suspicion_growth: float = 0.55
    """Part of it that each power of ten above adds."""
    verifiers: int = 10
    """How many, of many members, probe at once whom another suspects: they confirm or are told."""
    suspicion_max_mult: float = 2.0
    """Longest suspicion = shortest * this; confirmations by others shrink it (Lifeguard)."""
    health_max: int = 8
    """Ceiling of the local health score, which stretches our own timeouts when *we* are slow."""
    late_s: float = 0.1
    """A timer later than this says that we slept: nobody is judged by that time, and the health
    score is at least lateness / probe timeout."""
    silent_s: float = 1.5
    """A member not heard for this long is probed out of turn; gossip is heard from each of 20
    members every 1.3 s on average."""
    watched: int = 8
    """Most members probed out of turn in one interval."""
    direct_misses: int = 4
    """Probes in a row that only others could get answered, until the way there counts as cut."""
    restart_s: float = 60.0
    """A member that announced its restart is waited for this long; its tasks run on."""
    gossip_interval_s: float = 0.2
    """Fingerprints go to ``gossip_fanout`` random members every interval; new records at once."""
    gossip_fanout: int = 3
    retransmit_mult: int = 4
    """A membership message rides on mult * ceil(log10(members + 1)) packets."""
    push_pull_interval_s: float = 15.0
    """Whole-state exchange over TCP with one random member."""
    rejoin_interval_s: float = 1.0
    """Seeds and dead members that do not answer are tried again every interval."""
    rejoins: int = 4
    """Most of them at once, and how often one that is gone is tried by all others together."""
    tombstone_s: float = 60.0
    """A deleted record is remembered this long, so that slow members learn of the deletion."""
    linger_s: float = 60.0
    """A node hears of a network for this long after its last container there: the next may come."""
    forget_dead_s: float = 24 * 3600.0
    """A dead member and its records are forgotten after this time."""
    forget_left_s: float = 60.0
    """A member that left, and a dead one that is not expected back, are told of for this long."""
    packet_bytes: int = 1200
    """Largest sealed datagram that we send: it passes every path in use, tunnels too, as QUIC's do
    (RFC 9000 section 14); a fragment that is lost or filtered would be the whole datagram."""
    frame_bytes: int = 64 << 10
    """Largest sealed frame of a stream: what is held of a peer that has not shown its key."""
    turn_bytes: int = 4 << 20
    """Records sent in one turn of a stream, at least two frames; the rest follows on the next."""
    burst_packets: int = 8
    """Datagrams that answer one digest; who lacks more gets a stream."""
    ask_interval_s: float = 0.25
    """Who did not acknowledge is asked again after this time."""
    asks_at_once: int = 128
    """Most members asked in a fifth of it: as many answers fit into the buffer of a socket."""
    repair_interval_s: float = 0.1
    """One fingerprint of records that differs is answered an interval: while many change, all
    differ a little all the time."""
    streams_max: int = 32
    """Streams that others opened."""
    streams_per_peer: int = 4
    """Of them from one address."""
    streams_opened: int = 16
    """Streams that we opened, one an address."""
    connect_s: float = 2.0
    """Time to open a stream."""
    first_frame_s: float = 2.0
    """Time that who opened a stream has to show the key."""
    exchange_s: float = 20.0
    """Time of one whole-state exchange."""
    members_max: int = 4096
    """Members remembered, dead ones included."""
    relays_max: int = 256
    """Probes under way for others."""

    @classmethod
    def lan(cls) -> GossipConfig:
        """Hosts on one site: a killed node is declared dead after 1.5 s, of 1 000 after 3 s."""
        return cls()

    def through(self, mtu: int) -> GossipConfig:
        """The same for a host whose interface has this MTU, bytes: no datagram is above it."""
        return replace(self, packet_bytes=min(self.packet_bytes, mtu - _HEADERS_BYTES))
