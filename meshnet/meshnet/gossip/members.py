"""Membership: who is alive, suspect, dead or gone. All transitions live here (SWIM section 4).

Rule 1: a member's incarnation only grows, and only the member itself raises it: what it says of
itself (``Word``) is signed, and what others say counts at the incarnation of that word alone.
Rule 2: at one incarnation, dead beats suspect beats alive. A higher incarnation beats all.
Rule 3: we never believe that we are suspect or dead: we refute with a greater incarnation.
Rule 4: a member that announced its restart, at an incarnation of its own, is neither suspected nor
dead at that incarnation because others say so; it is given up by each node for itself, in time.

Source: SWIM (Das et al. 2002), memberlist state.go aliveNode, suspectNode, deadNode.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from meshnet.gossip import signing
from meshnet.gossip.signing import Signer, is_signed
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


SAID: Final = (State.ALIVE, State.RESTARTING, State.LEFT)
"""What a member says of itself."""


@dataclass(frozen=True, slots=True)
class Word:
    """What a member says of itself, in its own hand."""

    id: NodeId
    address: Address
    """Where it receives."""
    incarnation: int
    said: State
    signature: bytes = field(repr=False)

    @classmethod
    def of(
        cls, signer: Signer, id_: NodeId, address: Address, incarnation: int, said: State
    ) -> Word:
        """The word of who has this hand."""
        text = _text(id_, address, incarnation, said)
        return cls(id_, address, incarnation, said, signer.sign(text))

    def holds(self, public: bytes) -> bool:
        """Whether the member with this public key signed it."""
        text = _text(self.id, self.address, self.incarnation, self.said)
        return is_signed(public, self.signature, text)


def _text(id_: NodeId, address: Address, incarnation: int, said: State) -> bytes:
    return signing.text("member", id_, *address, incarnation, said.value)


@dataclass(frozen=True, slots=True)
class Member:
    """One member as we believe it to be."""

    id: NodeId
    address: Address
    incarnation: int
    state: State
    since: float
    """When the state began, on the caller's clock."""
    said: State = State.ALIVE
    """Its own last word at this incarnation."""
    signature: bytes = field(default=b"", repr=False)
    """Under that word."""
    accusers: frozenset[NodeId] = field(default=frozenset())
    """Who told us it is suspect."""
    direct: bool = True
    """False: others reach it, this node does not: the way is cut. Our own finding, not gossip's."""

    @property
    def word(self) -> Word:
        """Its own last word."""
        return Word(self.id, self.address, self.incarnation, self.said, self.signature)

    @property
    def present(self) -> bool:
        """Its daemon is there to be talked to, as far as we know."""
        return self.state is State.ALIVE or self.state is State.SUSPECT

    @property
    def counted(self) -> bool:
        """Takes part: its records are visible."""
        return self.present or self.state is State.RESTARTING


def first(word: Word, now: float) -> Member:
    """The member that one word makes of one who was not known."""
    return _now(word, now, direct=True)


def spoke(known: Member | None, word: Word, now: float) -> Member | None:
    """The member after a word of its own, or None when it says nothing new."""
    match word.said:
        case State.ALIVE:
            return _alive(known, word, now)
        case State.RESTARTING:
            return _restarting(known, word, now)
        case _:
            return _left(known, word, now)


def _alive(known: Member | None, word: Word, now: float) -> Member | None:
    if known is not None and word.incarnation <= known.incarnation:
        return None
    # The way to a member that did not move is what it was, suspicions aside.
    same = known is not None and known.present and known.address == word.address
    direct = known.direct if known is not None and same else True
    since = known.since if known is not None and known.state is State.ALIVE else now
    return _now(word, since, direct=direct)


def _restarting(known: Member | None, word: Word, now: float) -> Member | None:
    if known is not None and word.incarnation < known.incarnation:
        return None
    if known is not None and word.incarnation == known.incarnation and not known.present:
        return None
    return _now(word, now, direct=known is None or known.direct)


def _left(known: Member | None, word: Word, now: float) -> Member | None:
    if known is None or word.incarnation < known.incarnation or not known.counted:
        return None
    return _now(word, now, direct=known.direct)


def _now(word: Word, since: float, *, direct: bool) -> Member:
    return Member(
        word.id,
        word.address,
        word.incarnation,
        word.said,
        since,
        word.said,
        word.signature,
        direct=direct,
    )


def suspect(known: Member | None, incarnation: int, accuser: NodeId, now: float) -> Member | None:
    """The member after a suspect message, or None when the message says nothing new."""
    if known is None or incarnation != known.incarnation or not known.present:
        return None
    if known.state is State.SUSPECT:
        if accuser in known.accusers:
            return None
        return replace(known, accusers=known.accusers | {accuser})
    return replace(known, state=State.SUSPECT, since=now, accusers=frozenset({accuser}))


def dead(known: Member | None, incarnation: int, now: float) -> Member | None:
    """The member after a dead message, or None when the message says nothing new."""
    if known is None or incarnation != known.incarnation or not known.present:
        return None
    return replace(known, state=State.DEAD, since=now, accusers=frozenset())


def given_up(known: Member | None, incarnation: int, now: float) -> Member | None:
    """The member when the time for its restart is over, or None when it is back or gone."""
    if known is None or known.state is not State.RESTARTING or known.incarnation != incarnation:
        return None
    return replace(known, state=State.DEAD, since=now)


def removed(known: Member, now: float) -> Member:
    """The member when the managers have removed it, whatever it says."""
    return replace(known, state=State.LEFT, since=now, accusers=frozenset())
