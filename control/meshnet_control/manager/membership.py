"""Who of etcd's members comes, stays and goes: the leader's next move. Pure.

```
 Join ──> learner ──in sync──> votes ──> no manager any more ──> removed
             └──── not within LEARNER_S ────> removed ("undone")
```

One move at a time: each changes what the next is decided on, and etcd refuses more anyway, 5 s long
after one. A member is removed only if those that are left are most of themselves. Who is to go and
leads etcd hands that over first: then the manager beside the new leader removes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.roles import MANAGER

LEARNER_S: Final = 60.0
"""For a member to come and catch up. It is in nobody's way meanwhile, but for other joiners'."""
REACHABLE: Final = "reachable"
UNREACHABLE: Final = "unreachable"


@dataclass(frozen=True)
class Member:
    """One of etcd's."""

    id: int
    name: str
    """The node's id; empty until it has started for the first time."""
    peer: str
    """``host:port``, as its peers reach it."""
    learner: bool


@dataclass(frozen=True)
class Picture:
    """What the leader sees."""

    nodes: Mapping[str, pb.Node]
    members: Sequence[Member]
    alive: AbstractSet[str]
    """Ids of the nodes whose manager keeps its lease."""
    own: int
    """This manager's member."""
    learning: Mapping[int, float]
    """Learners, and when the leader saw each first; monotonic seconds."""


@dataclass(frozen=True)
class Promote:
    """Give a learner its vote, if it is in sync."""

    member: Member


@dataclass(frozen=True)
class Remove:
    """Put a member out."""

    member: Member
    why: str


@dataclass(frozen=True)
class HandOver:
    """Let another member lead etcd: this one is to go."""

    to: Member


Move = Promote | Remove | HandOver


def next_move(picture: Picture, now: float) -> Move | None:
    """What the leader does next with etcd's members; None: they are as they should be.

    Args:
        picture: what there is.
        now: monotonic seconds.
    """
    for member in picture.members:
        if not member.learner:
            continue
        if member.name and not _wanted(member, picture):
            return Remove(member, "it is no manager any more")
        if now - picture.learning.get(member.id, now) >= LEARNER_S:
            return Remove(member, f"it did not catch up within {LEARNER_S:.0f} s")
        if member.name:
            return Promote(member)
    voters = [member for member in picture.members if not member.learner]
    going = [member for member in voters if not _wanted(member, picture)]
    # Those that are away first: without them more of the others may be. This one last.
    going.sort(key=lambda m: (m.id == picture.own, _alive(m, picture), m.id))
    for member in going:
        rest = [other for other in voters if other.id != member.id]
        if not _most(rest, picture):
            continue
        if member.id != picture.own:
            return Remove(member, "it is no manager any more")
        heirs = [m for m in rest if _alive(m, picture)]
        heirs.sort(key=lambda m: (not _wanted(m, picture), m.id))
        return HandOver(heirs[0])
    return None


def statuses(
    picture: Picture, leader: str, addresses: Mapping[str, str]
) -> dict[str, pb.ManagerStatus | None]:
    """What ``manager_status`` should say where it says something else; None: nothing.

    Args:
        picture: what there is.
        leader: the id of the node that leads.
        addresses: ``host:port`` of managers' 2377 by node, of those that are alive.
    """
    voting = {m.name: m for m in picture.members if not m.learner}
    changed: dict[str, pb.ManagerStatus | None] = {}
    for node in picture.nodes.values():
        member = voting.get(node.id)
        if member is None:
            if node.HasField("manager_status"):
                changed[node.id] = None
            continue
        there = _alive(member, picture)
        status = pb.ManagerStatus(
            leader=node.id == leader,
            reachability=REACHABLE if there else UNREACHABLE,
            addr=addresses.get(node.id, node.manager_status.addr),
        )
        if not node.HasField("manager_status") or status != node.manager_status:
            changed[node.id] = status
    return changed


def quorum(votes: int) -> int:
    """How many of so many are most."""
    return votes // 2 + 1


def _most(members: Sequence[Member], picture: Picture) -> bool:
    there = sum(_alive(member, picture) for member in members)
    return there > 0 and there >= quorum(len(members))


def _alive(member: Member, picture: Picture) -> bool:
    return member.id == picture.own or member.name in picture.alive


def _wanted(member: Member, picture: Picture) -> bool:
    node = picture.nodes.get(member.name)
    return node is not None and node.spec.role == MANAGER


def learning(members: Iterable[Member], known: Mapping[int, float], now: float) -> dict[int, float]:
    """``Picture.learning`` after another look at the members."""
    return {m.id: known.get(m.id, now) for m in members if m.learner}
