"""The engine alone: what a datagram may do to it, and what it may not."""

from __future__ import annotations

import random
from dataclasses import replace

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshnet.errors import CapacityError, WireError
from meshnet.gossip import table as tables
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.engine import UNREACHED_KEY, GossipEngine
from meshnet.gossip.events import MemberChanged, Refused
from meshnet.gossip.members import Address, State
from meshnet.gossip.messages import (
    NUMBER_MAX,
    Ack,
    Alive,
    Dead,
    DigestMessage,
    End,
    Message,
    Nack,
    Ping,
    PingReq,
    RelayedAck,
    Restarting,
    Row,
    Summary,
    Suspect,
    Sync,
)
from meshnet.gossip.table import Delta
from meshnet.gossip.wire import KeyRing, encode
from meshnet.model.ids import NodeId

KEY = b"0123456789abcdef"
RING = KeyRing((KEY,))
ME, A, B, C = NodeId("me"), NodeId("a"), NodeId("b"), NodeId("c")
HERE: Address = ("10.0.0.1", 7946)
AT: dict[NodeId, Address] = {A: ("10.0.0.2", 7946), B: ("10.0.0.3", 7946), C: ("10.0.0.4", 7946)}
CONFIG = GossipConfig.lan()


def _packet(*messages: Message) -> bytes:
    return RING.seal([encode(message) for message in messages], b"n" * 12)


class Lone:
    """An engine and everything it said, by message."""

    def __init__(self, *known: NodeId, config: GossipConfig = CONFIG, **more) -> None:
        self.now = 100.0
        self.engine = GossipEngine(config, ME, HERE, 1, random.Random(1), self.now, **more)
        self.engine.set_keys([KEY])
        self.hear(*(Alive(each, AT[each], 1) for each in known), by=("10.9.9.9", 7946))
        self.said()

    def hear(self, *messages: Message, by: Address = AT[A]) -> None:
        self.engine.receive_datagram(_packet(*messages), by, self.now)

    def said(self) -> list[tuple[Address, Message]]:
        return [
            (to, message)
            for packet, to in self.engine.datagrams_to_send(self.now)
            for message in RING.open(packet, "us")
        ]

    def said_to(self, member: NodeId) -> list[Message]:
        return [message for to, message in self.said() if to == AT[member]]

    def wait(self, seconds: float) -> list[tuple[Address, Message]]:
        """Every timer in time; what was said meanwhile."""
        end, said = self.now + seconds, self.said()
        while (when := self.engine.next_timer()) is not None and when <= end:
            self.now = max(self.now, when)
            self.engine.handle_timer(self.now)
            said += self.said()
        self.now = end
        return said

    def state(self, member: NodeId) -> State:
        return self.engine.members()[member].state

    def events(self) -> list[object]:
        found: list[object] = []
        while (event := self.engine.next_event()) is not None:
            found.append(event)
        return found


# ---- what comes in ----


def _raw(*said: object) -> bytes:
    return RING.seal([msgpack.packb(each) for each in said], b"n" * 12)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([5, "a", "10.0.0.2", 99999, 1], "malformed port"),
        ([2, 7, "a", "10.0.0.2", 99999], "malformed port"),
        ([2, 7, "a", "some.host.example", 7946], "malformed address"),
        ([8, {"a": [1]}], "malformed digest"),
    ],
)
def test_one_bad_datagram_is_counted_named_and_nothing_else(said, why):
    lone = Lone(A)
    lone.engine.receive_datagram(_raw([1, 7, "me"], said), AT[A], lone.now)
    lone.engine.receive_datagram(_raw(said), AT[A], lone.now)
    assert lone.engine.dropped[why] == 2
    assert [e for e in lone.events() if isinstance(e, Refused)] == [Refused(AT[A], why)]
    assert lone.said() == [], "not even the good message beside it was taken"
    lone.hear(Ping(7, ME))
    assert Ack(7) in lone.said_to(A)


