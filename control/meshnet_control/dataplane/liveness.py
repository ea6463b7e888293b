"""Who may be chosen, who may still send to us, and when all have spoken. Pure.

Gossip's "dead" says that a daemon is silent. Its host may be gone, or may serve on without it: the
kernel of a host answers for as long as it is there (``meshnet.kernel.host_probe``).

| gossip says      | the host         | chosen | may still send to us |
|------------------|------------------|--------|----------------------|
| alive            |                  | yes    | yes                  |
| suspect          | answers          | yes    | yes                  |
| suspect          | not asked yet    | yes    | yes                  |
| suspect          | is silent        | if nobody else is there | yes |
| alive, way cut   |                  | no     | yes                  |
| anything else    | answers          | yes    | yes                  |
| anything else    | not asked yet    | yes    | yes                  |
| anything else    | is silent        | no     | no                   |
| anything else    | was off, answers | no     | no                   |
| left             |                  | no     | no                   |

A suspicion may be false, so what was begun before goes on: ``Node.doubted``.

"Anything else" is a daemon that restarts, that is dead, or that nobody heard of yet.

See docs/decisions/0018-a-silent-daemon-is-not-a-dead-host.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Final

from meshnet.gossip.members import Member, State
from meshnet.model.ids import NodeId

PATIENCE_S: Final = 30.0
"""Longest wait of a daemon that starts for what the others know, seconds.

A slow machine needs that long to start; what is in the kernel stays as it is meanwhile.
"""


def doubtful(nodes: Iterable[NodeId], members: Mapping[NodeId, Member]) -> frozenset[NodeId]:
    """Nodes whose hosts must be asked: gossip does not say that they are alive, or left."""
    sure = {State.ALIVE, State.LEFT}
    return frozenset(n for n in nodes if n not in members or members[n].state not in sure)


def is_gone(member: Member | None, *, answering: bool | None) -> bool:
    """Whether nothing of a node serves or sends any more.

    Args:
        member: gossip's word; None: it never heard of the node.
        answering: whether its host answers; None: not known (yet).
    """
    if member is not None and member.state is State.LEFT:
        return True
    heard = member is not None and member.present
    return not heard and answering is False


def is_doubted(member: Member | None, *, answering: bool | None) -> bool:
    """Whether nobody who has the choice should begin anything with a node.

    Args:
        member: gossip's word; None: it never heard of the node.
        answering: whether its host answers; None: not known (yet).
    """
    return member is not None and member.state is State.SUSPECT and answering is False


def cut(
    self_id: NodeId,
    members: Mapping[NodeId, Member],
    unreached: Mapping[NodeId, Set[NodeId]],
) -> frozenset[NodeId]:
    """Nodes that live although no packet passes between them and us, one way or both.

    Args:
        self_id: this node.
        members: gossip's word.
        unreached: whom each node says that it does not reach.
    """
    return frozenset(
        node
        for node, member in members.items()
        if member.present and (not member.direct or self_id in unreached.get(node, ()))
    )


def all_spoke(
    others: Set[NodeId],
    members: Mapping[NodeId, Member],
    answering: Mapping[NodeId, bool],
    spoke: Set[NodeId],
) -> bool:
    """Whether every other node that could know something said it, or is known to be gone.

    Args:
        others: nodes of the cluster but this one.
        members: gossip's word.
        answering: node -> whether its host answers.
        spoke: nodes whose endpoints we know, from themselves or from others.
    """
    return all(
        node in spoke or is_gone(members.get(node), answering=answering.get(node))
        for node in others
    )
