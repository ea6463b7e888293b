"""Who is asked what it has applied, and who answers when."""

from __future__ import annotations

from dataclasses import replace

from lone_node import AT, CONFIG, ME, A, B, C, Lone

from meshnet.gossip.acknowledgements import reaches
from meshnet.gossip.events import Acknowledged
from meshnet.gossip.messages import Applied, Ask, Message
from meshnet.model.ids import NodeId


def asks(said: list[tuple[tuple[str, int], Message]]) -> list[tuple[str, int]]:
    return [to for to, message in said if isinstance(message, Ask)]


def answers(said: list[Message]) -> list[Message]:
    return [message for message in said if isinstance(message, Applied)]


def test_only_what_is_of_the_same_process_and_not_older_counts():
    assert reaches((7, 3), (7, 3))
    assert reaches((7, 4), (7, 3))
    assert not reaches((7, 2), (7, 3))
    assert not reaches((8, 9), (7, 3))
    assert not reaches((6, 9), (7, 3))
    assert not reaches(None, (7, 0))


def test_who_does_not_answer_is_asked_again_and_who_answered_is_not():
    lone = Lone(A, B)
    lone.engine.ask({A: (7, 3), B: (7, 3)}, lone.now)
    assert sorted(asks(lone.said())) == [AT[A], AT[B]]
    lone.hear(Applied(A, (7, 3)))
    assert lone.engine.acknowledged == {A: (7, 3)}
    assert Acknowledged(A) in lone.events()
    assert set(asks(lone.wait(CONFIG.ask_interval_s * 2.2))) == {AT[B]}
    lone.engine.ask({}, lone.now)
    assert asks(lone.wait(2.0)) == []


def test_a_newer_change_is_asked_for_at_once():
    lone = Lone(A)
    lone.engine.ask({A: (7, 3)}, lone.now)
    lone.said()
    lone.engine.ask({A: (7, 4)}, lone.now)
    assert Ask(ME, (7, 4)) in lone.said_to(A)


def test_an_answer_to_an_earlier_process_or_of_nobody_is_none():
    lone = Lone(A)
    lone.engine.ask({A: (7, 3)}, lone.now)
    lone.hear(Applied(A, (9, 9)), Applied(A, (6, 9)), Applied(NodeId("ghost"), (7, 9)))
    assert lone.engine.acknowledged == {}
    assert lone.engine.dropped["acknowledgement of nobody we know"] == 1
    lone.hear(Applied(A, (7, 5)), Applied(A, (7, 4)))
    assert lone.engine.acknowledged == {A: (7, 5)}, "they may come in any order"


def test_who_asks_is_told_at_once_and_when_it_is_more():
    lone = Lone(A, B)
    lone.engine.applied({A: (7, 1)})
    lone.hear(Ask(A, (7, 3)))
    assert answers(lone.said_to(A)) == [Applied(ME, (7, 1))]
    lone.engine.applied({A: (7, 2), B: (1, 1)})
    assert answers(lone.said_to(A)) == [Applied(ME, (7, 2))]
    lone.engine.applied({A: (7, 2), B: (1, 2)})
    assert answers(lone.said_to(A)) == []
    lone.engine.applied({A: (7, 3)})
    assert answers(lone.said_to(A)) == [Applied(ME, (7, 3))]
    lone.engine.applied({A: (7, 4)})
    assert answers(lone.said_to(A)) == [], "it has what it waited for"
    lone.hear(Ask(A, (8, 1)))
    assert answers(lone.said_to(A)) == [], "what its last process said is no answer to this one"
    lone.hear(Ask(NodeId("ghost"), (8, 1)))
    assert lone.engine.dropped["question of nobody we know"] == 1


def test_a_few_are_asked_at_a_time_and_all_in_the_end():
    lone = Lone(A, B, C, config=replace(CONFIG, asks_at_once=2))
    lone.engine.ask({A: (7, 3), B: (7, 3), C: (7, 3)}, lone.now)
    assert asks(lone.said()) == [AT[A], AT[B]]
    assert asks(lone.wait(CONFIG.ask_interval_s / 4)) == [AT[C]]
