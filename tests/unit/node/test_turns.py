"""Which manager a node asks next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from meshnet_control.node.turns import (
    ELECTING_S,
    LAST_REACH_S,
    REACH_S,
    REFERRALS,
    REST_S,
    ROUND,
    Turns,
)

A, B, C = "10.0.0.1:2377", "10.0.0.2:2377", "10.0.0.3:2377"
THREE = (A, B, C)


class Walk:
    """A node among managers, on a clock that goes on by its waits and its questions in vain."""

    def __init__(self, managers: tuple[str, ...], silent: frozenset[str] = frozenset()) -> None:
        self.turns, self.managers, self.silent = Turns(lambda: 1.0), managers, silent
        self.now = 100.0
        self.asked: list[str] = []

    def ask(self, leader: str | None = None, knows: str = "") -> str:
        """One question.

        Args:
            leader: who serves; None: nobody does.
            knows: whom those that do not lead name.
        """
        remote, wait = self.turns.next(self.managers, self.now)
        self.now += wait
        self.asked.append(remote)
        if remote in self.silent:
            self.now += self.turns.reach_s(remote)
            self.turns.silent(remote, self.now)
        elif remote == leader:
            self.turns.served(remote, self.managers)
        else:
            self.turns.referred(remote, knows, self.now)
        return remote


def test_managers_are_asked_in_turn_and_a_round_is_waited_for():
    turns, asked, waits = Turns(lambda: 1.0), [], []
    for _ in range(20):
        remote, wait = turns.next((A, B), 0.0)
        turns.silent(remote, 0.0)
        asked.append(remote)
        waits.append(wait)
    assert asked[:4] == [A, B, A, B]
    assert waits[:2] == [0.0, 0.0]
    assert waits[2:5] == [ROUND.first_s, 0.0, 2 * ROUND.first_s]
    assert max(waits) == ROUND.last_s


def test_who_is_referred_goes_there_at_once():
    walk = Walk(THREE)
    assert [walk.ask(knows=C), walk.ask(leader=C)] == [A, C]
    assert walk.now == 100.0


def test_a_leader_that_is_in_no_list_is_asked_too():
    other = "10.0.0.9:2377"
    walk = Walk((A,))
    assert [walk.ask(knows=other), walk.ask(leader=other)] == [A, other]


def test_two_that_name_each_other_are_not_followed_for_ever():
    turns, now, asked = Turns(lambda: 1.0), 0.0, []
    for _ in range(12):
        remote, wait = turns.next((A, B), now)
        now += wait
        asked.append(remote)
        turns.referred(remote, B if remote == A else A, now)
    assert now >= 2 * ROUND.first_s
    assert len(asked) <= 12
    rounds = now / ELECTING_S
    assert rounds * (2 + REFERRALS) < 12 * 3


def test_the_next_one_is_asked_after_the_leader_died_and_not_the_dead_one():
    walk = Walk(THREE)
    walk.ask(leader=A)
    walk.turns.silent(A, walk.now)  # its stream broke
    walk.silent = frozenset({A})
    asked = [walk.ask(knows=A) for _ in range(4)]  # they have not noticed
    assert asked[:2] == [B, C]
    assert A not in asked[:4]
    while walk.ask(leader=C, knows=A) != C:
        pass
    assert walk.now - 100.0 < 1.0


def test_a_dead_leader_that_is_there_again_is_found_though_it_was_silent():
    walk = Walk(THREE, frozenset({A}))
    for _ in range(6):
        walk.ask(knows=A)
    walk.silent = frozenset()
    began = walk.now
    while walk.ask(leader=A, knows=A) != A:
        assert walk.now - began < 2 * REST_S


def test_while_managers_elect_no_wait_is_long():
    turns, now = Turns(lambda: 1.0), 0.0
    for _ in range(100):
        remote, wait = turns.next(THREE, now)
        assert wait <= ELECTING_S
        now += wait
        turns.referred(remote, "", now)


def test_a_connection_gets_more_time_each_time_and_the_first_again_once_served():
    turns = Turns(lambda: 1.0)
    given_s = []
    for _ in range(5):
        given_s.append(turns.reach_s(A))
        turns.silent(A, 0.0)
    assert given_s == [REACH_S, 2 * REACH_S, 4 * REACH_S, LAST_REACH_S, LAST_REACH_S]
    turns.served(A, THREE)
    assert turns.reach_s(A) == REACH_S


def test_a_stream_that_was_ended_here_begins_again_at_the_same_manager():
    walk = Walk(THREE)
    walk.ask(knows=C)
    assert walk.ask(leader=C) == C
    walk.turns.repeat(C)
    assert walk.ask(leader=C) == C
    assert walk.now == 100.0 + ROUND.first_s


def test_without_any_manager_it_waits():
    turns = Turns(lambda: 1.0)
    waits = [turns.next((), 0.0) for _ in range(3)]
    assert waits == [("", ROUND.first_s), ("", 2 * ROUND.first_s), ("", 4 * ROUND.first_s)]


@given(
    some.lists(some.sampled_from(["refers", "silent", "serves"]), max_size=60),
    some.randoms(use_true_random=False),
)
def test_everybody_is_asked_again_and_again_and_never_without_end_at_once(how, rng):
    """Law: whatever managers do, each is asked within two rounds, and questions take time."""
    turns, now, asked, at_once = Turns(lambda: 1.0), 0.0, [], 0
    for each in [*how, *["refers"] * 24]:
        remote, wait = turns.next(THREE, now)
        now += wait + 0.001
        at_once = 0 if wait else at_once + 1
        if each == "serves":
            at_once = 0
        assert at_once <= len(THREE) + REFERRALS
        asked.append(remote)
        if each == "silent":
            turns.silent(remote, now)
        elif each == "serves":
            turns.served(remote, THREE)
            turns.silent(remote, now)
        else:
            turns.referred(remote, rng.choice([*THREE, ""]), now)
    assert set(asked[-24:]) == set(THREE)
