"""Formulas, transitions, records and the wire, each alone."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import CapacityError
from meshnet.gossip import members as swim
from meshnet.gossip import records
from meshnet.gossip.members import Member, State, Word
from meshnet.gossip.signing import SEED_BYTES, Signer
from meshnet.gossip.sums import Sums, bucket_of, packed, unpacked
from meshnet.gossip.suspicion import remaining_suspicion_s, retransmit_limit, suspicion_bounds_s
from meshnet.gossip.table import STAGED, Delta, ForgedError, Table, cut
from meshnet.model.ids import NodeId

A, B = NodeId("a"), NodeId("b")
ADDRESS = ("10.0.0.1", 7946)
HAND = Signer(b"h" * SEED_BYTES)


def merge(peer: Table, delta: Delta, now: float = 0.0) -> bool | None:
    """What A signed reaches a peer."""
    return peer.merge(delta, now, HAND.public, ADDRESS)


@given(st.integers(0, 10), st.integers(1, 10), st.floats(0, 10), st.floats(0.1, 5), st.floats(1, 5))
def test_more_confirmations_never_wait_longer(confirmed, wanted, elapsed, low, factor):
    more = remaining_suspicion_s(confirmed + 1, wanted, elapsed, low, low * factor)
    fewer = remaining_suspicion_s(confirmed, wanted, elapsed, low, low * factor)
    assert more <= fewer + 1e-9
    assert low - elapsed - 1e-9 <= more <= low * factor - elapsed + 1e-9


def test_suspicion_grows_with_the_logarithm_of_the_cluster():
    assert suspicion_bounds_s(5, 0.5, 2, 1, 2) == (1.0, 2.0)
    assert suspicion_bounds_s(1000, 0.5, 2, 1, 2) == pytest.approx((3.0, 6.0))
    assert suspicion_bounds_s(1000, 0.5, 2, 0.5, 2) == pytest.approx((2.0, 4.0))
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
    return Member(A, ADDRESS, incarnation, state, 0.0, accusers=accusers)


def suspected(known: Member, incarnation: int) -> Member | None:
    return swim.suspect(known, incarnation, NodeId("c"), 1.0)


def dead(known: Member, incarnation: int) -> Member | None:
    return swim.dead(known, incarnation, 1.0)


@pytest.mark.parametrize(
    ("before", "message", "after"),
    [
        ((State.ALIVE, 1), (suspected, 1), State.SUSPECT),
        ((State.ALIVE, 2), (suspected, 1), None),
        ((State.ALIVE, 1), (suspected, 2), None),
        ((State.ALIVE, 1), (dead, 1), State.DEAD),
        ((State.ALIVE, 1), (dead, 2), None),
        ((State.SUSPECT, 1), (dead, 1), State.DEAD),
        ((State.DEAD, 1), (suspected, 5), None),
        ((State.DEAD, 1), (dead, 5), None),
        ((State.LEFT, 1), (dead, 1), None),
        ((State.RESTARTING, 1), (dead, 1), None),
        ((State.RESTARTING, 1), (suspected, 1), None),
    ],
)
def test_transitions(before, message, after):
    known = _member(*before)
    decide, incarnation = message
    result = decide(known, incarnation)
    assert (result.state if result else None) is after


@given(st.sampled_from(list(State)), st.integers(1, 5), st.integers(1, 5))
def test_only_a_greater_incarnation_revives(state, known, heard):
    word = Word.of(HAND, A, ADDRESS, heard, State.ALIVE)
    result = swim.spoke(_member(state, known), word, 1.0)
    assert (result is not None) == (heard > known)
    assert result is None or result.state is State.ALIVE


def test_who_says_itself_that_it_left_has_left():
    word = Word.of(HAND, A, ADDRESS, 1, State.LEFT)
    left = swim.spoke(_member(State.ALIVE, 1), word, 0.0)
    assert left is not None
    assert left.state is State.LEFT
    assert swim.spoke(None, word, 0.0) is None


Entries = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.none() | st.sampled_from(["1 1", "1 2", "2 1"]))
)


@given(Entries, Entries)
def test_sums_are_of_what_is_there_whatever_was_there_before(one, other):
    """And the buckets that differ are those of the entries that differ."""
    sums = Sums(), Sums()
    last: tuple[dict[str, str | None], dict[str, str | None]] = ({}, {})
    for which, entries in enumerate((one, other)):
        for member, entry in entries:
            sums[which].set(NodeId(member), entry)
            last[which][member] = entry
    differ = {m for m in "abcdefgh" if last[0].get(m) != last[1].get(m)}
    assert sums[0].differing(sums[1].buckets) == {bucket_of(NodeId(m)) for m in differ}
    assert (sums[0].whole == sums[1].whole) == (not differ)
    assert unpacked(packed(sums[0].buckets)) == sums[0].buckets


Changes = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), st.binary(max_size=40))), max_size=30
)


@given(Changes, st.data())
def test_deltas_in_pieces_make_a_peer_equal(changes, data):
    """Whatever the peer knew before and however the delta is cut, it ends up with our records."""
    owner, peer = Table(HAND), Table(HAND)
    owner.begin(A, 1)
    for i, (key, value) in enumerate(changes):
        owner.put(A, 1, key, value, float(i))
        if data.draw(st.booleans()):
            for delta in owner.lacking(peer.versions([A])):
                merge(peer, delta, float(i))
        if data.draw(st.integers(0, 9)) == 0:
            owner.reap(float(i))
    room = data.draw(st.integers(1, 200))
    for delta in list(owner.lacking(peer.versions([A]))):
        for piece in cut(delta, room):
            assert merge(peer, piece, 100.0) is not None
    assert peer.values(A) == owner.values(A)
    assert list(owner.lacking(peer.versions([A]))) == []


@given(Changes, st.data())
def test_who_follows_what_is_told_as_changed_has_what_there_is(changes, data):
    """Restarts, pieces, deletions that nobody remembers, an owner that is forgotten."""
    owner, peer, generation = Table(HAND), Table(HAND), 1
    followed: dict[str, bytes | None] = {}
    owner.begin(A, 1)
    for i, (key, value) in enumerate(changes):
        match data.draw(st.integers(0, 5)):
            case 0:
                owner, generation = Table(HAND), generation + 1
                owner.begin(A, generation)
            case 1:
                owner.reap(float(i))
            case 2:
                peer.forget(A)
        owner.put(A, generation, key, value, float(i))
        room = data.draw(st.integers(1, 200))
        for delta in owner.lacking(peer.versions([A])):
            pieces = list(cut(delta, room))
            for piece in pieces[: data.draw(st.integers(0, len(pieces)))]:
                merge(peer, piece, float(i))
        followed |= {key: peer.value(A, key) for _, key in peer.take_changed()}
        followed = {key: value for key, value in followed.items() if value is not None}
        assert followed == peer.values(A)
        assert peer.take_changed() == frozenset()


def test_a_deletion_nobody_remembers_is_told_by_a_whole_delta_in_pieces():
    owner, peer = Table(HAND), Table(HAND)
    owner.put(A, 1, "a", b"1", 0.0)
    owner.put(A, 1, "c", b"1", 0.0)
    (known,) = owner.lacking({A: (0, 0)})
    merge(peer, known, 0.0)
    peer.take_changed()
    owner.put(A, 1, "a", None, 1.0)
    owner.reap(2.0)
    owner.put(A, 1, "b", b"1", 3.0)
    (whole,) = owner.lacking(peer.versions([A]))
    first, second = cut(whole, 1)
    assert merge(peer, first, 4.0) is False
    assert peer.version_of(A) == (1, 2), "the rest may be lost"
    (again,) = owner.lacking(peer.versions([A]))
    assert again.base == 0
    assert merge(peer, second, 4.0)
    assert peer.values(A) == owner.values(A) == {"b": b"1", "c": b"1"}
    assert peer.take_changed() == {(A, "a"), (A, "b")}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_node_that_made_and_removed_many_is_refused_none_and_its_peers_follow(
    rounds: list[int], rng: random.Random
):
    room = 8
    with pytest.MonkeyPatch.context() as patched:
        for bound in ("RECORDS", "TOMBSTONES"):
            patched.setattr(records, bound, room)
        owner, steady, seldom = Table(HAND), Table(HAND), Table(HAND)
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
        assert merge(peer, delta, 0.0) is not None


def test_live_records_have_no_room_from_tombstones_and_take_none():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(records, "RECORDS", 2)
        full = Table(HAND)
        for key in "ab":
            full.put(A, 1, key, b"x", 0.0)
        with pytest.raises(CapacityError):
            full.put(A, 1, "c", b"x", 0.0)
        full.put(A, 1, "a", None, 0.0)
        full.put(A, 1, "c", b"x", 0.0)
        assert full.values(A).keys() == {"b", "c"}


def test_what_does_not_count_is_dropped_and_a_version_of_ours_never_comes_twice():
    mine, other = Table(HAND, A), Table(HAND, A)
    for key in ("in/n", "n k"):
        mine.put(A, 1, key, b"x", 0.0)
    other.put(B, 1, "n k", b"x", 0.0)
    assert mine.merge(other.above(f"{B} n", 0), 0.0, HAND.public, ADDRESS)
    assert mine.values(B) == {}, "it does not say that it is on the network"
    mine.put(A, 1, "in/n", None, 1.0)
    for _ in range(2):
        mine.reap(100.0)
    assert mine.version_of(f"{B} n") == (0, 0)
    assert mine.version_of(f"{A} n") == (1, 1)
    assert mine.values(A) == {}


def test_what_an_owner_holds_is_bounded_over_all_networks():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(records, "RECORDS", 4)
        full, loose, peer = Table(HAND), Table(HAND), Table(HAND)
        for key in ("a", "n a", "n b"):
            full.put(A, 1, key, b"x", 0.0)
        full.put(A, 1, "m a", b"x", 0.0)
        with pytest.raises(CapacityError):
            full.put(A, 1, "m b", b"x", 0.0)
        patched.setattr(records, "RECORDS", 9)
        for key in ("n a", "n b", "n c", "m a", "m b", "m c"):
            loose.put(A, 1, key, b"x", 0.0)
        patched.setattr(records, "RECORDS", 4)
        assert peer.merge(loose.above(f"{A} n", 0), 0.0, HAND.public, ADDRESS)
        with pytest.raises(CapacityError):
            peer.merge(loose.above(f"{A} m", 0), 0.0, HAND.public, ADDRESS)


@given(Changes, st.randoms())
def test_a_gap_is_noticed(changes, rng: random.Random):
    owner, peer = Table(HAND), Table(HAND)
    owner.begin(A, 1)
    deltas = []
    for key, value in changes:
        before = dict(owner.versions([A]))
        if owner.put(A, 1, key, value, 0.0):
            deltas += list(owner.lacking(before))
    rng.shuffle(deltas)
    for delta in deltas:
        version = peer.version_of(A)[1]
        merged = merge(peer, delta, 0.0)
        assert (merged is None) == (delta.base > version and delta.upto > version)


@given(Changes, st.data())
def test_whoever_passes_it_on_a_peer_has_what_the_owner_had_or_nothing_of_it(changes, data):
    """A relay leaves out, adds, changes, replays, cuts and mixes as it likes."""
    owner, peer = Table(HAND), Table(HAND)
    owner.begin(A, 1)
    had: dict[tuple[int, int], dict[str, bytes]] = {(0, 0): {}, (1, 0): {}}
    told: list[Delta] = []
    for i, (key, value) in enumerate(changes):
        owner.put(A, 1, key, value, float(i))
        if data.draw(st.booleans()):
            owner.reap(float(i))
        had[owner.version_of(A)] = owner.values(A)
        base = data.draw(st.integers(0, owner.version_of(A)[1]))
        told += cut(owner.above(A, base), data.draw(st.integers(1, 100)))
    last = (0, 0)
    for delta in data.draw(st.lists(st.sampled_from(told), max_size=12)) if told else []:
        said = data.draw(st.sampled_from([delta, *(_forged(delta, data) for _ in range(3))]))
        with contextlib.suppress(ForgedError):
            merge(peer, said)
        assert peer.values(A) == had[peer.version_of(A)]
        assert peer.version_of(A) >= last
        last = peer.version_of(A)


def _forged(delta: Delta, data: st.DataObject) -> Delta:
    other = Signer(b"o" * SEED_BYTES)
    said = records.head(A, delta.generation, delta.upto, b"d" * records.DIGEST_BYTES)
    proof = records.Proof(b"d" * records.DIGEST_BYTES, other.sign(said))
    entries = delta.entries
    return data.draw(
        st.sampled_from(
            [
                replace(delta, generation=delta.generation + 1),
                replace(delta, base=0),
                replace(delta, floor=delta.upto),
                replace(delta, upto=delta.upto + 1),
                replace(delta, entries=entries[1:]),
                replace(delta, entries=tuple((key, at, b"evil") for key, at, _ in entries)),
                replace(delta, entries=(("evil", delta.upto, b""),)),
                replace(delta, proof=None),
                replace(delta, proof=proof),
            ]
        )
    )


def test_what_its_owner_did_not_sign_is_no_record_of_its():
    owner, peer = Table(Signer(b"o" * SEED_BYTES)), Table(HAND)
    owner.put(A, 1, "k", b"false", 0.0)
    with pytest.raises(ForgedError):
        merge(peer, owner.above(A, 0))
    true = Table(HAND)
    true.put(A, 1, "k", b"true", 0.0)
    with pytest.raises(ForgedError):
        merge(peer, replace(true.above(A, 0), generation=2))
    assert merge(peer, true.above(A, 0))
    assert peer.values(A) == {"k": b"true"}


def test_pieces_of_two_senders_are_not_put_together():
    """Nobody spoils what another one is about to send."""
    owner, peer = Table(HAND), Table(HAND)
    for key in "ab":
        owner.put(A, 1, key, b"1", 0.0)
    first, last = cut(owner.above(A, 0), 1)
    assert merge(peer, first) is False
    evil = replace(first, entries=(("a", 1, b"evil"),))
    assert peer.merge(evil, 0.0, HAND.public, ("10.0.0.9", 7946)) is False
    assert merge(peer, last)
    assert peer.values(A) == {"a": b"1", "b": b"1"}


def test_what_waits_for_its_proof_is_bounded():
    peer = Table(HAND)
    for number in range(3 * STAGED):
        owner = NodeId(f"n{number}")
        peer.merge(Delta(owner, 1, 0, 1, 0, (("k", 1, b"x"),)), 0.0, HAND.public, ADDRESS)
    assert len(peer._staged) == STAGED


def test_an_old_generation_is_ignored_and_a_new_one_replaces():
    new, old, peer = Table(HAND), Table(HAND), Table(HAND)
    old.put(A, 1, "k", b"old", 0.0)
    new.put(A, 2, "j", b"new", 0.0)
    (late,) = old.lacking({A: (0, 0)})
    merge(peer, late, 0.0)
    (delta,) = new.lacking(peer.versions([A]))
    assert merge(peer, delta, 0.0) is True
    assert merge(peer, late, 0.0) is False
    assert peer.values(A) == {"j": b"new"}


def test_a_piece_that_says_too_much_spoils_nothing():
    """The version of what is known is the proof's, and no fake deletion outlives it."""
    owner, peer = Table(HAND), Table(HAND)
    owner.put(A, 1, "a", b"1", 0.0)
    proven = owner.above(A, 0)
    assert merge(peer, replace(proven, upto=9, proof=None)) is False
    assert merge(peer, replace(proven, base=1, floor=9, entries=())) is None
    assert peer.version_of(A) == (0, 0)
    assert merge(peer, replace(proven, floor=9))
    assert peer.version_of(A) == owner.version_of(A)
    assert peer.above(A, 1).base == 1
