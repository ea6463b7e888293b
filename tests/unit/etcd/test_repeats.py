"""A log that repeats itself."""

from __future__ import annotations

from meshnet_control.etcd.repeats import KINDS, REPEAT_S, Repeats


def test_the_same_is_said_once_a_minute_with_how_often():
    log = Repeats()
    said = [log.heard(f"port {n}: buffer is full", n / 10) for n in range(600)]
    assert said == ["port 0: buffer is full"] + [""] * 599
    again = "port 7: buffer is full"
    assert log.heard(again, REPEAT_S) == f"{again} (and 599 times more within 60 s)"
    assert not log.heard(again, REPEAT_S + 1)


def test_another_sentence_is_said_at_once_and_one_that_stays_alone_as_it_is():
    log = Repeats()
    assert log.heard("a", 0) == "a"
    assert log.heard("b", 0) == "b"
    assert log.heard("a", REPEAT_S) == "a"


def test_no_number_of_sentences_fills_memory():
    log = Repeats()
    for number in range(3 * KINDS):
        assert log.heard("x" * (number + 1), 0)
    assert len(log._said) == KINDS
