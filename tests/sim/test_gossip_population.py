"""Populations of engines: everything converges, whatever the network does in between."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from simulated_gossip import Cluster

from meshnet.gossip.engine import GossipEngine
from meshnet.gossip.members import State
from meshnet.gossip.messages import Ping
from meshnet.gossip.wire import KeyRing, encode


@pytest.mark.parametrize("size", [2, 3, 5, 25])
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_everybody_finds_everybody(cluster, size, loss):
    c = cluster(size, loss=loss)
    assert c.run(10, until=c.agree) < 5


@pytest.mark.parametrize("size", [3, 25])
def test_a_new_record_is_everywhere_in_300_ms(cluster, size):
    c = cluster(size)
    c.run(10, until=c.agree)
    key = (c.id_of(0), "ep/1")
    c.engine(0).set_record("ep/1", b"hello", c.now)

    def seen() -> bool:
        return all(e.records().get(key) == b"hello" for e in c.engines.values())

    assert c.run(2, until=seen) < 0.3


def test_a_deleted_record_goes_everywhere(cluster):
    c = cluster(5, loss=0.1)
    c.engine(0).set_record("ep/1", b"hello", c.now)
    c.run(10, until=c.agree)
    c.engine(0).set_record("ep/1", None, c.now)
    key = (c.id_of(0), "ep/1")

    def gone() -> bool:
        return not any(key in e.records() for e in c.engines.values())

    assert c.run(5, until=gone) < 1


def test_a_deletion_is_learnt_after_the_tombstone_is_reaped(cluster):
    c = cluster(4)
    c.engine(0).set_record("ep/1", b"old", c.now)
    c.run(10, until=c.agree)
    c.partition([3], [0, 1, 2])
    c.run(10)
    c.engine(0).set_record("ep/1", None, c.now)
    c.run(200)
    c.heal()
    assert c.run(60, until=c.agree) < 30
    assert (c.id_of(0), "ep/1") not in c.engine(3).records()


@pytest.mark.parametrize(("size", "limit"), [(3, 3.5), (25, 4.5)])
def test_a_killed_member_is_dead_soon(cluster, size, limit):
    c = cluster(size)
    c.engine(2).set_record("ep/1", b"x", c.now)
    c.run(10, until=c.agree)
    c.kill(2)
    assert c.run(20, until=lambda: c.states_of(2) == {State.DEAD}) < limit
    assert not any(k[0] == c.id_of(2) for e in c.engines.values() for k in e.records())


def test_nobody_alive_is_declared_dead_by_a_lossy_network(cluster):
    c = cluster(10, loss=0.1)
    c.run(10, until=c.agree)
    c.events.clear()
    c.run(60)
    dead = [
        e
        for _, _, e in c.events
        if getattr(getattr(e, "member", None), "state", None) is State.DEAD
    ]
    assert dead == []


def test_a_member_that_leaves_is_gone_at_once(cluster):
    c = cluster(5)
    c.run(10, until=c.agree)
    c.engine(3).leave(c.now)
    c.run(0.2)
    c.kill(3)
    assert c.run(2, until=lambda: c.states_of(3) == {State.LEFT}) < 0.5


def test_a_restarted_member_replaces_what_it_said_before(cluster):
    c = cluster(4)
    c.engine(1).set_record("ep/old", b"x", c.now)
    c.run(10, until=c.agree)
    c.kill(1)
    c.run(6)
    c.start(1).set_record("ep/new", b"y", c.now)
    assert c.run(20, until=c.agree) < 5
    assert {k[1] for k in c.engine(0).records() if k[0] == c.id_of(1)} == {"ep/new"}


def test_a_healed_partition_converges(cluster):
    c = cluster(6)
    c.run(10, until=c.agree)
    c.partition([0, 1, 2], [3, 4, 5])
    c.run(15)
    assert c.engine(0).members()[c.id_of(4)].state is State.DEAD
    c.engine(4).set_record("ep/1", b"said while cut off", c.now)
    c.heal()
    assert c.run(30, until=c.agree) < 10


def test_a_stranger_without_the_key_learns_nothing(cluster):
    c = cluster(3)
    c.engine(2).set_keys([b"another key 1234"])
    c.run(5)
    assert c.id_of(2) not in c.engine(0).members()
    assert c.refused > 0
    stranger = encode(Ping(7, c.id_of(0)))
    packet = KeyRing((b"another key 1234",)).seal([stranger], b"123456789012")
    c.engine(0).receive_datagram(packet, c.address(2), c.now)
    assert c.engine(0).dropped["sealed with a key we do not have"] == 1
    c.engine(0).receive_datagram(b"GET / HTTP/1.1 and so on and so forth", c.address(2), c.now)
    assert c.engine(0).dropped["not a meshnet gossip packet"] == 1


def test_keys_rotate_without_a_lost_member(cluster):
    c = cluster(4)
    c.run(10, until=c.agree)
    old, new = b"0123456789abcdef", b"fedcba9876543210"
    c.events.clear()
    for ring in ([old, new], [new, old], [new]):
        for number in range(4):
            c.engine(number).set_keys(ring)
            c.run(0.5)
    c.run(5)
    assert c.agree()
    assert [e for _, _, e in c.events if hasattr(e, "member")] == []


def test_order_and_repetition_of_datagrams_do_not_matter(cluster):
    """The same datagrams, shuffled and doubled, leave a state that the owner really was in."""
    c = cluster(3)
    for number in range(3):
        for i in range(5):
            c.engine(number).set_record(f"ep/{i}", bytes([number, i]), c.now)
    c.run(10, until=c.agree)
    packets = []
    engine: GossipEngine = c.engine(0)

    def said_by_0(by: GossipEngine) -> tuple[tuple[str, bytes], ...]:
        return tuple(sorted((k[1], v) for k, v in by.records().items() if k[0] == c.id_of(0)))

    states = {(), said_by_0(engine)}
    for i in range(20):
        engine.set_record("ep/0", bytes([i]), c.now)
        packets += [d for d, to in engine.datagrams_to_send(c.now) if to == c.address(1)]
        states.add(said_by_0(engine))
    for seed in range(5):
        replica = cluster(3, seed=seed)
        replica.run(10, until=replica.agree)
        shuffled = packets * 2
        random.Random(seed).shuffle(shuffled)
        for packet in shuffled:
            replica.engine(1).receive_datagram(packet, c.address(0), replica.now)
        assert said_by_0(replica.engine(1)) in states


def test_a_hundred_members(cluster):
    c = cluster(100)
    for _ in range(20):
        c.run(0.5)
        if c.agree():
            break
    assert c.agree()


class Chaos(RuleBasedStateMachine):
    """Starts, kills, cuts, heals and changes at random; never quiet between the actions."""

    def __init__(self) -> None:
        super().__init__()
        self.c = Cluster(5, loss=0.05, duplicate=0.05)
        self.version = 0

    @rule(seconds=st.floats(0.05, 3))
    def wait(self, seconds):
        self.c.run(seconds)

    @rule(number=st.integers(1, 4))
    def kill(self, number):
        self.c.kill(number)

    @rule(number=st.integers(1, 4))
    def start(self, number):
        if self.c.address(number) not in self.c.engines:
            self.c.start(number)

    @rule(number=st.integers(0, 4), key=st.sampled_from("abc"), delete=st.booleans())
    def change(self, number, key, delete):
        if self.c.address(number) in self.c.engines:
            self.version += 1
            value = None if delete else str(self.version).encode()
            self.c.engine(number).set_record(key, value, self.c.now)

    @rule(left=st.sets(st.integers(0, 4), min_size=1, max_size=4))
    def cut(self, left):
        self.c.partition(sorted(left), [n for n in range(5) if n not in left])

    @rule()
    def heal(self):
        self.c.heal()

    def teardown(self):
        self.c.heal()
        self.c.loss = 0.0
        assert self.c.run(120, until=self.c.agree) < 60


Chaos.TestCase.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestChaos = Chaos.TestCase
