"""What goes wrong with hosts, ways and clocks: who is given up, when, by whom, at what cost."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest

from meshnet.gossip.config import GossipConfig
from meshnet.gossip.engine import UNREACHED_KEY
from meshnet.gossip.members import State


def _formed(cluster, size, **how):
    c = cluster(size, **how)
    c.run(20, until=c.agree)
    assert c.agree()
    c.run(5)
    return c


# ---- we are slow ----


@pytest.mark.parametrize("size", [3, 8])
@pytest.mark.parametrize("seconds", [1.0, 5.0, 20.0])
def test_who_slept_declares_nobody_dead_on_waking(cluster, size, seconds):
    c = _formed(cluster, size)
    begun = c.now
    c.stall(0, seconds)
    c.run(seconds + 30)
    mine = [v for v in c.verdicts(State.DEAD, begun) if v[1] == c.address(0)]
    assert mine == []
    assert c.agree()


def test_two_that_slept_beside_each_other_do_not_accuse_each_other(cluster):
    """Both nodes of a host that was paused: nobody else is there to tell them better."""
    c = _formed(cluster, 2)
    begun = c.now
    c.stall(0, 8)
    c.stall(1, 8)
    c.run(40)
    assert c.verdicts(State.DEAD, begun) == []
    assert c.agree()


@pytest.mark.parametrize("size", [3, 10])
def test_a_machine_that_is_late_with_everything_kills_nobody(cluster, size):
    c = _formed(cluster, size)
    begun = c.now
    c.drowsy = (0.5, 1.0)
    c.run(120)
    assert c.verdicts(State.DEAD, begun) == []
    c.drowsy = None
    assert c.run(30, until=c.agree) < 20


@pytest.mark.parametrize("size", [3, 10])
def test_a_machine_that_is_late_still_finds_the_dead(cluster, size):
    c = _formed(cluster, size)
    c.drowsy = (0.5, 1.0)
    c.run(20)
    c.kill(2)
    assert c.run(120, until=lambda: c.states_of(2) == {State.DEAD}) < 60
    assert {of for _, _, of in c.verdicts(State.DEAD)} == {c.id_of(2)}


def test_after_a_stall_the_dead_are_found_as_soon_as_ever(cluster):
    c = _formed(cluster, 3)
    c.stall(0, 5)
    c.run(15)
    c.kill(2)
    assert c.run(20, until=lambda: c.states_of(2) == {State.DEAD}) < 4


def test_whoever_cannot_reach_its_helpers_doubts_itself_first(cluster):
    """A node whose way out is gone for a moment waits longer than the others need to refute."""
    c = _formed(cluster, 8)
    begun = c.now
    c.partition([0], list(range(1, 8)))
    c.run(2.5)
    c.heal()
    c.run(20)
    assert [v for v in c.verdicts(State.DEAD, begun) if v[1] == c.address(0)] == []
    assert c.agree()


def test_probes_keep_their_pace(cluster):
    """Every member is pinged by every other one in turn: the timers do not drift or die."""
    c = _formed(cluster, 3)
    before = c.packets
    c.run(100)
    assert 16 < (c.packets - before) / 100 / 3 < 20


# ---- the way is cut ----


@pytest.mark.parametrize("size", [3, 5, 20])
def test_a_cut_between_two_is_noticed_by_both_and_by_nobody_else(cluster, size):
    c = _formed(cluster, size)
    begun = c.now
    c.partition([1], [2])
    took = c.run(20, until=lambda: not c.reached(1, 2) and not c.reached(2, 1))
    assert took < 5
    c.run(20)
    assert not c.reached(1, 2)
    assert not c.reached(2, 1)
    assert all(
        c.reached(by, of)
        for by in range(size)
        for of in range(size)
        if by != of and {by, of} != {1, 2}
    )
    assert c.verdicts(State.DEAD, begun) == []
    told = c.engine(0).records()
    assert msgpack.unpackb(told[c.id_of(1), UNREACHED_KEY]) == [c.id_of(2)]
    assert msgpack.unpackb(told[c.id_of(2), UNREACHED_KEY]) == [c.id_of(1)]
    c.heal()
    assert c.run(20, until=lambda: c.reached(1, 2) and c.reached(2, 1)) < 2
    c.run(2)
    assert not any(key == UNREACHED_KEY for _, key in c.engine(0).records())


def test_a_member_cut_off_from_several_is_seen_so_by_each(cluster):
    c = _formed(cluster, 10)
    c.partition([9], [1, 2, 3, 4])
    took = c.run(20, until=lambda: not any(c.reached(n, 9) for n in (1, 2, 3, 4)))
    assert took < 8
    assert c.reached(5, 9)
    assert c.states_of(9) == {State.ALIVE}


@pytest.mark.parametrize(("size", "seed"), [(3, 1), (3, 2), (5, 1), (5, 2), (20, 1)])
def test_loss_and_delay_are_no_cut(cluster, size, seed):
    c = _formed(cluster, size, loss=0.1, seed=seed)
    c.jitter_s = 0.05
    begun = c.now
    c.run(60)
    cut = [
        (when, by, event)
        for when, by, event in c.events
        if when >= begun and hasattr(event, "member") and not event.member.direct
    ]
    assert cut == []
    assert c.verdicts(State.DEAD, begun) == []


def test_helpers_save_a_member_that_one_other_cannot_reach(cluster):
    """Three nodes, one cut: without indirect probes the two would bury each other."""
    c = _formed(cluster, 3)
    begun = c.now
    c.partition([1], [2])
    c.run(60)
    assert c.verdicts(State.SUSPECT, begun) == []


# ---- a restart is not a death ----


def test_an_announced_restart_keeps_the_records_and_costs_nobody_a_verdict(cluster):
    c = _formed(cluster, 5)
    c.engine(2).set_record("ep/1", b"x", c.now)
    c.run(2)
    begun = c.now
    c.engine(2).announce_restart(c.now)
    c.run(0.1)
    c.kill(2)
    c.run(30)
    assert c.states_of(2) == {State.RESTARTING}
    assert all(e.records()[c.id_of(2), "ep/1"] == b"x" for e in c.engines.values())
    c.start(2).set_record("ep/1", b"x", c.now)
    assert c.run(10, until=c.agree) < 3
    assert c.verdicts(State.DEAD, begun) == []
    assert c.verdicts(State.SUSPECT, begun) == []


def test_a_restart_that_does_not_end_is_a_death(cluster):
    c = _formed(cluster, 5)
    c.engine(2).announce_restart(c.now)
    c.run(0.1)
    c.kill(2)
    took = c.run(100, until=lambda: c.states_of(2) == {State.DEAD})
    assert 55 < took < 65
    assert not any(owner == c.id_of(2) for owner, _ in c.engine(0).records())


def test_a_restart_reaches_also_who_did_not_hear_the_announcement(cluster):
    c = _formed(cluster, 5)
    begun = c.now
    c.engine(2).announce_restart(c.now)
    c.partition([2], [4])
    c.run(0.1)
    c.kill(2)
    assert c.run(5, until=lambda: c.states_of(2) == {State.RESTARTING}) < 1
    c.run(20)
    assert c.verdicts(State.DEAD, begun) == []


def test_two_restarts_in_a_row(cluster):
    c = _formed(cluster, 4)
    begun = c.now
    for _ in range(2):
        c.engine(2).announce_restart(c.now)
        c.run(0.1)
        c.kill(2)
        c.run(5)
        c.start(2)
        c.run(10, until=c.agree)
        assert c.agree()
    assert c.verdicts(State.DEAD, begun) == []


def test_a_clock_that_went_back_does_not_silence_a_member(cluster):
    """Its records carry a generation below that of its last process: it takes one above."""
    c = cluster(3)
    c._starts = 1000
    c.kill(2)
    c.start(2).set_record("ep/1", b"old", c.now)
    c.run(10, until=c.agree)
    c.kill(2)
    c._starts = 500
    c.start(2).set_record("ep/1", b"new", c.now)
    key = (c.id_of(2), "ep/1")
    assert (
        c.run(20, until=lambda: all(e.records().get(key) == b"new" for e in c.engines.values())) < 5
    )
    assert c.run(10, until=c.agree) < 5


def test_the_forgotten_stay_forgotten(cluster):
    """A dead member is not told around among those that forgot it and those that did not yet."""
    c = _formed(cluster, 4, config=replace(GossipConfig.lan(), forget_dead_s=120.0))
    c.kill(3)
    c.run(60)
    assert c.states_of(3) == {State.DEAD}
    c.start(4)
    c.run(30)
    assert c.engine(4).members()[c.id_of(3)].state is State.DEAD
    c.run(120)
    assert all(c.id_of(3) not in e.members() for e in c.engines.values())
    assert not any(owner == c.id_of(3) for e in c.engines.values() for owner, _ in e.all_records())
    c.start(5)
    c.run(120)
    assert all(c.id_of(3) not in e.members() for e in c.engines.values())


def test_who_left_is_not_told_to_those_who_come_afterwards(cluster):
    """Hosts that come and go, each time as another member."""
    c = _formed(cluster, 3)
    for number in range(3, 9):
        c.start(number)
        c.run(5, until=c.agree)
        c.engine(number).leave(c.now)
        c.run(0.2)
        c.kill(number)
    c.run(70)
    assert c.engine(0).members()[c.id_of(5)].state is State.LEFT, "who saw it leave knows it"
    begun = c.now
    c.start(9)
    assert c.run(20, until=c.agree) < 5
    c.run(20)
    assert set(c.engine(9).members()) == {c.id_of(n) for n in (0, 1, 2, 9)}
    told = [e for when, by, e in c.events if when >= begun and by == c.address(9)]
    assert not any(getattr(getattr(e, "member", None), "state", None) is State.LEFT for e in told)
    revenant = c.start(5)
    assert c.run(20, until=c.agree) < 5
    assert c.engine(0).members()[revenant.self_id].state is State.ALIVE


def test_who_was_removed_is_forgotten_by_all_and_dialled_by_none(cluster):
    c = _formed(cluster, 5)
    c.engine(4).set_record("ep/1", b"x", c.now)
    c.run(2)
    c.kill(4)
    c.run(10)
    assert c.states_of(4) == {State.DEAD}
    rest = {c.id_of(n): c.hands[c.id_of(n)] for n in range(4)}
    for number in range(4):
        assert c.address(4) in c.engine(number)._membership.gone()
        c.engine(number).expect(rest, c.now)
        assert c.address(4) not in c.engine(number)._membership.gone()
    c.run(60)
    assert all(c.id_of(4) not in e.members() for e in c.engines.values())
    assert not any(owner == c.id_of(4) for e in c.engines.values() for owner, _ in e.all_records())


def test_the_word_of_one_who_still_remembers_brings_no_removed_member_back(cluster):
    c = _formed(cluster, 4)
    c.kill(3)
    c.run(10)
    for number in range(2):  # the third hears of it later
        c.engine(number).expect({c.id_of(n): c.hands[c.id_of(n)] for n in range(3)}, c.now)
    c.run(60)
    begun = c.now
    c.run(60)
    assert [c.id_of(3) in c.engine(n).members() for n in range(3)] == [False, False, True]
    assert c.verdicts(State.DEAD, begun) == [], "not for a moment"


def test_a_dead_host_is_not_dialled_by_every_node_every_second(cluster):
    c = cluster(40)
    c.introduce()
    c.run(1)
    c.kill(39)
    c.run(4)
    dialled = c.dialled[c.address(39)]
    c.run(10)
    assert 0 < c.dialled[c.address(39)] - dialled < 10 * 10


def test_what_the_dead_last_said_reaches_who_starts_afterwards(cluster):
    c = _formed(cluster, 5)
    for number in (2, 3):
        c.engine(number).set_record("ep/1", b"last", c.now)
    c.run(5)
    c.kill(2)
    c.engine(3).leave(c.now)
    c.run(0.2)
    c.kill(3)
    c.run(10)
    c.kill(1)
    engine = c.start(1)

    def told() -> bool:
        return all(engine.all_records().get((c.id_of(n), "ep/1")) == b"last" for n in (2, 3))

    assert c.run(60, until=told) < 2
    assert engine.members()[c.id_of(2)].state is State.DEAD
    assert engine.members()[c.id_of(3)].state is State.LEFT
    assert not any(owner == c.id_of(2) for owner, _ in engine.records()), "it does not count"
    begun = c.packets
    c.run(20)
    before = c.packets
    c.run(20)
    assert c.packets - before == pytest.approx(before - begun, rel=0.1), "nobody goes on asking"
    c.start(2).set_record("ep/1", b"back", c.now)
    assert c.run(20, until=lambda: engine.records().get((c.id_of(2), "ep/1")) == b"back") < 5


def test_what_was_said_beyond_a_cut_is_told_after_its_death(cluster):
    c = _formed(cluster, 5)
    c.partition([0, 1], [2, 3, 4])
    c.run(15)
    c.engine(2).set_record("ep/1", b"last", c.now)
    c.run(2)
    c.kill(2)
    c.run(10)
    c.heal()
    key = (c.id_of(2), "ep/1")
    told = c.run(60, until=lambda: all(key in e.all_records() for e in c.engines.values()))
    assert told < 10
    assert c.states_of(2) == {State.DEAD}


# ---- records ----


def test_a_record_larger_than_a_datagram_goes_by_stream(cluster):
    c = _formed(cluster, 5)
    c.engine(1).set_record("big", b"x" * 20_000, c.now)
    key = (c.id_of(1), "big")
    assert c.run(20, until=lambda: all(key in e.records() for e in c.engines.values())) < 5
    assert c.longest <= c.config.packet_bytes


def test_more_than_one_turn_of_a_stream_arrives_whole_before_synced(cluster):
    c = cluster(6, config=replace(GossipConfig.lan(), turn_bytes=400_000))
    for number in range(60):
        c.engine(number % 6).set_record(f"ep/{number}", bytes([number]) * 30_000, c.now)
    c.run(10, until=c.agree)
    before, engine = c.streams, c.start(6)
    assert c.run(20, until=lambda: engine.synced) < 5
    assert len(engine.records()) == 60
    assert c.streams - before >= 3, "two owners a turn"


def test_a_record_made_while_cut_off_comes_round_the_cut(cluster):
    c = _formed(cluster, 3)
    c.partition([1], [2])
    c.run(10)
    c.engine(1).set_record("ep/1", b"x", c.now)
    assert c.run(5, until=lambda: (c.id_of(1), "ep/1") in c.engine(2).records()) < 1


# ---- what it costs ----


@pytest.mark.parametrize(("size", "bytes_per_s"), [(3, 1000), (10, 1300), (20, 1500)])
def test_at_rest_a_node_sends_little_and_nothing_large(cluster, size, bytes_per_s):
    """Bytes of sealed datagrams a node sends, at rest, with 10 endpoints a node."""
    c = cluster(size)
    for number in range(size):
        for task in range(10):
            c.engine(number).set_record(f"ep/{task}", b"x" * 250, c.now)
    c.run(20, until=c.agree)
    c.run(10)
    before, streams = c.bytes, c.streams
    dropped = [dict(e.dropped) for e in c.engines.values()]
    c.run(20)
    assert (c.bytes - before) / 20 / size < bytes_per_s
    assert (c.streams - streams) / 20 / size < 0.15
    assert c.longest <= c.config.packet_bytes
    assert [dict(e.dropped) for e in c.engines.values()] == dropped