def test_every_address_we_send_to_is_one():
    lone = Lone()
    lone.engine.join([("seed.example", 7946), ("10.0.0.9", 99999), ("10.0.0.9", 7946)])
    assert lone.engine.streams_to_open() == [("10.0.0.9", 7946)]
    assert lone.engine.dropped["seed without an IPv4 address"] == 2
    with pytest.raises(ValueError, match="malformed port"):
        GossipEngine(CONFIG, ME, ("10.0.0.1", 0), 1, random.Random(1), 0.0)


def test_strangers_are_counted_and_not_named():
    lone = Lone()
    lone.engine.receive_datagram(b"x" * 1401, AT[A], lone.now)
    lone.engine.receive_datagram(b"x" * 1400, AT[A], lone.now)
    assert lone.engine.dropped["datagram too long"] == 1
    assert lone.engine.dropped["not a meshnet gossip packet"] == 1
    assert lone.events() == []


def test_a_key_of_a_wrong_length_is_left_out():
    lone = Lone(A)
    lone.engine.set_keys([b"short", KEY])
    lone.hear(Ping(7, ME))
    assert Ack(7) in lone.said_to(A)
    assert lone.engine.dropped["key of a wrong length, or too many"] == 1


def test_several_digests_in_one_datagram_are_not_answered():
    lone = Lone(A)
    lone.hear(DigestMessage({A: (0, 0)}), DigestMessage({A: (0, 0)}))
    assert lone.engine.dropped["several digests in one datagram"] == 1
    lone.hear(Sync(A, (), {}))
    assert lone.engine.dropped["message of a stream in a datagram"] == 1


Ids = st.sampled_from([ME, A, B, C, NodeId("stranger")])
Numbers = st.sampled_from([0, 1, 2, 3, NUMBER_MAX - 1, NUMBER_MAX])
Addresses = st.sampled_from([HERE, *AT.values(), ("10.9.9.9", 1)])
Entries = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.none() | st.binary(max_size=9)),
    max_size=4,
    unique_by=lambda entry: entry[1],
).map(lambda entries: tuple(sorted(entries, key=lambda entry: entry[1])))
Said = st.one_of(
    st.builds(Ping, st.integers(0, 3), Ids),
    st.builds(PingReq, st.integers(0, 3), Ids, Addresses),
    st.builds(Ack, st.integers(0, 3)),
    st.builds(RelayedAck, st.integers(0, 3)),
    st.builds(Nack, st.integers(0, 3)),
    st.builds(Alive, Ids, Addresses, Numbers),
    st.builds(Suspect, Ids, Numbers, Ids),
    st.builds(Dead, Ids, Numbers, Ids),
    st.builds(Restarting, Ids, Numbers),
    st.builds(Summary, st.integers(0, 3), st.integers(0, 3)),
    st.builds(DigestMessage, st.dictionaries(Ids, st.tuples(Numbers, Numbers), max_size=4)),
    st.builds(Delta, Ids, Numbers, st.just(0), st.just(9), st.integers(0, 9), Entries),
)


@given(st.lists(st.tuples(Said, Addresses, st.floats(0, 3)), max_size=25))
@example([(Suspect(ME, NUMBER_MAX, A), AT[A], 1.0)])
@example([(DigestMessage({ME: (NUMBER_MAX, NUMBER_MAX)}), AT[A], 1.0)])
@example([(Alive(A, HERE, 5), AT[A], 0.1), (Dead(A, 5, A), AT[A], 61.0)])
@example([(Restarting(A, 2), AT[A], 61.0), (Suspect(A, 2, B), AT[B], 3.0)])
def test_whatever_a_key_holder_says_the_engine_goes_on(said):
    """Nothing raises, what it says itself can be said, and it still answers a ping."""
    lone = Lone(A, B)
    for message, by, pause in said:
        lone.hear(message, by=by)
        lone.wait(pause)
    lone.hear(Ping(77, ME), by=("10.9.9.8", 7946))
    assert (("10.9.9.8", 7946), Ack(77)) in lone.said()
    assert lone.state(ME) is State.ALIVE
    assert len(lone.engine.members()) <= 5


