"""Membership: who is alive, suspect, dead or gone. All transitions live here (SWIM section 4).

Rule 1: a member's incarnation only grows, and only the member itself raises it.
Rule 2: at one incarnation, dead beats suspect beats alive. A higher incarnation beats all.
Rule 3: we never believe that we are suspect or dead: we refute with a greater incarnation.

Source: SWIM (Das et al. 2002), memberlist state.go aliveNode, suspectNode, deadNode.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from meshnet.model.ids import NodeId

Address = tuple[str, int]
"""(IPv4 address, port)."""


class State(Enum):
    """What we believe of a member."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Member:
    """One member as we believe it to be."""

    id: NodeId
    address: Address
    incarnation: int
    state: State
    since: float
    """When the state began, on the caller's clock."""
    accusers: frozenset[NodeId] = field(default=frozenset())
    """Who told us it is suspect."""

    @property
    def counted(self) -> bool:
        """Takes part: its records are visible and it is probed."""
        return self.state is State.ALIVE or self.state is State.SUSPECT


def alive(
    known: Member | None, id_: NodeId, address: Address, incarnation: int, now: float
) -> Member | None:
    """The member after an alive message, or None when the message says nothing new."""
    if known is not None and incarnation <= known.incarnation:
        return None
    if known is not None and known.state is State.ALIVE:
        return replace(known, address=address, incarnation=incarnation)
    return Member(id_, address, incarnation, State.ALIVE, now)


def suspect(known: Member | None, incarnation: int, accuser: NodeId, now: float) -> Member | None:
    """The member after a suspect message, or None when the message says nothing new."""
    if known is None or incarnation < known.incarnation or not known.counted:
        return None
    if known.state is State.SUSPECT and incarnation == known.incarnation:
        if accuser in known.accusers:
            return None
        return replace(known, accusers=known.accusers | {accuser})
    return replace(
        known,
        incarnation=incarnation,
        state=State.SUSPECT,
        since=now,
        accusers=frozenset({accuser}),
    )


def dead(known: Member | None, incarnation: int, accuser: NodeId, now: float) -> Member | None:
    """The member after a dead message; said by the member itself it means left."""
    if known is None or incarnation < known.incarnation or not known.counted:
        return None
    state = State.LEFT if accuser == known.id else State.DEAD
    return replace(known, incarnation=incarnation, state=state, since=now, accusers=frozenset())
