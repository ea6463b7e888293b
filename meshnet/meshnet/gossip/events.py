"""What the engine tells its owner."""

from __future__ import annotations

from dataclasses import dataclass

from meshnet.gossip.members import Address, Member
from meshnet.gossip.table import Place
from meshnet.model.ids import NodeId


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """A member's state, its address, or whether we reach it ourselves is new."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberForgotten:
    """A member is no longer remembered, nor what it said."""

    id: NodeId


@dataclass(frozen=True, slots=True)
class RecordsChanged:
    """These records, our own among them, have other values or are gone."""

    places: frozenset[Place]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A member that was asked says that it has applied more of what we changed."""

    member: NodeId


@dataclass(frozen=True, slots=True)
class Synced:
    """The first whole-state exchange with a peer is done."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A holder of our key sent what is not to be taken; told once a peer and reason."""

    peer: Address
    why: str


Event = MemberChanged | MemberForgotten | RecordsChanged | Acknowledged | Synced | Refused


@dataclass(frozen=True, slots=True)
class Changes:
    """What is new since the last time, for whoever follows members and records."""

    members: frozenset[NodeId]
    """Whose state, address or way is new, or who is forgotten."""
    records: frozenset[Place]
    """Whose value is another, or none any more; of whatever member, taking part or not."""
