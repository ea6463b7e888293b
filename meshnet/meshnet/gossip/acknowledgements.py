"""Who has applied what we changed: the others are asked, and answer whoever asks.

```
 asker                                   asked
 applied? (generation, number) ───────>  what of yours I have applied, at once
                <───────────────────────
                <───────────────────────  and each time it is more, until it is that
```
A mark is (generation of the asker's process, number of its change), and of one share: what it said
on a network is asked of those alone that hear of that. It is named by the share of whoever speaks.
A change that nobody waits for costs nothing, one that is waited for a question and an answer for
each member that hears of it. Nobody keeps what others told each other: told to all by gossip it
would be a number for each of all pairs.

Be aware: an answer is of one generation of the asker. What an earlier process of it was told says
nothing to this one, whatever its clock did.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from meshnet.gossip.audiences import Audiences
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.events import Acknowledged, Event
from meshnet.gossip.members import Address
from meshnet.gossip.membership import Membership
from meshnet.gossip.messages import Applied, Ask
from meshnet.gossip.news import Outbox
from meshnet.gossip.refusals import Refusals
from meshnet.gossip.shares import Share, parts, share_of
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
        audiences: who takes part in which network.
        outbox: where messages go.
        events: where answers are told.
        timers: ``ask`` deadlines are armed here.
        refusals: counts what is not taken.
    """

    def __init__(
        self,
        config: GossipConfig,
        membership: Membership,
        audiences: Audiences,
        outbox: Outbox,
        events: deque[Event],
        timers: Timers,
        refusals: Refusals,
    ) -> None:
        self._config = config
        self._membership = membership
        self._audiences = audiences
        self._outbox = outbox
        self._events = events
        self._timers = timers
        self._refusals = refusals
        self._applied: dict[Share, Mark] = {}
        self._waiting: dict[Share, tuple[Mark, Address]] = {}
        self._asked: dict[Share, tuple[Mark, float]] = {}
        self._is_armed = False
        self.told: dict[Share, Mark] = {}
        """What of ours each member that was asked has applied, as it said last."""

    # ---- what we ask ----

    def ask(self, wanted: Mapping[Share, Mark], now: float) -> None:
        """From now on exactly these are asked, until each has applied its mark."""
        before, self._asked = self._asked, {}
        for share, mark in wanted.items():
            had, when = before.get(share, (None, -math.inf))
            self._asked[share] = (mark, when if had == mark else -math.inf)
        if any(share not in before or before[share][0] != mark for share, mark in wanted.items()):
            self._send(now)

    def ask_due(self, now: float) -> None:
        """Those that did not answer are asked again."""
        self._is_armed = False
        self._send(now)

    def heard_applied(self, said: Applied) -> None:
        """A member says what of our changes it has applied."""
        member, _ = parts(said.share)
        if member not in self._membership.all:
            self._refusals.count("acknowledgement of nobody we know")
            return
        asked = self._asked.get(said.share)
        if asked is None or said.mark[0] != asked[0][0]:
            return
        if reaches(self.told.get(said.share), said.mark):
            return
        self.told[said.share] = said.mark
        self._events.append(Acknowledged(member))

    # ---- what we are asked ----

    def applied(self, marks: Mapping[Share, Mark]) -> None:
        """What of each member's changes we have applied; who waits for it is told."""
        before, self._applied = self._applied, dict(marks)
        for share, (wanted, address) in list(self._waiting.items()):
            mark = self._applied.get(share)
            if mark is not None and mark != before.get(share) and mark[0] == wanted[0]:
                self._answer(address, share, mark)
            if reaches(mark, wanted):
                del self._waiting[share]

    def heard_ask(self, asked: Ask, peer: Address) -> None:
        """A member asks; it is told at once, and again when it is more."""
        if parts(asked.share)[0] not in self._membership.all:
            self._refusals.count("question of nobody we know")
            return
        if not self._audiences.counts(asked.share):
            self._refusals.count("question about a network that we are not on")
            return
        mark = self._applied.get(asked.share)
        if mark is not None and mark[0] == asked.mark[0]:
            self._answer(peer, asked.share, mark)
        if reaches(mark, asked.mark):
            self._waiting.pop(asked.share, None)
        else:
            self._waiting[asked.share] = (asked.mark, peer)

    def forget(self, member: NodeId) -> None:
        """A member is no longer remembered."""
        for known in (self.told, self._waiting):
            for share in [share for share in known if parts(share)[0] == member]:
                del known[share]

    # ---- inside ----

    def _send(self, now: float) -> None:
        """Asks some: the answers of all at once would not fit into the buffer of a socket."""
        config = self._config
        before = now - config.ask_interval_s
        due = [
            (share, mark)
            for share, (mark, when) in self._asked.items()
            if when <= before and not reaches(self.told.get(share), mark)
        ]
        for share, mark in due[: config.asks_at_once]:
            self._asked[share] = (mark, now)
            member, network = parts(share)
            known = self._membership.all.get(member)
            if known is not None:
                mine = share_of(self._membership.me.id, network)
                self._outbox.append((known.address, Ask(mine, mark)))
        if self._asked and not self._is_armed:
            self._is_armed = True
            self._timers.arm(now + config.ask_interval_s / 5, "ask")

    def _answer(self, address: Address, asked: Share, mark: Mark) -> None:
        mine = share_of(self._membership.me.id, parts(asked)[1])
        self._outbox.append((address, Applied(mine, mark)))
