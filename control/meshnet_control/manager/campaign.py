"""Who of the managers leads the orchestration: one manager's next move. Pure.

One key in etcd names who leads; it has a lease, so that it goes with who holds it. Who runs beside
etcd's own leader takes the key over at once: when a host dies, its etcd and its manager die
together, and etcd has chosen a living one before any lease is over. A lease that runs out is for
the rest: a manager that hangs beside an etcd that does not.

Be aware: none of this makes two leaders harmless. Fencing does (``store/fenced``): every commit of
a leader compares the key's revision, and a take-over changes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Holder:
    """What the key says."""

    node_id: str
    lease: int
    mod_revision: int


class Move(Enum):
    """What a manager does next."""

    CLAIM = "claim"
    """Write the key, if it is still as it was seen."""
    LEAD = "lead"
    FOLLOW = "follow"


def next_move(node_id: str, lease: int, holder: Holder | None, *, beside_leader: bool) -> Move:
    """One manager's next move.

    Args:
        node_id: of this manager.
        lease: that it keeps alive now.
        holder: who holds the key; None: nobody.
        beside_leader: the etcd of this manager leads etcd.
    """
    if holder is None:
        return Move.CLAIM
    if holder.node_id == node_id:
        return Move.LEAD if holder.lease == lease else Move.CLAIM  # else it is of an earlier life
    return Move.CLAIM if beside_leader else Move.FOLLOW
