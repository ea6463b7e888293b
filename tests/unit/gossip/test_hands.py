"""Nobody speaks for another one: what a member says of itself is in its own hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lone_node import (
    AT,
    CONFIG,
    DIFFERENT,
    ME,
    A,
    B,
    C,
    Lone,
    alive,
    hand,
    left,
    packet,
    proven,
    row,
)

from meshnet.gossip.events import MemberChanged, Refused
from meshnet.gossip.members import State, Word
from meshnet.gossip.membership import FORGED, STRANGER
from meshnet.gossip.messages import Ack, End, Ping, Suspect, Sync
from meshnet.gossip.records import head
from meshnet.gossip.table import Delta
from meshnet.model.ids import NodeId

ELSEWHERE = ("10.6.6.6", 7946)


@pytest.mark.parametrize("said", [State.ALIVE, State.RESTARTING, State.LEFT])
def test_a_word_that_its_member_did_not_sign_is_refused_and_who_passed_it_on_is_named(said):
    lone = Lone(A, B)
    before = lone.engine.members()[A]
    lone.hear(Word.of(hand(B), A, ELSEWHERE, 9, said), by=AT[B])
    assert lone.engine.members()[A] == before
    assert lone.engine.dropped[FORGED] == 1
    assert Refused(AT[B], FORGED) in lone.events()


def test_a_true_word_with_another_address_incarnation_or_sense_is_forged():
    lone = Lone(A, B)
    true = alive(A, AT[A], 2)
    lone.hear(replace(true, address=ELSEWHERE), replace(true, incarnation=3), by=AT[B])
    lone.hear(replace(true, said=State.LEFT), replace(true, said=State.RESTARTING), by=AT[B])
    assert lone.engine.members()[A].incarnation == 1
    assert lone.engine.dropped[FORGED] == 4
    lone.hear(true, by=AT[B])
    assert lone.engine.members()[A].incarnation == 2


def test_an_old_word_said_again_brings_nobody_back():
    lone = Lone(A, B)
    old = alive(A, ELSEWHERE, 2)
    lone.hear(old, alive(A, AT[A], 3), left(A, 3))
    lone.hear(old, alive(A, AT[A], 3))
    assert lone.state(A) is State.LEFT
    assert lone.engine.members()[A].address == AT[A]


def test_a_row_says_of_a_member_only_what_the_member_said():
    lone = Lone(A)
    exchange = lone.engine.open_stream(AT[A])
    exchange.begin(lone.now)
    rows = (
        replace(row(B, AT[B], 1, State.ALIVE), word=replace(alive(B, AT[B], 1), address=ELSEWHERE)),
        replace(row(C, AT[C], 1, State.DEAD), word=replace(alive(C, AT[C], 1), address=ELSEWHERE)),
    )
    exchange.receive_frame(packet(DIFFERENT, Sync(A, rows, {}), End(more=False)), lone.now)
    assert lone.engine.members().keys() == {ME, A}
    assert lone.engine.dropped[FORGED] == 2


def test_nobody_is_believed_before_the_managers_named_it():
    lone = Lone(A)
    late = NodeId("late")
    lone.hear(alive(late, ELSEWHERE, 1))
    assert late not in lone.engine.members()
    assert lone.engine.dropped[STRANGER] == 1
    exchange = lone.engine.open_stream(AT[A])
    exchange.begin(lone.now)
    rows = (row(late, ELSEWHERE, 1, State.LEFT, 5),)
    exchange.receive_frame(packet(DIFFERENT, Sync(A, rows, {}), End(more=False)), lone.now)
    assert lone.engine.dropped[STRANGER] == 1, "that one is gone is no offence"
    lone.let_in(late)
    lone.hear(alive(late, ELSEWHERE, 1))
    assert lone.state(late) is State.ALIVE


def test_who_was_removed_has_left_and_is_believed_nothing_whatever_it_can_sign():
    lone = Lone(A, B)
    lone.hear(proven(Delta(A, 1, 0, 1, 0, (("k", 1, b"true"),))))
    lone.events()
    del lone.hands[A]
    lone.engine.expect(lone.hands, lone.now)
    assert lone.state(A) is State.LEFT
    assert lone.engine.records() == {}
    assert [e.member.id for e in lone.events() if isinstance(e, MemberChanged)] == [A]
    lone.hear(alive(A, AT[A], 5))
    lone.hear(proven(Delta(A, 2, 0, 1, 0, (("k", 1, b"more"),))))
    lone.hear(Suspect(B, 1, A))
    assert lone.state(A) is State.LEFT
    assert lone.state(B) is State.ALIVE
    assert lone.engine.record(A, "k") == b"true"
    answering = lone.engine.next_timer()
    assert answering is not None
    for to, message in lone.wait(CONFIG.forget_left_s + 1):
        if isinstance(message, Ping) and to == AT[B]:
            lone.hear(Ack(message.sequence), by=AT[B])
    assert A not in lone.engine.members()
    assert lone.engine.record(A, "k") is None


def test_who_has_another_key_now_is_believed_in_that_one_alone():
    lone = Lone(A, B)
    lone.hands[A] = hand(C).public
    lone.engine.expect(lone.hands, lone.now)
    assert lone.state(A) is State.ALIVE
    lone.hear(alive(A, AT[A], 2))
    assert lone.engine.members()[A].incarnation == 1
    lone.hear(Word.of(hand(C), A, AT[A], 2, State.ALIVE))
    assert lone.engine.members()[A].incarnation == 2


@pytest.mark.parametrize("said", [State.ALIVE, State.RESTARTING, State.LEFT])
def test_who_has_another_key_now_begins_anew_whatever_it_had_said_before(said):
    lone = Lone(A, B)
    lone.hear(alive(A, AT[A], 7), proven(Delta(A, 9, 0, 1, 0, (("k", 1, b"old"),))))
    lone.hands[A] = hand(C).public
    lone.engine.expect(lone.hands, lone.now)
    assert lone.engine.records() == {}, "nobody could correct them any more"
    lone.hear(alive(A, AT[A], 8), by=AT[B])
    assert lone.engine.members()[A].incarnation == 7
    lone.hear(Word.of(hand(C), A, AT[A], 1, said))
    assert (lone.engine.members()[A].incarnation, lone.state(A)) == (1, said)
    if said is State.LEFT:
        return
    lone.hear(Word.of(hand(C), A, ELSEWHERE, 1, State.ALIVE))
    assert lone.engine.members()[A].address == AT[A], "that key's own count holds from now on"
    fresh = proven(Delta(A, 3, 0, 1, 0, (("k", 1, b"new"),)))
    assert fresh.proof is not None
    signed = hand(C).sign(head(A, 3, 1, fresh.proof.digest))
    lone.hear(replace(fresh, proof=replace(fresh.proof, signature=signed)))
    assert lone.engine.records() == {(A, "k"): b"new"}


def test_what_we_say_stays_when_the_managers_hear_of_our_new_key():
    lone = Lone(A)
    lone.hands[ME] = hand(C).public  # the one that we had lost
    lone.engine.expect(lone.hands, lone.now)
    lone.engine.set_record("k", b"ours", lone.now)
    lone.let_in(ME)
    assert lone.engine.records() == {(ME, "k"): b"ours"}


def test_records_pass_from_hand_to_hand_with_their_owners_proof():
    lone = Lone(A, B)
    said = proven(Delta(A, 1, 0, 1, 0, (("k", 1, b"v"),)))
    lone.hear(replace(said, entries=(("k", 1, b"evil"),)), by=AT[B])
    assert lone.engine.records() == {}
    assert lone.engine.dropped["records that their owner did not sign"] == 1
    lone.hear(said, by=AT[B])
    assert lone.engine.records() == {(A, "k"): b"v"}
    passed = [m for _, m in lone.said() if isinstance(m, Delta)]
    assert passed
    assert {m.proof for m in passed} == {said.proof}