# ---- bounds ----


def test_members_are_bounded():
    lone = Lone(config=replace(CONFIG, members_max=3))
    lone.hear(*(Alive(NodeId(f"n{i}"), ("10.0.1.1", i + 1), 1) for i in range(5)))
    assert len(lone.engine.members()) == 3
    assert lone.engine.dropped["too many members"] == 3


def test_what_one_member_may_hold_is_bounded():
    lone = Lone(A)
    each = tables.VALUE_BYTES
    for i in range(tables.OWNER_BYTES // each + 2):
        delta = Delta(A, 1, i, i + 1, 0, ((f"k{i}", i + 1, b"x" * each),))
        lone.engine._entropy.heard_delta(delta, AT[A], lone.now)
    held = [v for (owner, _), v in lone.engine.records().items() if owner == A]
    assert sum(map(len, held)) <= tables.OWNER_BYTES
    assert lone.engine.dropped["one member's records are too many"] > 0
    many = tuple((f"j{i}", i + 1, b"") for i in range(tables.RECORDS + 1))
    lone.engine._entropy.heard_delta(Delta(A, 2, 0, len(many), 0, many), AT[A], lone.now)
    assert lone.engine._entropy.table.version_of(A)[0] == 1


def test_the_weight_of_an_owner_follows_its_records():
    """Replaced, deleted and reaped records weigh nothing: a busy owner is not shut out one day."""
    table = tables.Table()
    for i in range(500):
        table.put(A, 1, f"k{i % 7}", bytes([i % 251]) * 20_000, float(i))
        table.put(A, 1, f"k{(i + 1) % 7}", None, float(i))
        table.reap(float(i))
    assert sum(map(len, table.values(A).values())) <= 7 * 20_000


def test_our_own_record_that_no_peer_would_take_is_refused_here():
    lone = Lone()
    with pytest.raises(CapacityError):
        lone.engine.set_record("big", b"x" * (tables.VALUE_BYTES + 1), lone.now)
    lone.engine.set_record("big", b"x" * tables.VALUE_BYTES, lone.now)
    assert lone.engine.records()[ME, "big"] == b"x" * tables.VALUE_BYTES


def test_records_of_nobody_are_not_kept():
    lone = Lone(A)
    lone.hear(Delta(NodeId("ghost"), 1, 0, 1, 0, (("k", 1, b"v"),)))
    assert lone.engine._entropy.table.version_of(NodeId("ghost")) == (0, 0)
    assert lone.engine.dropped["records of nobody we know"] == 1


def test_probes_for_others_are_bounded():
    lone = Lone(A, B, config=replace(CONFIG, relays_max=2))
    lone.hear(*(PingReq(i, B, AT[B]) for i in range(3)))
    assert [m for m in lone.said_to(A) if isinstance(m, Nack)] == [Nack(2)]


def test_confirmations_are_of_members_and_enough_is_enough():
    """Made-up accusers neither hurry a death nor pile up."""
    lone = Lone(A, B, C)
    lone.hear(*(Suspect(B, 1, NodeId(f"ghost{i}")) for i in range(40)))
    assert len(lone.engine.members()[B].accusers) == 1
    lone.hear(Suspect(B, 1, A), Suspect(B, 1, C))
    assert len(lone.engine.members()[B].accusers) == 2


def test_the_answer_to_a_digest_is_a_few_datagrams_and_then_a_stream():
    lone = Lone(A)
    lone.wait(2)
    lone.engine.streams_to_open()
    for i in range(100):
        lone.engine.set_record(f"k{i}", b"x" * 900, lone.now)
    lone.said()
    lone.hear(DigestMessage({ME: (1, 0), A: (0, 0)}))
    packets = [p for p, to in lone.engine.datagrams_to_send(lone.now) if to == AT[A]]
    assert 0 < len(packets) <= CONFIG.burst_packets + 1
    assert max(map(len, packets)) <= CONFIG.packet_bytes
    assert lone.engine.streams_to_open() == [AT[A]]


# ---- records ----


def test_a_digest_that_knows_more_is_asked_back():
    lone = Lone(A, B)
    lone.hear(DigestMessage({B: (1, 3)}))
    (digest,) = [m for m in lone.said_to(A) if isinstance(m, DigestMessage)]
    assert digest.versions[B] == (0, 0)
    lone.hear(DigestMessage({B: (0, 0)}))
    assert not [m for m in lone.said_to(A) if isinstance(m, DigestMessage)]


def test_a_summary_of_other_records_is_answered_with_a_digest_and_an_equal_one_with_nothing():
    lone = Lone(A)
    lone.engine.set_record("k", b"v", lone.now)
    lone.said()
    entropy, membership = lone.engine._entropy, lone.engine._membership
    lone.hear(Summary(membership.fingerprint(), entropy.fingerprint()))
    assert lone.said_to(A) == []
    lone.hear(Summary(membership.fingerprint(), entropy.fingerprint() ^ 1))
    (digest,) = [m for m in lone.said_to(A) if isinstance(m, DigestMessage)]
    assert digest.versions[ME] == (1, 1)


def test_a_digest_speaks_only_of_the_owners_it_lists():
    """What does not fit into a datagram is not unknown to who sent it."""
    lone = Lone(A)
    lone.engine.set_record("k", b"v", lone.now)
    lone.said()
    lone.hear(DigestMessage({A: (0, 0)}))
    assert not [m for m in lone.said_to(A) if isinstance(m, Delta)]
    lone.hear(DigestMessage({ME: (0, 0)}))
    assert [m for m in lone.said_to(A) if isinstance(m, Delta)]


def test_records_of_ours_that_we_did_not_write_make_our_generation_greater():
    lone = Lone(A)
    lone.engine.set_record("k", b"v", lone.now)
    lone.said()
    lone.hear(DigestMessage({ME: (7, 3)}))
    delta = next(m for m in lone.said_to(A) if isinstance(m, Delta))
    assert (delta.owner, delta.generation, delta.base) == (ME, 8, 0)
    assert delta.entries == (("k", 1, b"v"),)


def test_a_tombstone_is_remembered_for_its_time():
    lone = Lone(A)
    lone.engine.set_record("k", b"v", lone.now)
    lone.engine.set_record("k", None, lone.now)
    lone.wait(CONFIG.tombstone_s - 1)
    lone.hear(DigestMessage({ME: (1, 1)}))
    (delta,) = [m for m in lone.said_to(A) if isinstance(m, Delta)]
    assert delta.entries == (("k", 2, None),)


def test_a_malformed_record_is_shown_to_nobody_until_its_owner_repairs_it():
    lone = Lone(A, accepts=lambda _, value: value != b"bad")
    lone.events()
    lone.hear(Delta(A, 1, 0, 2, 0, (("k", 1, b"bad"), ("j", 2, b"good"))))
    assert lone.engine.records() == {(A, "j"): b"good"}
    assert Refused(AT[A], "malformed record") in lone.events()
    lone.hear(Delta(A, 1, 2, 3, 0, (("k", 3, b"bad"),)))
    assert lone.engine.dropped["malformed record"] == 2
    assert Refused(AT[A], "malformed record") not in lone.events(), "named once"
    lone.hear(Delta(A, 1, 3, 4, 0, (("k", 4, b"fine"),)))
    assert lone.engine.records() == {(A, "j"): b"good", (A, "k"): b"fine"}


# ---- probing ----


def _probe(lone: Lone) -> tuple[NodeId, int]:
    """Waits for the next probe: (target, sequence)."""
    pings: list[Ping] = []
    while not pings:
        pings = [message for _, message in lone.wait(0.05) if isinstance(message, Ping)]
    return pings[0].target, pings[0].sequence


def test_nobody_answers_others_are_asked_then_it_is_suspect():
    lone = Lone(A, B)
    target, sequence = _probe(lone)
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
    _probe(silent)
    silent.wait(0.6)
    assert silent.engine._membership.health == 1
    nacked = Lone(A, B, C)
    _probe(nacked)
    for to, message in nacked.wait(0.25):
        if isinstance(message, PingReq):
            nacked.hear(Nack(message.sequence), by=to)
    nacked.wait(0.3)
    assert nacked.engine._membership.health == 0


def test_an_ack_after_we_gave_up_says_that_we_are_slow():
    lone = Lone(A)
    _, sequence = _probe(lone)
    lone.wait(0.6)
    assert lone.state(A) is State.SUSPECT
    before = lone.engine._membership.health
    lone.hear(Ack(sequence))
    assert lone.engine._membership.health == before + 1


def test_health_stretches_the_probes():
    lone = Lone(A)
    lone.engine._membership.health = 3
    pings = [m for _, m in lone.wait(4.0) if isinstance(m, Ping)]
    assert len({ping.sequence for ping in pings}) <= 3


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
        Row(A, AT[A], 1, State.ALIVE),
        Row(B, AT[A], 1, State.DEAD, 9),
        Row(C, HERE, 1, State.DEAD, 9),
    )
    exchange.receive_frame(_packet(Sync(A, rows, {}), End(more=False)), lone.now)
    assert (lone.state(B), lone.state(C)) == (State.DEAD, State.DEAD)
    lone.engine.streams_to_open()
    lone.wait(1.5)
    assert lone.engine.streams_to_open() == []


