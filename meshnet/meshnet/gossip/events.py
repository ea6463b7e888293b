"""What the engine tells its owner."""

from __future__ import annotations

from dataclasses import dataclass

from meshnet.gossip.members import Address, Member
from meshnet.model.ids import NodeId


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """A member's state, its address, or whether we reach it ourselves is new."""

    member: Member


@dataclass(frozen=True, slots=True)
class RecordsChanged:
    """Some records of ``owner`` are new or gone."""

    owner: NodeId


@dataclass(frozen=True, slots=True)
class Synced:
    """The first whole-state exchange with a peer is done."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A holder of our key sent what is not to be taken; told once a peer and reason."""

    peer: Address
    why: str


Event = MemberChanged | RecordsChanged | Synced | Refused
