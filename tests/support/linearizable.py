"""Whether a recorded history of a store could have happened one operation after the other.

After Wing and Gong ("Testing and verifying concurrent objects", 1993), with Lowe's memory of states
already tried. Operations on one register: write, compare-and-set on its version, read. Times are of
one clock. An operation whose outcome is unknown may take effect at any time after its call, or
never. Every write has a value of its own, and versions only grow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

State = tuple[int, int]
"""Version of the register (0: it does not exist), and its value."""


@dataclass(frozen=True)
class Operation:
    """One call, and what was answered."""

    called: float
    answered: float
    """math.inf: the outcome is unknown."""
    expects: int | None
    """Compare-and-set: the version that it must have. None: whatever it has."""
    writes: int | None
    """The value; None: a read."""
    version: int
    """Read: what it had. Write: what it got; 0: refused, it was another than expected. Of an
    unknown outcome: anything."""
    value: int = 0
    """Read: what it was."""


def step(operation: Operation, state: State) -> State | None:
    """The state after an operation that answered what it did; None: it cannot have, then."""
    version, value = state
    if operation.writes is None:
        return state if (operation.version, operation.value) == (version, value) else None
    matches = operation.expects is None or operation.expects == version
    if not operation.version:
        return None if matches else state
    if not matches or (operation.version > 0 and operation.version <= version):
        return None
    return operation.version, operation.writes


def linearizable(history: Sequence[Operation], first: State = (0, 0)) -> bool:
    """Whether there is an order that each answer and each moment agrees with."""
    operations = sorted(_resolved(history), key=lambda each: each.called)
    everything = (1 << len(operations)) - 1
    known = sum(1 << n for n, each in enumerate(operations) if each.answered < math.inf)
    tried: set[tuple[int, State]] = set()
    ways = [(0, first)]
    while ways:
        done, state = ways.pop()
        if done & known == known:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        left = everything & ~done
        until = min(operations[n].answered for n in _bits(left & known))
        for n in _bits(left):
            if operations[n].called > until:
                break  # another was answered before this one was called
            after = step(operations[n], state)
            if after is not None:
                ways.append((done | 1 << n, after))
    return False


def _resolved(history: Sequence[Operation]) -> list[Operation]:
    """With the version that an unknown write got, if anybody read it; else one of its own."""
    read = {each.value: each.version for each in history if each.writes is None}
    return [
        each
        if each.writes is None or each.answered < math.inf
        else replace(each, version=read.get(each.writes, -each.writes))
        for each in history
    ]


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        lowest = mask & -mask
        found.append(lowest.bit_length() - 1)
        mask ^= lowest
    return found