# ---- suspicion and refutation ----


def test_an_accusation_of_us_is_refuted_with_a_greater_incarnation():
    lone = Lone(A, B)
    lone.hear(Suspect(ME, 4, A))
    assert Alive(ME, HERE, 5) in lone.said_to(B) + lone.said_to(A)
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
    """Six members: shortest 1.25 s, twice that while nobody but the first accuser says so."""
    others = tuple(NodeId(f"n{i}") for i in range(3))

    def six() -> Lone:
        lone = Lone(A, B)
        lone.hear(*(Alive(each, ("10.0.2.1", i + 1), 1) for i, each in enumerate(others)))
        return lone

    assert _lasts(six(), ()) == pytest.approx(2.5, abs=0.05)
    assert _lasts(six(), (B, B)) == pytest.approx(2.5, abs=0.05)
    assert 1.3 < _lasts(six(), others[:1]) < 2.4
    assert _lasts(six(), others) == pytest.approx(1.25, abs=0.05)


def test_a_suspect_is_told_so_with_the_probe():
    lone = Lone(A)
    said = lone.wait(2.0)
    assert Suspect(A, 1, ME) in [m for to, m in said if to == AT[A]]


def test_hearsay_of_a_death_on_a_stream_is_a_suspicion():
    lone = Lone(A, B)
    exchange = lone.engine.accept_stream(AT[A])
    rows = (Row(A, AT[A], 1, State.ALIVE), Row(B, AT[B], 1, State.DEAD))
    exchange.receive_frame(_packet(Sync(A, rows, {}), End(more=False)), lone.now)
    assert lone.state(B) is State.SUSPECT


