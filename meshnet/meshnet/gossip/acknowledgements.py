"""Who has applied what we changed: the others are asked, and answer whoever asks.

```
 asker                                   asked
 applied? (generation, number) ───────>  what of yours I have applied, at once
                <───────────────────────
                <───────────────────────  and each time it is more, until it is that
```
A mark is (generation of the asker's process, number of its change). A change that nobody waits for
costs nothing, one that is waited for a question and an answer for each member. Nobody keeps what
others told each other: told to all by gossip it would be a number for each of all pairs.

Be aware: an answer is of one generation of the asker. What an earlier process of it was told says
nothing to this one, whatever its clock did.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping

from meshnet.gossip.config import GossipConfig
from meshnet.gossip.events import Acknowledged, Event
from meshnet.gossip.members import Address
from meshnet.gossip.membership import Membership
from meshnet.gossip.messages import Applied, Ask
from meshnet.gossip.news import Outbox
from meshnet.gossip.refusals import Refusals
from meshnet.gossip.table import Mark
from meshnet.gossip.timers import Timers
from meshnet.model.ids import NodeId


def reaches(told: Mark | None, mark: Mark) -> bool:
    """Whether who has applied ``told`` has applied ``mark``."""
    return told is not None and told[0] == mark[0] and told[1] >= mark[1]


class Acknowledgements:
    """Questions and answers of one node.

    Args:
        config: timing and sizes.
        membership: where members are.
        outbox: where messages go.
        events: where answers are told.
        timers: ``ask`` deadlines are armed here.
        refusals: counts what is not taken.
    """

    def __init__(
        self,
        config: GossipConfig,
        membership: Membership,
        outbox: Outbox,
        events: deque[Event],
        timers: Timers,
        refusals: Refusals,
    ) -> None:
        self._config = config
        self._membership = membership
        self._outbox = outbox
        self._events = events
        self._timers = timers
        self._refusals = refusals
        self._applied: dict[NodeId, Mark] = {}
        self._waiting: dict[NodeId, tuple[Mark, Address]] = {}
        self._wanted: Mark = (0, 0)
        self._asked: dict[NodeId, float] = {}
        self._is_armed = False
        self.told: dict[NodeId, Mark] = {}
        """What each member that was asked has applied, as it said last."""

    # ---- what we ask ----

    def ask(self, mark: Mark, members: Collection[NodeId], now: float) -> None:
        """From now on exactly these are asked, until each has applied ``mark``."""
        known = self._asked if mark == self._wanted else {}
        self._wanted = mark
        self._asked = {member: known.get(member, -math.inf) for member in members}
        if self._asked.keys() - known.keys():
            self._send(now)

    def ask_due(self, now: float) -> None:
        """Those that did not answer are asked again."""
        self._is_armed = False
        self._send(now)

    def heard_applied(self, said: Applied) -> None:
        """A member says what of our changes it has applied."""
        before = self.told.get(said.sender)
        if said.mark[0] != self._wanted[0] or reaches(before, said.mark):
            return
        if said.sender not in self._membership.all:
            self._refusals.count("acknowledgement of nobody we know")
            return
        self.told[said.sender] = said.mark
        self._events.append(Acknowledged(said.sender))

    # ---- what we are asked ----

    def applied(self, marks: Mapping[NodeId, Mark]) -> None:
        """What of each member's changes we have applied; who waits for it is told."""
        before, self._applied = self._applied, dict(marks)
        for asker, (wanted, address) in list(self._waiting.items()):
            mark = self._applied.get(asker)
            if mark is not None and mark != before.get(asker) and mark[0] == wanted[0]:
                self._answer(address, mark)
            if reaches(mark, wanted):
                del self._waiting[asker]

    def heard_ask(self, asked: Ask, peer: Address) -> None:
        """A member asks; it is told at once, and again when it is more."""
        if asked.sender not in self._membership.all:
            self._refusals.count("question of nobody we know")
            return
        mark = self._applied.get(asked.sender)
        if mark is not None and mark[0] == asked.mark[0]:
            self._answer(peer, mark)
        if reaches(mark, asked.mark):
            self._waiting.pop(asked.sender, None)
        else:
            self._waiting[asked.sender] = (asked.mark, peer)

    def forget(self, member: NodeId) -> None:
        """A member is no longer remembered."""
        self.told.pop(member, None)
        self._waiting.pop(member, None)

    # ---- inside ----

    def _send(self, now: float) -> None:
        """Asks some: the answers of all at once would not fit into the buffer of a socket."""
        config = self._config
        before = now - config.ask_interval_s
        due = [
            member
            for member, when in self._asked.items()
            if when <= before and not reaches(self.told.get(member), self._wanted)
        ]
        for member in due[: config.asks_at_once]:
            self._asked[member] = now
            known = self._membership.all.get(member)
            if known is not None:
                self._outbox.append((known.address, Ask(self._membership.me.id, self._wanted)))
        if self._asked and not self._is_armed:
            self._is_armed = True
            self._timers.arm(now + config.ask_interval_s / 5, "ask")

    def _answer(self, address: Address, mark: Mark) -> None:
        self._outbox.append((address, Applied(self._membership.me.id, mark)))
