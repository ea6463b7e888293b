"""What gossip says of the members: their hosts, for the manager, and news for a person. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Address
from typing import Final

from meshnet.gossip.members import Member, State
from meshnet.model.ids import NodeId
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.hosts import Hosts

AWAY: Final = {
    State.DEAD: "gave no sign of life",
    State.LEFT: "has left",
    State.RESTARTING: "said that its meshnetd starts again",
}
SILENT: Final = frozenset({State.DEAD, State.LEFT, State.RESTARTING})
"""A host that is switched off in order says that its daemon restarts, too."""
UNHEARD: Final = "others did not hear this node for a while"

Heard = Mapping[str, tuple[State, int]]
"""Node → its state, and its incarnation, with which a node says that it does live."""


def heard(before: Heard, members: Mapping[NodeId, Member]) -> Heard:
    """What to remember of the members; a suspicion is no news yet."""
    return {
        node: before.get(node, (State.ALIVE, member.incarnation))
        if member.state is State.SUSPECT
        else (member.state, member.incarnation)
        for node, member in members.items()
    }


def news(before: Heard, after: Heard, own: str, names: Mapping[str, str]) -> list[str]:
    """What has become of the members, a sentence each.

    Args:
        before: what was remembered; a node that is not in it is no news.
        after: what is.
        own: this node.
        names: of hosts, by node.
    """
    found = []
    for node, (state, incarnation) in after.items():
        was, lived = before.get(node, (state, incarnation))
        if node == own:
            found += [UNHEARD] if incarnation > lived else []
        elif state is not was:
            name = names.get(node, node)
            found.append(f"{name} {AWAY[state]}" if state in AWAY else f"{name} is back")
    return found


def doubtful(
    nodes: Iterable[pb.NodeView], states: Mapping[NodeId, State], own: str
) -> dict[NodeId, IPv4Address]:
    """Whose hosts are to be asked, for gossip does not have their daemons for alive.

    Args:
        nodes: of the cluster, as the managers tell them.
        states: of the members that gossip knows.
        own: this node.

    Returns:
        Node -> its address.
    """
    found = {
        NodeId(node.id): IPv4Address(node.addr)
        for node in nodes
        if node.addr and states.get(NodeId(node.id)) is not State.ALIVE
    }
    found.pop(NodeId(own), None)
    return found


def hosts(
    states: Mapping[NodeId, State],
    answering: Mapping[NodeId, bool],
    unreached: Mapping[NodeId, AbstractSet[NodeId]],
) -> Hosts:
    """What this node knows of hosts.

    Args:
        states: of the members that gossip knows.
        answering: whether the host of a doubtful node answers; one not in it is not known yet.
        unreached: node -> those that it does not reach though others do.
    """
    missed = {node for node, said in states.items() if said in SILENT}
    left = {node for node, said in states.items() if said is State.LEFT}  # its own last word
    return Hosts(
        gone={node for node in missed if answering.get(node) is False} | left,
        there={node for node, said in states.items() if said is State.ALIVE}
        | {node for node, answers in answering.items() if answers} - left,
        unreached={node: set[str](there) for node, there in unreached.items()},
    )
