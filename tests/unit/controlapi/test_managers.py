"""Whether a manager may go."""

from __future__ import annotations

import pytest

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import Node
from meshnet_control.controlapi.managers import (
    ERASES,
    LEAVES,
    MAY_LOSE,
    RESTORE,
    check_demotion,
    check_removal,
    leaving,
)


def nodes(said: str) -> list[Node]:
    """One for each letter: r and u managers that are reachable and not, j joins, w a worker."""
    made = []
    for number, letter in enumerate(said):
        node = Node(id=f"n{number}", spec={"role": "worker" if letter == "w" else "manager"})
        if letter in "ru":
            node.manager_status.reachability = "reachable" if letter == "r" else "unreachable"
        made.append(node)
    return made


def demotion(said: str, number: int) -> str:
    known = nodes(said)
    try:
        check_demotion(known[number], known)
    except ControlError as error:
        return str(error).partition("desc = ")[2]
    return ""


LAST = "attempting to demote the last manager of the swarm"
QUORUM = "can't remove member from the raft: this would result in a loss of quorum"


@pytest.mark.parametrize(
    ("said", "number", "why"),
    [
        ("r", 0, LAST),
        ("rww", 0, LAST),
        ("rr", 0, ""),
        ("rrr", 1, ""),
        ("rru", 2, ""),  # who is away itself
        ("rru", 0, QUORUM),
        ("ruu", 1, QUORUM),
        ("rrruu", 4, ""),
        ("rrruu", 0, QUORUM),
        ("rj", 1, ""),  # it has not got its vote
        ("ju", 0, ""),
    ],
)
def test_a_manager_is_demoted_while_the_others_are_most_of_themselves(said, number, why):
    assert demotion(said, number) == why


def test_a_manager_that_is_still_let_out_is_none_who_stays():
    known = nodes("rr")
    known[1].spec.role = "worker"  # demoted, and has its vote still
    with pytest.raises(ControlError, match=LAST):
        check_demotion(known[0], known)


@pytest.mark.parametrize(("said", "may"), [("r", False), ("u", False), ("w", True), ("j", True)])
def test_a_node_with_a_vote_is_not_removed(said, may):
    (node,) = nodes(said)
    if may:
        check_removal(node)
    else:
        with pytest.raises(ControlError, match="must be demoted to worker before removal"):
            check_removal(node)
    node.spec.role = "worker"  # demoted just now
    if not may:
        with pytest.raises(ControlError):
            check_removal(node)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("r", LEAVES + ERASES),
        ("rw", LEAVES + ERASES),
        (
            "rr",
            f"{LEAVES}Removing this node leaves 1 managers out of 2. "
            f"Without a Raft quorum your swarm will be inaccessible. {RESTORE}",
        ),
        ("rrr", LEAVES + RESTORE),
        (
            "rru",
            f"{LEAVES}Removing this node leaves 1 managers out of 3. "
            f"Without a Raft quorum your swarm will be inaccessible. {RESTORE}",
        ),
        ("jr", LEAVES + RESTORE),
        ("urr", LEAVES + RESTORE),
    ],
)
def test_who_has_a_manager_leave_is_told_what_that_costs(said, expected):
    assert leaving("n0", nodes(said)) == expected


def test_a_manager_that_does_not_manage_knows_no_number():
    assert leaving("n0", None) == LEAVES + MAY_LOSE + RESTORE
