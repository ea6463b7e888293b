"""From an accusation to a death, or to its refutation; late timers, restarts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lone_node import (
    AT,
    DIFFERENT,
    HERE,
    ME,
    A,
    B,
    C,
    Lone,
    alive,
    left,
    next_probe,
    packet,
    restarting,
    row,
)

from meshnet.gossip.events import MemberChanged
from meshnet.gossip.members import State
from meshnet.gossip.messages import (
    Ack,
    Dead,
    End,
    Ping,
    Suspect,
    Sync,
)
from meshnet.model.ids import NodeId

# ---- suspicion and refutation ----


def test_an_accusation_of_us_is_refuted_with_a_greater_incarnation():
    lone = Lone(A, B)
    lone.hear(Suspect(ME, 1, A))
    assert alive(ME, HERE, 2) in lone.said_to(B) + lone.said_to(A)
    assert lone.engine.members()[ME].incarnation == 2


def test_an_incarnation_that_an_earlier_process_of_ours_had_is_believed_in_its_own_hand():
    lone = Lone(A, B)
    lone.wait(2)
    lone.engine.streams_to_open()
    lone.hear(Suspect(ME, 4, A), replace(alive(ME, AT[C], 4), signature=b"f" * 64))
    assert lone.engine.members()[ME].incarnation == 1
    assert lone.engine.streams_to_open() == [AT[A]], "there it is shown"
    lone.hear(alive(ME, AT[C], 4))
    assert lone.engine.members()[ME].incarnation == 5


def _lasts(lone: Lone, confirmed_by: tuple[NodeId, ...]) -> float:
    """Seconds until A, accused by B alone and then by others, is dead; everybody answers us."""
    lone.hear(Suspect(A, 1, B), *(Suspect(A, 1, each) for each in confirmed_by))
    begun = lone.now
    while lone.state(A) is State.SUSPECT:
        for to, message in lone.wait(0.01):
            if isinstance(message, Ping):
                lone.hear(Ack(message.sequence), by=to)
    return lone.now - begun


def test_a_suspicion_lasts_the_longer_the_fewer_confirm_it():
    """Six members: shortest 0.8 s, twice that while nobody but the first accuser says so."""
    others = tuple(NodeId(f"n{i}") for i in range(3))

    def six() -> Lone:
        lone = Lone(A, B)
        lone.let_in(*others)
        lone.hear(*(alive(each, ("10.0.2.1", i + 1), 1) for i, each in enumerate(others)))
        return lone

    assert _lasts(six(), ()) == pytest.approx(1.6, abs=0.05)
    assert _lasts(six(), (B, B)) == pytest.approx(1.6, abs=0.05)
    assert 0.9 < _lasts(six(), others[:1]) < 1.5
    assert _lasts(six(), others) == pytest.approx(0.8, abs=0.05)


def test_whoever_doubts_itself_gives_the_others_more_time():
    lone = Lone(A, B, C)
    lone.engine._membership.doubts.health = 8
    lone.hear(Suspect(A, 1, B))
    lone.wait(0.8 * 4)
    assert lone.state(A) is State.SUSPECT


def test_whom_others_suspect_is_probed_at_once():
    lone = Lone(A, B, C)
    lone.hear(Suspect(A, 1, B))
    (ping,) = [m for m in lone.said_to(A) if isinstance(m, Ping)]
    lone.wait(0.41)
    assert lone.engine.members()[A].accusers == {B, ME}, "confirmed before its turn came"
    lone.hear(Ack(ping.sequence))


def test_a_suspect_is_told_so_with_thenext_probe():
    lone = Lone(A)
    said = lone.wait(2.0)
    assert Suspect(A, 1, ME) in [m for to, m in said if to == AT[A]]


def test_hearsay_of_a_death_on_a_stream_is_a_suspicion():
    lone = Lone(A, B)
    exchange = lone.engine.open_stream(AT[A])
    exchange.begin(lone.now)
    rows = (row(A, AT[A], 1, State.ALIVE), row(B, AT[B], 1, State.DEAD))
    exchange.receive_frame(packet(DIFFERENT, Sync(A, rows, {}), End(more=False)), lone.now)
    assert lone.state(B) is State.SUSPECT


def test_a_suspect_that_speaks_is_told_so_at_once_and_says_who_asks_that_it_lives():
    """After a cut nobody waits for a probe or for news that goes round."""
    lone = Lone(A, B)
    lone.hear(Suspect(A, 1, B), by=("10.9.9.9", 7946))
    lone.said()
    lone.hear(Ack(9))
    assert Suspect(A, 1, ME) in lone.said_to(A)
    lone.hear(Suspect(ME, 1, A))
    assert alive(ME, HERE, 2) in lone.said_to(A)
    lone.hear(Suspect(ME, 1, A))
    assert alive(ME, HERE, 2) in lone.said_to(A), "also who is late to accuse"


# ---- lateness ----


def test_a_late_timer_judges_nobody_before_what_came_in_is_heard():
    lone = Lone(A)
    _, sequence = next_probe(lone)
    lone.now += 5.0
    lone.engine.handle_timer(lone.now)
    assert lone.state(A) is State.ALIVE
    lone.hear(Ack(sequence))
    lone.wait(0.25)
    assert lone.state(A) is State.ALIVE
    assert lone.engine._membership.doubts.health > 0


def test_the_time_we_slept_makes_no_suspect_older():
    lone = Lone(A)
    while lone.state(A) is State.ALIVE:
        lone.wait(0.05)
    lone.now += 60.0
    lone.engine.handle_timer(lone.now)
    lone.wait(0.5)
    assert lone.state(A) is State.SUSPECT
    lone.wait(5)
    assert lone.state(A) is State.DEAD


def test_a_timer_that_is_hardly_late_is_in_time():
    lone = Lone(A)
    for _ in range(400):
        when = lone.engine.next_timer()
        assert when is not None
        lone.now = when + 0.05
        lone.engine.handle_timer(lone.now)
        for to, message in lone.said():
            if isinstance(message, Ping):
                lone.hear(Ack(message.sequence), by=to)
    assert lone.engine._membership.doubts.health == 0
    assert lone.state(A) is State.ALIVE


# ---- restart ----


def test_restarting_beats_every_accusation_of_its_incarnation():
    lone = Lone(A, B)
    lone.hear(Suspect(A, 1, B))
    lone.hear(restarting(A, 2))
    lone.hear(Suspect(A, 2, B), Dead(A, 2, B), alive(A, AT[A], 2))
    assert lone.state(A) is State.RESTARTING
    lone.said()
    assert not [m for to, m in lone.wait(10) if to == AT[A]], "nobody listens there"
    lone.hear(alive(A, AT[A], 3))
    assert lone.state(A) is State.ALIVE
    lone.hear(restarting(A, 3))
    lone.hear(left(A, 3))
    assert lone.state(A) is State.LEFT, "it may still leave"


def test_who_announced_a_restart_does_not_refute_itself():
    lone = Lone(A)
    lone.engine.announce_restart(lone.now)
    assert restarting(ME, 2) in lone.said_to(A)
    lone.hear(Suspect(ME, 5, A), restarting(ME, 9))
    assert lone.state(ME) is State.RESTARTING
    left = Lone(A)
    left.engine.leave(left.now)
    left.said()
    left.engine.announce_restart(left.now)
    assert left.said() == []


def test_what_our_last_process_said_is_refuted():
    lone = Lone(A)
    lone.hear(restarting(ME, 9))
    assert lone.engine.members()[ME].incarnation == 10


def test_since_says_when_a_state_began():
    lone = Lone(A)
    lone.now += 7
    lone.hear(alive(A, AT[A], 2))
    assert lone.engine.members()[A].since == 100.0
    lone.hear(restarting(A, 3))
    member = lone.engine.members()[A]
    assert (member.state, member.since) == (State.RESTARTING, 107.0)
    assert MemberChanged(member) in lone.events()
