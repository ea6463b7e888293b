"""Who comes, stays and goes among the managers, as the leader decides it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.api import control_pb2 as pb
from meshnet_control.manager.membership import (
    LEARNER_S,
    HandOver,
    Member,
    Picture,
    Promote,
    Remove,
    next_move,
    quorum,
    statuses,
)

NOW = 1000.0
OWN = 1


def node(name: str, role: str = "manager", *, status: str = "") -> pb.Node:
    made = pb.Node(id=name, spec={"role": role})
    if status:
        made.manager_status.reachability = status
        made.manager_status.addr = f"{name}:2377"
    return made


def voter(number: int, name: str = "") -> Member:
    return Member(number, name or f"m{number}", f"10.0.0.{number}:2380", learner=False)


def learner(number: int, name: str = "") -> Member:
    return Member(number, name, f"10.0.0.{number}:2380", learner=True)


def picture(
    members: list[Member],
    *,
    workers: str = "",
    away: str = "",
    since: float = NOW,
    nodes: list[pb.Node] | None = None,
) -> Picture:
    """Every member a manager but ``workers``, all there but ``away``; the first is this one's."""
    names = [m.name for m in members if m.name]
    made = nodes or [node(n, "worker" if n in workers.split() else "manager") for n in names]
    return Picture(
        nodes={each.id: each for each in made},
        members=members,
        alive=set(names) - set(away.split()),
        own=OWN,
        learning={m.id: since for m in members if m.learner},
    )


def test_nothing_is_done_when_all_are_as_they_should_be():
    assert next_move(picture([voter(1), voter(2), voter(3)]), NOW) is None
    assert next_move(picture([voter(1)]), NOW) is None


def test_a_learner_is_promoted_once_it_has_started():
    assert next_move(picture([voter(1), learner(2)]), NOW) is None
    assert next_move(picture([voter(1), learner(2, "m2")]), NOW) == Promote(learner(2, "m2"))


def test_a_learner_that_does_not_come_is_removed():
    for each in (learner(2), learner(2, "m2")):
        late = next_move(picture([voter(1), each], since=NOW - LEARNER_S), NOW)
        assert isinstance(late, Remove)
        assert late.member == each
    early = picture([voter(1), learner(2)], since=NOW - LEARNER_S + 1)
    assert next_move(early, NOW) is None


def test_a_learner_that_is_to_be_a_worker_again_is_removed_at_once():
    move = next_move(picture([voter(1), learner(2, "m2")], workers="m2"), NOW)
    assert isinstance(move, Remove)
    assert move.member.id == 2


def test_who_is_no_manager_any_more_is_removed():
    three = [voter(1), voter(2), voter(3)]
    move = next_move(picture(three, workers="m2"), NOW)
    assert isinstance(move, Remove)
    assert move.member.id == 2
    gone = picture(three, nodes=[node("m1"), node("m3")])  # docker node rm
    assert isinstance(next_move(gone, NOW), Remove)


def test_nobody_is_removed_without_whom_the_rest_are_too_few():
    assert next_move(picture([voter(1), voter(2), voter(3)], workers="m2", away="m3"), NOW) is None
    assert next_move(picture([voter(1), voter(2)], workers="m1", away="m2"), NOW) is None
    assert next_move(picture([voter(1)], workers="m1"), NOW) is None


def test_who_is_away_goes_before_who_is_there():
    five = [voter(n) for n in range(1, 6)]
    move = next_move(picture(five, workers="m2 m4", away="m4"), NOW)
    assert isinstance(move, Remove)
    assert move.member.id == 4


def test_the_leader_hands_over_before_it_goes_to_one_who_is_there_and_stays():
    three = [voter(1), voter(2), voter(3)]
    assert next_move(picture(three, workers="m1", away="m2"), NOW) is None  # m3 would be alone
    assert next_move(picture(three, workers="m1"), NOW) == HandOver(voter(2))
    four = [*three, voter(4)]
    assert next_move(picture(four, workers="m1", away="m2"), NOW) == HandOver(voter(3))
    both = next_move(picture(four, workers="m1 m2"), NOW)
    assert isinstance(both, Remove)  # the other one first
    assert both.member.id == 2


@given(
    votes=st.integers(1, 7),
    workers=st.sets(st.integers(1, 7)),
    away=st.sets(st.integers(2, 7)),
)
def test_law_whoever_is_removed_those_that_are_left_are_most_of_themselves(votes, workers, away):
    members = [voter(n) for n in range(1, votes + 1)]
    names = " ".join(f"m{n}" for n in workers)
    move = None
    for _ in range(votes + 1):
        alive_away = " ".join(f"m{n}" for n in away)
        move = next_move(picture(members, workers=names, away=alive_away), NOW)
        if not isinstance(move, Remove):
            break
        assert move.member.id in workers
        assert move.member.id != OWN
        members = [m for m in members if m.id != move.member.id]
        there = [m for m in members if m.id not in away]
        assert len(there) >= quorum(len(members))
    if not away and votes > len({n for n in workers if n <= votes}):
        left = {m.id for m in members} & workers  # all others have gone; it itself hands over
        assert left <= {OWN}
        assert isinstance(move, HandOver) == (OWN in workers and len(members) > 1)


def test_what_is_said_of_managers():
    nodes = [
        node("m1"),
        node("m2", status="reachable"),
        node("m4", status="reachable"),
        node("w1", "worker"),
    ]
    seen = picture([voter(1), voter(2), learner(5, "m5")], away="m2", nodes=[*nodes, node("m5")])
    found = statuses(seen, "m1", {"m1": "m1:2377", "m5": "m5:2377"})
    assert found == {
        "m1": pb.ManagerStatus(leader=True, reachability="reachable", addr="m1:2377"),
        "m2": pb.ManagerStatus(leader=False, reachability="unreachable", addr="m2:2377"),
        "m4": None,
    }
    for name, status in found.items():
        if status is None:
            seen.nodes[name].ClearField("manager_status")
        else:
            seen.nodes[name].manager_status.CopyFrom(status)
    assert not statuses(seen, "m1", {"m1": "m1:2377", "m5": "m5:2377"})
