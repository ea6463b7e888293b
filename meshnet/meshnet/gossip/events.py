"""What the engine tells its owner."""

from __future__ import annotations

from dataclasses import dataclass

from meshnet.gossip.members import Member
from meshnet.model.ids import NodeId


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """A member's state or address is new."""

    member: Member


@dataclass(frozen=True, slots=True)
class RecordsChanged:
    """Some records of ``owner`` are new or gone."""

    owner: NodeId


@dataclass(frozen=True, slots=True)
class Synced:
    """The first whole-state exchange with a peer is done."""


Event = MemberChanged | RecordsChanged | Synced
