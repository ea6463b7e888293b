"""Membership: who is alive, suspect, dead or gone. All transitions live here (SWIM section 4).

Rule 1: a member's incarnation only grows, and only the member itself raises it.
Rule 2: at one incarnation, dead beats suspect beats alive. A higher incarnation beats all.
Rule 3: we never believe that we are suspect or dead: we refute with a greater incarnation.
Rule 4: a member that announced its restart, at an incarnation of its own, is neither suspected nor
dead at that incarnation because others say so; it is given up by each node for itself, in time.

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
    RESTARTING = "restarting"
    """Its daemon said that it stops and will be back; its host and its tasks run on."""
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
    direct: bool = True
    """False: others reach it, this node does not: the way is cut. Our own finding, not gossip's."""

    @property
    def present(self) -> bool:
        """Its daemon is there to be talked to, as far as we know."""
        return self.state is State.ALIVE or self.state is State.SUSPECT

    @property
    def counted(self) -> bool:
        """Takes part: its records are visible."""
        return self.present or self.state is State.RESTARTING


def alive(
    known: Member | None, id_: NodeId, address: Address, incarnation: int, now: float
) -> Member | None:
    """The member after an alive message, or None when the message says nothing new."""
    if known is not None and incarnation <= known.incarnation:
        return None
    # The way to a member that did not move is what it was, suspicions aside.
    direct = known is None or not known.present or known.address != address or known.direct
    if known is not None and known.state is State.ALIVE:
        return replace(known, address=address, incarnation=incarnation, direct=direct)
    return Member(id_, address, incarnation, State.ALIVE, now, direct=direct)


def suspect(known: Member | None, incarnation: int, accuser: NodeId, now: float) -> Member | None:
    """The member after a suspect message, or None when the message says nothing new."""
    if known is None or incarnation < known.incarnation or not known.counted:
        return None
    if known.state is State.RESTARTING and incarnation == known.incarnation:
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
    if known.state is State.RESTARTING and incarnation == known.incarnation and state is State.DEAD:
        return None
    return replace(known, incarnation=incarnation, state=state, since=now, accusers=frozenset())


def restarting(known: Member | None, incarnation: int, now: float) -> Member | None:
    """The member after it announced its restart, or None when the message says nothing new."""
    if known is None or incarnation < known.incarnation:
        return None
    if incarnation == known.incarnation and not known.present:
        return None
    return replace(
        known, incarnation=incarnation, state=State.RESTARTING, since=now, accusers=frozenset()
    )


def given_up(known: Member | None, incarnation: int, now: float) -> Member | None:
    """The member when the time for its restart is over, or None when it is back or gone."""
    if known is None or known.state is not State.RESTARTING or known.incarnation != incarnation:
        return None
    return replace(known, state=State.DEAD, since=now)
