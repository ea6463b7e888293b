"""Formulas, transitions, records and the wire, each alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import CapacityError
from meshnet.gossip import members as swim
from meshnet.gossip import table
from meshnet.gossip.members import Member, State
from meshnet.gossip.suspicion import remaining_suspicion_s, retransmit_limit, suspicion_bounds_s
from meshnet.gossip.table import Table, cut
from meshnet.model.ids import NodeId

A, B = NodeId("a"), NodeId("b")
ADDRESS = ("10.0.0.1", 7946)


@given(st.integers(0, 10), st.integers(1, 10), st.floats(0, 10), st.floats(0.1, 5), st.floats(1, 5))
def test_more_confirmations_never_wait_longer(confirmed, wanted, elapsed, low, factor):
    more = remaining_suspicion_s(confirmed + 1, wanted, elapsed, low, low * factor)
    fewer = remaining_suspicion_s(confirmed, wanted, elapsed, low, low * factor)
    assert more <= fewer + 1e-9
    assert low - elapsed - 1e-9 <= more <= low * factor - elapsed + 1e-9


def test_suspicion_grows_with_the_logarithm_of_the_cluster():
    assert suspicion_bounds_s(5, 0.5, 2, 2) == (1.0, 2.0)
    assert suspicion_bounds_s(1000, 0.5, 2, 2) == (3.0, 6.0)
    assert [retransmit_limit(n, 4) for n in (1, 9, 10, 99, 100)] == [4, 4, 8, 8, 12]


@pytest.mark.parametrize(
    ("confirmed", "wanted", "left_s"),
    [(0, 0, 1.0), (0, 1, 6.0), (1, 1, 1.0), (0, 3, 6.0), (1, 3, 3.5), (3, 3, 1.0), (9, 3, 1.0)],
)
def test_a_suspicion_is_long_until_confirmed_and_short_when_enough_confirm(
    confirmed, wanted, left_s
):
    assert remaining_suspicion_s(confirmed, wanted, 0.0, 1.0, 6.0) == pytest.approx(left_s)
    assert remaining_suspicion_s(confirmed, wanted, 2.0, 1.0, 6.0) == pytest.approx(left_s - 2)


def _member(state: State, incarnation: int) -> Member:
    accusers = frozenset({B}) if state is State.SUSPECT else frozenset()
    return Member(A, ADDRESS, incarnation, state, 0.0, accusers)


@pytest.mark.parametrize(
    ("before", "message", "after"),
    [
        ((State.ALIVE, 1), (swim.suspect, 1), State.SUSPECT),
        ((State.ALIVE, 2), (swim.suspect, 1), None),
        ((State.ALIVE, 1), (swim.dead, 1), State.DEAD),
        ((State.SUSPECT, 1), (swim.dead, 1), State.DEAD),
        ((State.DEAD, 1), (swim.suspect, 5), None),
        ((State.DEAD, 1), (swim.dead, 5), None),
        ((State.LEFT, 1), (swim.dead, 1), None),
    ],
)
def test_transitions(before, message, after):
    known = _member(*before)
    decide, incarnation = message
    result = decide(known, incarnation, NodeId("c"), 1.0)
    assert (result.state if result else None) is after


@given(st.sampled_from(list(State)), st.integers(1, 5), st.integers(1, 5))
def test_only_a_greater_incarnation_revives(state, known, heard):
    result = swim.alive(_member(state, known), A, ADDRESS, heard, 1.0)
    assert (result is not None) == (heard > known)
    assert result is None or result.state is State.ALIVE


def test_dead_said_by_the_member_itself_means_left():
    left = swim.dead(_member(State.ALIVE, 1), 1, A, 0.0)
    assert left is not None
    assert left.state is State.LEFT


Changes = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), st.binary(max_size=40))), max_size=30
)


@given(Changes, st.data())
def test_deltas_in_pieces_make_a_peer_equal(changes, data):
    """Whatever the peer knew before and however the delta is cut, it ends up with our records."""
    owner, peer = Table(), Table()
    owner.begin(A, 1)
    for i, (key, value) in enumerate(changes):
        owner.put(A, 1, key, value, float(i))
        if data.draw(st.booleans()):
            for delta in owner.lacking(peer.versions([A])):
                peer.merge(delta, float(i))
        if data.draw(st.integers(0, 9)) == 0:
            owner.reap(float(i))
    room = data.draw(st.integers(1, 200))
    for delta in list(owner.lacking(peer.versions([A]))):
        for piece in cut(delta, room):
            assert peer.merge(piece, 100.0) is not None
    assert peer.values(A) == owner.values(A)
    assert list(owner.lacking(peer.versions([A]))) == []


def test_a_deletion_nobody_remembers_is_told_by_a_whole_delta_in_pieces():
    owner, peer = Table(), Table()
    owner.put(A, 1, "a", b"1", 0.0)
    owner.put(A, 1, "c", b"1", 0.0)
    (known,) = owner.lacking({})
    peer.merge(known, 0.0)
    owner.put(A, 1, "a", None, 1.0)
    owner.reap(2.0)
    owner.put(A, 1, "b", b"1", 3.0)
    (whole,) = owner.lacking(peer.versions([A]))
    first, second = cut(whole, 1)
    assert peer.merge(first, 4.0)
    assert peer.version_of(A) < owner.version_of(A), "the rest may be lost"
    (again,) = owner.lacking(peer.versions([A]))
    assert again.base == 0
    assert peer.merge(second, 4.0)
    assert peer.values(A) == owner.values(A) == {"b": b"1", "c": b"1"}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_node_that_made_and_removed_many_is_refused_none_and_its_peers_follow(
    rounds: list[int], rng: random.Random
):
    room = 8
    with pytest.MonkeyPatch.context() as patched:
        for bound in ("RECORDS", "TOMBSTONES"):
            patched.setattr(table, bound, room)
        owner, steady, seldom = Table(), Table(), Table()
        owner.put(A, 1, "stays", b"x", 0.0)
        number = 0
        for churn in rounds:
            for _ in range(churn):
                number += 1
                owner.put(A, 1, f"k{number}", b"x", 0.0)
                follow(owner, steady)
                if rng.random() < 0.1:
                    follow(owner, seldom)
                owner.put(A, 1, f"k{number}", None, 0.0)
                follow(owner, steady)
            owner.put(A, 1, f"k{number}", b"again", 0.0)
            follow(owner, steady)
        follow(owner, seldom)
        for peer in (steady, seldom):
            assert peer.values(A) == owner.values(A)
            assert peer.version_of(A) == owner.version_of(A)
        for each in (owner, steady, seldom):
            assert len(each.above(A, 0).entries) <= 2 * room


def follow(owner: Table, peer: Table) -> None:
    for delta in owner.lacking(peer.versions([A])):
        assert peer.has_room(delta)
        assert peer.merge(delta, 0.0) is not None


def test_live_records_have_no_room_from_tombstones_and_take_none():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(table, "RECORDS", 2)
        full = Table()
        for key in "ab":
            full.put(A, 1, key, b"x", 0.0)
        with pytest.raises(CapacityError):
            full.put(A, 1, "c", b"x", 0.0)
        full.put(A, 1, "a", None, 0.0)
        full.put(A, 1, "c", b"x", 0.0)
        assert full.values(A).keys() == {"b", "c"}


@given(Changes, st.randoms())
def test_a_gap_is_noticed(changes, rng: random.Random):
    owner, peer = Table(), Table()
    owner.begin(A, 1)
    deltas = []
    for key, value in changes:
        before = dict(owner.versions([A]))
        if owner.put(A, 1, key, value, 0.0):
            deltas += list(owner.lacking(before))
    rng.shuffle(deltas)
    for delta in deltas:
        version = peer.version_of(A)[1]
        merged = peer.merge(delta, 0.0)
        assert (merged is None) == (delta.base > version and delta.upto > version)


def test_an_old_generation_is_ignored_and_a_new_one_replaces():
    new, old, peer = Table(), Table(), Table()
    old.put(A, 1, "k", b"old", 0.0)
    new.put(A, 2, "j", b"new", 0.0)
    (late,) = old.lacking({})
    peer.merge(late, 0.0)
    (delta,) = new.lacking(peer.versions([A]))
    assert peer.merge(delta, 0.0) is True
    assert peer.merge(late, 0.0) is False
    assert peer.values(A) == {"j": b"new"}