# ---- lateness ----


def test_a_late_timer_judges_nobody_before_what_came_in_is_heard():
    lone = Lone(A)
    _, sequence = _probe(lone)
    lone.now += 5.0
    lone.engine.handle_timer(lone.now)
    assert lone.state(A) is State.ALIVE
    lone.hear(Ack(sequence))
    lone.wait(0.25)
    assert lone.state(A) is State.ALIVE
    assert lone.engine._membership.health > 0


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
    assert lone.engine._membership.health == 0
    assert lone.state(A) is State.ALIVE


# ---- restart ----


def test_restarting_beats_every_accusation_of_its_incarnation():
    lone = Lone(A, B)
    lone.hear(Suspect(A, 1, B))
    lone.hear(Restarting(A, 2))
    lone.hear(Suspect(A, 2, B), Dead(A, 2, B), Alive(A, AT[A], 2))
    assert lone.state(A) is State.RESTARTING
    lone.said()
    assert not [m for to, m in lone.wait(10) if to == AT[A]], "nobody listens there"
    lone.hear(Alive(A, AT[A], 3))
    assert lone.state(A) is State.ALIVE
    lone.hear(Restarting(A, 3))
    lone.hear(Dead(A, 3, A))
    assert lone.state(A) is State.LEFT, "it may still leave"


