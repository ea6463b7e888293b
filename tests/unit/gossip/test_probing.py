"""Who is probed, who is asked for help, and what we think of ourselves."""

from __future__ import annotations

import msgpack
from lone_node import AT, CONFIG, DIFFERENT, HERE, ME, A, B, C, Lone, alive, next_probe, packet, row

from meshnet.gossip.engine import UNREACHED_KEY
from meshnet.gossip.members import State
from meshnet.gossip.messages import (
    Ack,
    Dead,
    End,
    Nack,
    Ping,
    PingReq,
    RelayedAck,
    Sync,
)
from meshnet.model.ids import NodeId


def test_nobody_answers_others_are_asked_then_it_is_suspect():
    lone = Lone(A, B)
    target, sequence = next_probe(lone)
    helper = B if target == A else A
    said = lone.wait(0.25)
    assert (AT[helper], PingReq(sequence, target, AT[target])) in said
    assert (AT[target], Ping(sequence, target)) in said, "a lost datagram is no dead node"
    lone.wait(0.3)
    assert lone.state(target) is State.SUSPECT


def test_a_relayed_ack_keeps_the_target_alive_and_four_make_the_way_cut():
    lone = Lone(A, B)
    seen: set[int] = set()
    for _ in range(200):
        for to, message in lone.wait(0.05):
            if isinstance(message, Ping) and message.target == B:
                lone.hear(Ack(message.sequence), by=AT[B])
            elif isinstance(message, PingReq):
                lone.hear(RelayedAck(message.sequence), by=to)
                seen.add(message.sequence)
        if not lone.engine.members()[A].direct:
            break
    assert len(seen) == CONFIG.direct_misses
    assert lone.state(A) is State.ALIVE
    lone.said()
    assert msgpack.unpackb(lone.engine.records()[ME, UNREACHED_KEY]) == [A]
    for _ in range(200):
        for to, message in lone.wait(0.05):
            if isinstance(message, Ping):
                lone.hear(Ack(message.sequence), by=to)
    assert lone.engine.records().get((ME, UNREACHED_KEY)) is None
    assert lone.engine.members()[A].direct


def test_a_way_that_something_came_over_is_not_cut():
    """Loss makes probes fail now and then; a datagram from the member starts the count anew."""
    lone = Lone(A, B)
    helped = rounds = 0
    while rounds < 5:
        for to, message in lone.wait(0.05):
            if isinstance(message, Ping) and message.target == B:
                lone.hear(Ack(message.sequence), by=AT[B])
            elif isinstance(message, Ping) and helped == CONFIG.direct_misses - 1:
                lone.hear(Nack(0), by=AT[A])
                helped, rounds = 0, rounds + 1
            elif isinstance(message, PingReq):
                lone.hear(RelayedAck(message.sequence), by=to)
                helped += 1
    assert lone.engine.members()[A].direct


def test_a_relay_passes_the_ack_on_or_says_that_there_is_none():
    lone = Lone(A, B)
    lone.hear(PingReq(7, B, AT[B]))
    (ping,) = [m for m in lone.said_to(B) if isinstance(m, Ping)]
    lone.hear(Ack(ping.sequence), by=AT[B])
    assert RelayedAck(7) in lone.said_to(A)
    lone.hear(PingReq(8, B, AT[B]))
    assert Nack(8) in [m for to, m in lone.wait(0.25) if to == AT[A]]


def test_silent_helpers_make_us_doubt_ourselves_and_nacks_do_not():
    silent = Lone(A, B, C)
    next_probe(silent)
    silent.wait(0.6)
    assert silent.engine._membership.doubts.health == 2, "one for each that was probed"
    nacked = Lone(A, B, C)
    next_probe(nacked)
    for to, message in nacked.wait(0.25):
        if isinstance(message, PingReq):
            nacked.hear(Nack(message.sequence), by=to)
    nacked.wait(0.3)
    assert nacked.engine._membership.doubts.health == 0


def test_an_ack_after_we_gave_up_says_that_we_are_slow():
    lone = Lone(A)
    _, sequence = next_probe(lone)
    lone.wait(0.6)
    assert lone.state(A) is State.SUSPECT
    before = lone.engine._membership.doubts.health
    lone.hear(Ack(sequence))
    assert lone.engine._membership.doubts.health == before + 1


def test_health_stretches_the_probes():
    lone = Lone()
    lone.let_in(*(NodeId(f"n{i}") for i in range(9)))
    lone.hear(*(alive(NodeId(f"n{i}"), ("10.0.2.1", i + 1), 1) for i in range(9)))
    lone.engine._membership.doubts.health = 3
    pings = [m for _, m in lone.wait(1.4) if isinstance(m, Ping)]
    assert len({ping.sequence for ping in pings}) == CONFIG.probes, "one round in two seconds"


def test_the_dead_are_not_probed():
    lone = Lone(A, B)
    lone.hear(Dead(B, 1, A))
    assert lone.state(B) is State.DEAD
    said = lone.wait(5)
    assert not [m for to, m in said if to == AT[B]]


def test_the_dead_are_not_looked_for_where_somebody_else_is_now():
    """A host that was made anew has another id at its old address, also for itself."""
    lone = Lone(A)
    exchange = lone.engine.open_stream(AT[A])
    exchange.begin(lone.now)
    rows = (
        row(A, AT[A], 1, State.ALIVE),
        row(B, AT[A], 1, State.DEAD, 9),
        row(C, HERE, 1, State.DEAD, 9),
    )
    exchange.receive_frame(packet(DIFFERENT, Sync(A, rows, {}), End(more=False)), lone.now)
    assert (lone.state(B), lone.state(C)) == (State.DEAD, State.DEAD)
    lone.engine.streams_to_open()
    lone.wait(1.5)
    assert lone.engine.streams_to_open() == []
