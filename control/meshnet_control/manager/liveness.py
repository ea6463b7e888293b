"""When a manager gives a node up. Pure: every method takes the time.

A node is judged by what its session says and, once that is silent, by whether its host is there:

| session                       | its host                          | verdict                      |
|-------------------------------|-----------------------------------|------------------------------|
| speaks                        |                                   | none                         |
| broken, or silent for 2 s     | gone: gossip misses it, no answer | Down, at once                |
| silent for three heartbeats   | answers: its daemon is away       | Unknown; Down after a minute |
| silent for three heartbeats   | nobody knows                      | Down                         |

Down costs a node its tasks, Unknown keeps them and brings no new ones: what runs on a host needs no
daemon, and a daemon that is restarted finds its tasks again.

Be aware: gossip alone never makes a node Down. A node whose stream speaks is there, whatever a lost
datagram made others believe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from meshnet_control.cluster.hosts import Hosts

MISSED: Final = 3
SILENT_S: Final = 2.0
AWAY_S: Final = 60.0
"""How long a daemon may be away while its host is there; a slow machine starts one in 30 s."""

Verdict: TypeAlias = Literal["unknown", "down"]


@dataclass
class _Seen:
    last: float
    open: bool
    judged: Verdict | None = None


class Liveness:
    """Who was heard when. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._hosts = Hosts()

    def expect(self, node_id: str, now: float) -> None:
        """A node that was not Down before this manager began to listen."""
        self._seen.setdefault(node_id, _Seen(now, open=False))

    def opened(self, node_id: str, now: float) -> None:
        """A stream begins."""
        self._seen[node_id] = _Seen(now, open=True)

    def heard(self, node_id: str, now: float) -> None:
        """Something came over the stream."""
        if node_id in self._seen:
            self._seen[node_id].last = now

    def closed(self, node_id: str, now: float) -> None:
        """The stream broke; silence counts from here."""
        if node_id in self._seen:
            self._seen[node_id] = _Seen(now, open=False)

    def forget(self, node_id: str) -> None:
        """Nobody waits for this node: it left, was removed, or is Down already."""
        self._seen.pop(node_id, None)

    def hosts(self, hosts: Hosts) -> None:
        """What is known of hosts now; the whole of it, each time it changes."""
        self._hosts = hosts

    def slept(self, now: float, late_s: float) -> None:
        """This manager was kept from looking for so long: that is nobody's silence.

        What was said meanwhile waits unread. A host that went off is noticed later by that.
        """
        for seen in self._seen.values():
            seen.last = min(now, seen.last + late_s)

    def overdue(self, now: float, period: float) -> list[tuple[str, Verdict]]:
        """New verdicts; each is given once, and Down only after Unknown where that was given.

        Args:
            now: the clock.
            period: of heartbeats, seconds.
        """
        found: list[tuple[str, Verdict]] = []
        for node_id, seen in self._seen.items():
            verdict = self._verdict(node_id, seen, now, period)
            if verdict is not None and verdict != seen.judged:
                seen.judged = verdict
                found.append((node_id, verdict))
        return found

    def _verdict(self, node_id: str, seen: _Seen, now: float, period: float) -> Verdict | None:
        silent_s = now - seen.last
        if node_id in self._hosts.gone and (not seen.open or silent_s > SILENT_S):
            return "down"
        if silent_s <= MISSED * period:
            return None
        if node_id in self._hosts.there and silent_s <= max(AWAY_S, MISSED * period):
            return "unknown"
        return "down"
