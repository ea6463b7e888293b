"""Whether a manager may go, and what to say to a user who would have it go. Pure.

Managers are the nodes that have a ``manager_status``: those with a vote.

Source: swarmkit manager/controlapi/node.go (UpdateNode) and manager/state/raft (CanRemoveMember);
moby daemon/cluster/swarm.go (Leave).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from meshnet_control.api.control_pb2 import Node
from meshnet_control.cluster.roles import MANAGER
from meshnet_control.controlapi.refusals import precondition

REACHABLE: Final = "reachable"
LEAVES: Final = (
    "You are attempting to leave the swarm on a node that is participating as a manager. "
)
ERASES: Final = (
    "Removing the last manager erases all current state of the swarm. "
    "Use `--force` to ignore this message. "
)
MAY_LOSE: Final = "Doing so may lose the consensus of your cluster. "
RESTORE: Final = (
    "The only way to restore a swarm that has lost consensus is to reinitialize it with "
    "`--force-new-cluster`. Use `--force` to suppress this message."
)


def check_demotion(node: Node, nodes: Iterable[Node]) -> None:
    """Refuse to make a worker of a manager without which there would be none, or no quorum.

    Args:
        node: the manager.
        nodes: all of the cluster.

    Raises:
        ControlError: in swarmkit's words.
    """
    known = list(nodes)
    if not any(other.spec.role == MANAGER for other in known if other.id != node.id):
        raise precondition("attempting to demote the last manager of the swarm")
    if not node.HasField("manager_status"):
        return  # it has no vote yet
    rest = [each for each in known if each.id != node.id and each.HasField("manager_status")]
    if _reachable(rest) < len(rest) // 2 + 1:
        raise precondition(
            "can't remove member from the raft: this would result in a loss of quorum"
        )


def check_removal(node: Node) -> None:
    """Refuse to forget a node that has a vote.

    Raises:
        ControlError: in swarmkit's words.
    """
    if node.HasField("manager_status"):
        raise precondition(
            f"node {node.id} is a cluster manager and is a member of the raft cluster. "
            "It must be demoted to worker before removal"
        )


def leaving(node_id: str, nodes: Sequence[Node] | None) -> str:
    """What is said to who has a manager leave without ``--force``.

    Args:
        node_id: of the manager.
        nodes: all of the cluster; None: it cannot say, for it does not manage now.
    """
    if nodes is None:
        return LEAVES + MAY_LOSE + RESTORE
    votes = [node for node in nodes if node.HasField("manager_status")]
    reachable, own = _reachable(votes), [node for node in votes if node.id == node_id]
    if not own or not _reachable(own):
        return LEAVES + RESTORE
    if len(votes) == 1:
        return LEAVES + ERASES
    if reachable - 2 > len(votes) - reachable:
        return LEAVES + RESTORE
    return (
        f"{LEAVES}Removing this node leaves {reachable - 1} managers out of {len(votes)}. "
        f"Without a Raft quorum your swarm will be inaccessible. {RESTORE}"
    )


def _reachable(nodes: Iterable[Node]) -> int:
    return sum(node.manager_status.reachability == REACHABLE for node in nodes)