def test_who_announced_a_restart_does_not_refute_itself():
    lone = Lone(A)
    lone.engine.announce_restart(lone.now)
    assert Restarting(ME, 2) in lone.said_to(A)
    lone.hear(Suspect(ME, 5, A), Restarting(ME, 9))
    assert lone.state(ME) is State.RESTARTING
    left = Lone(A)
    left.engine.leave(left.now)
    left.said()
    left.engine.announce_restart(left.now)
    assert left.said() == []


def test_what_our_last_process_said_is_refuted():
    lone = Lone(A)
    lone.hear(Restarting(ME, 9))
    assert lone.engine.members()[ME].incarnation == 10


def test_since_says_when_a_state_began():
    lone = Lone(A)
    lone.now += 7
    lone.hear(Alive(A, AT[A], 2))
    assert lone.engine.members()[A].since == 100.0
    lone.hear(Restarting(A, 3))
    member = lone.engine.members()[A]
    assert (member.state, member.since) == (State.RESTARTING, 107.0)
    assert MemberChanged(member) in lone.events()


# ---- streams ----


def test_nothing_out_of_turn_is_taken_from_a_stream():
    lone = Lone(A)
    delta = Delta(A, 1, 0, 1, 0, (("k", 1, b"v"),))
    row = Row(B, AT[B], 1, State.ALIVE)
    for frame in (
        [delta],
        [Sync(A, (), {}), delta],
        [Sync(A, (row,), {}), Sync(B, (), {})],
        [End(more=False)],
        [End(more=False), Sync(A, (row,), {})],
        [Ping(7, ME)],
    ):
        with pytest.raises(WireError, match="unexpected message on a stream"):
            lone.engine.accept_stream(AT[A]).receive_frame(_packet(*frame), lone.now)
    assert lone.engine.records() == {}
    assert B not in lone.engine.members()


def test_a_turn_on_a_stream_has_an_end_and_says_that_there_is_more():
    lone = Lone(A, config=replace(CONFIG, turn_bytes=130_000))
    for i in range(10):
        lone.engine.set_record(f"k{i}", b"x" * 20_000, lone.now)
    exchange = lone.engine.accept_stream(AT[A])
    hello = _packet(Sync(A, (Row(A, AT[A], 1, State.ALIVE),), {}), End(more=False))
    frames = exchange.receive_frame(hello, lone.now)
    assert 60_000 < sum(map(len, frames)) < 131_000
    assert max(map(len, frames)) <= CONFIG.frame_bytes
    assert RING.open(frames[-1], "us")[-1] == End(more=True)
    opened = lone.engine.open_stream(AT[A])
    opened.begin(lone.now)
    opened.receive_frame(_packet(Sync(A, (), {}), End(more=True)), lone.now)
    assert opened.done
    assert not lone.engine.synced
    assert lone.engine.streams_to_open() == [AT[A]]
