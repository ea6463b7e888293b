"""Tables of slots that say which backend a client or a turn gets: pure.

``rendezvous`` is for clients, which are hashed to slots. Each backend has a score in each slot and
the highest one has it (Thaler and Ravishankar 1998, "highest random weight"). Law: a backend that
leaves gives its own slots away and nobody else's moves; one that comes takes its share and nothing
moves between the others. Scores are of the service and the address alone, so all nodes agree.

``turns`` is for counters. Law: every backend has as many turns as its weight, each of them in the
middle of its part of the round (Waldspurger and Weihl 1995, "stride scheduling").

Be aware: a table of rendezvous is as even as chance makes it: of 509 slots a tenth is 51, give or
take 7. Maglev's is even, but moves others', too.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Final

FEW_SLOTS, MANY_SLOTS = 509, 2039
"""Sizes of a table of clients: primes, so that no pattern in a hash meets one of them."""
FEW_BACKENDS: Final = 100
"""From here on the large table: with five slots each a share is a matter of luck."""
MOST_TURNS: Final = 4096
"""Slots of a table of turns; weights that need more are made smaller."""
_SCORE_BYTES: Final = array("I").itemsize


def size_for(backends: int) -> int:
    """Slots of a table for so many backends."""
    return FEW_SLOTS if backends <= FEW_BACKENDS else MANY_SLOTS


@dataclass(frozen=True, slots=True)
class Table:
    """Who has each slot.

    Attributes:
        key: whose table it is; two of them are independent.
        owners: the backend of each slot.
        backends: all of them; with hundreds of them some may have none.
    """

    key: str
    owners: tuple[str, ...]
    backends: frozenset[str]


def rendezvous(key: str, backends: Collection[str], before: Table | None = None) -> Table:
    """The table of these backends.

    Args:
        key: whose table it is.
        backends: at least one, each once; the order does not matter.
        before: an earlier one, which says nothing but what need not be found out again: a backend
            then costs a slot's score each (2039 slots of 500 backends: 3 ms instead of 0.5 s).
    """
    wanted, size = frozenset(backends), size_for(len(backends))
    owners: list[str] = []
    have: frozenset[str] = frozenset()
    if before is not None and before.key == key and len(before.owners) == size:
        have = before.backends & wanted
        owners = list(before.owners)
    if not have:
        first = min(wanted)
        owners, have = [first] * size, frozenset({first})
    columns = {backend: _scores(key, backend, size) for backend in wanted}
    for slot, owner in enumerate(owners):
        if owner not in have:
            owners[slot] = max(have, key=lambda each: (columns[each][slot], each))
    for backend in sorted(wanted - have):
        column = columns[backend]
        for slot, owner in enumerate(owners):
            score, best = column[slot], columns[owner][slot]
            if score > best or (score == best and backend > owner):
                owners[slot] = backend
    return Table(key, tuple(owners), wanted)


@lru_cache(maxsize=1024)
def _scores(key: str, backend: str, size: int) -> array[int]:
    """A backend's score in each slot, 32 bits that nobody can tell from chance."""
    scores = array("I", hashlib.shake_128(f"{key} {backend}".encode()).digest(size * _SCORE_BYTES))
    if sys.byteorder != "little":
        scores.byteswap()
    return scores


def turns(weights: Mapping[str, int]) -> list[str]:
    """Backends in the order of their turns, each as often as its weight says.

    Args:
        weights: of each backend, 0 or more. Who has 0 gets no turn unless all have.

    Returns:
        As few turns as the shares need; at most :data:`MOST_TURNS`, or one for each backend.
    """
    positive = {backend: weight for backend, weight in sorted(weights.items()) if weight > 0}
    shares = positive or dict.fromkeys(sorted(weights), 1)
    shared = gcd(*shares.values())
    shares = _at_most({backend: weight // shared for backend, weight in shares.items()})
    due = sorted(
        ((turn + 0.5) / share, backend)
        for backend, share in shares.items()
        for turn in range(share)
    )
    return [backend for _, backend in due]


def _at_most(shares: Mapping[str, int]) -> dict[str, int]:
    whole = sum(shares.values())
    if whole <= MOST_TURNS:
        return dict(shares)
    return {backend: max(1, share * MOST_TURNS // whole) for backend, share in shares.items()}
