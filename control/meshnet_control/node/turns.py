"""Which manager a node asks next, and when. Pure.

```
 asked ── serves ──────────> begins anew after it, with the next one
       ── another leads ───> that one, at once; two that name each other: the next in the list
       ── nothing ─────────> the next in the list
 all asked: wait 0.1 s, doubled to 8 s; to 0.5 s while any of them answers (they are electing)
```

Be aware: managers name the leader they know last, which may be the one that has just died. Who did
not answer a moment ago is left alone for a moment, whoever names it, while another one answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from meshnet.backoff import Backoff

ROUND: Final = Backoff(0.1, 8.0)
"""Between rounds in which nobody was found who leads."""
ELECTING_S: Final = 0.5
"""Longest wait while managers answer; another one leads 1 to 2 s after a leader's death."""
REACH_S: Final = 1.0
"""For a connection, at first; a host that is off answers nothing. Doubled with each in vain."""
LAST_REACH_S: Final = 5.0
REFERRALS: Final = 2
"""To be followed in one round."""
REST_S: Final = 1.0
"""Without a question for one that did not answer, if another one does."""


class Turns:
    """Who is next. One for as long as a node lives.

    Args:
        chance: from 0 to 1: of how long it waits.
    """

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._delays = ROUND.delays(chance)
        self._turn = self._asked = self._referrals = 0
        self._named, self._again = "", ""
        self._answered = False
        """Somebody did in this round."""
        self._silent: dict[str, tuple[float, int]] = {}
        """Who did not answer: when it was asked, how often."""

    def next(self, managers: Sequence[str], now: float) -> tuple[str, float]:
        """Whom to ask, and how long to wait before.

        Args:
            managers: ``host:port`` each, as they are known now.
            now: monotonic seconds.

        Returns:
            ``host:port``, empty when none is known; seconds.
        """
        again, self._again = self._again, ""
        if again:
            return again, ROUND.first_s
        named, self._named = self._named, ""
        if named:
            return named, 0.0
        electing = self._answered
        while self._asked < len(managers):
            remote = self._take(managers)
            if not (electing and self._rests(remote, now)):
                return remote, 0.0
        wait = self._begin_round()
        if not managers:
            return "", wait
        while electing and self._asked < len(managers) - 1:
            remote = self._take(managers)
            if not self._rests(remote, now + wait):
                return remote, wait
        return self._take(managers), wait

    def reach_s(self, remote: str) -> float:
        """Seconds for a connection to a manager."""
        _, often = self._silent.get(remote, (0.0, 0))
        return float(min(REACH_S * 2**often, LAST_REACH_S))

    def served(self, remote: str, managers: Sequence[str]) -> None:
        """A manager has answered as the leader: whatever was before is over."""
        self._delays = ROUND.delays(self._chance)
        self._silent.clear()
        self._answered, self._asked, self._referrals = False, 0, 0
        if remote in managers:
            self._turn = managers.index(remote) + 1

    def silent(self, remote: str, now: float) -> None:
        """A manager did not answer, or what it said was broken off."""
        _, often = self._silent.get(remote, (0.0, 0))
        self._silent[remote] = (now, often + 1)

    def referred(self, remote: str, leader: str, now: float) -> None:
        """A manager does not lead.

        Args:
            remote: which.
            leader: ``host:port`` of who does, by its word; empty: it does not know.
            now: monotonic seconds.
        """
        self._answered = True
        self._silent.pop(remote, None)
        if leader in {"", remote} or self._rests(leader, now) or self._referrals == REFERRALS:
            return
        self._referrals += 1
        self._named = leader

    def repeat(self, remote: str) -> None:
        """The stream was ended here, to begin another one at the same place."""
        self._again = remote

    def _take(self, managers: Sequence[str]) -> str:
        remote = managers[self._turn % len(managers)]
        self._turn += 1
        self._asked += 1
        return remote

    def _begin_round(self) -> float:
        wait = min(next(self._delays), ELECTING_S if self._answered else ROUND.last_s)
        self._answered, self._asked, self._referrals = False, 0, 0
        return wait

    def _rests(self, remote: str, now: float) -> bool:
        at, often = self._silent.get(remote, (0.0, 0))
        return often > 0 and now - at < REST_S
