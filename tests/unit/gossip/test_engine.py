"""What a datagram or a stream may do to an engine, and what it may not."""

from __future__ import annotations

import random
from dataclasses import replace

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lone_node import (
    AT,
    CONFIG,
    DIFFERENT,
    HERE,
    KEY,
    ME,
    RING,
    A,
    B,
    C,
    Lone,
    alive,
    hand,
    left,
    packet,
    proven,
    restarting,
    row,
    word,
)

from meshnet.errors import CapacityError, WireError
from meshnet.gossip import table as tables
from meshnet.gossip.engine import GossipEngine
from meshnet.gossip.events import RecordsChanged, Refused
from meshnet.gossip.members import SAID, State, Word
from meshnet.gossip.messages import (
    NUMBER_MAX,
    Ack,
    Applied,
    Ask,
    Buckets,
    Dead,
    DigestMessage,
    End,
    Nack,
    Ping,
    PingReq,
    RelayedAck,
    Summary,
    Suspect,
    Sync,
)
from meshnet.gossip.sums import BUCKETS, bucket_of
from meshnet.gossip.table import Delta
from meshnet.model.ids import NodeId

# ---- what comes in ----


def _raw(*said: object) -> bytes:
    return RING.seal([msgpack.packb(each) for each in said], b"n" * 12)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([5, "a", "10.0.0.2", 99999, 1, b"s" * 64], "malformed port"),
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
        GossipEngine(CONFIG, ME, ("10.0.0.1", 0), 1, random.Random(1), 0.0, hand(ME))


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
    lone.hear(Buckets([0] * BUCKETS), DigestMessage({A: (0, 0)}))
    assert lone.engine.dropped["several digests in one datagram"] == 2
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
Deltas = st.builds(Delta, Ids, Numbers, st.just(0), st.just(9), st.integers(0, 9), Entries)
Said = st.one_of(
    st.builds(Ping, st.integers(0, 3), Ids),
    st.builds(PingReq, st.integers(0, 3), Ids, Addresses),
    st.builds(Ack, st.integers(0, 3)),
    st.builds(RelayedAck, st.integers(0, 3)),
    st.builds(Nack, st.integers(0, 3)),
    st.builds(word, Ids, Addresses, Numbers, st.sampled_from(SAID)),
    st.builds(Word, Ids, Addresses, Numbers, st.sampled_from(SAID), st.just(b"f" * 64)),
    st.builds(Suspect, Ids, Numbers, Ids),
    st.builds(Dead, Ids, Numbers, Ids),
    st.builds(Summary, st.integers(0, 3), st.integers(0, 3)),
    st.builds(Buckets, st.just((1,) * BUCKETS)),
    st.builds(Ask, Ids, st.tuples(Numbers, Numbers)),
    st.builds(Applied, Ids, st.tuples(Numbers, Numbers)),
    st.builds(DigestMessage, st.dictionaries(Ids, st.tuples(Numbers, Numbers), max_size=4)),
    Deltas,
    Deltas.map(proven),
)


@given(st.lists(st.tuples(Said, Addresses, st.floats(0, 3)), max_size=25))
@example([(Suspect(ME, NUMBER_MAX, A), AT[A], 1.0)])
@example([(alive(ME, AT[A], NUMBER_MAX), AT[A], 1.0)])
@example([(DigestMessage({ME: (NUMBER_MAX, NUMBER_MAX)}), AT[A], 1.0)])
@example([(alive(A, HERE, 5), AT[A], 0.1), (left(A, 5), AT[A], 61.0)])
@example([(restarting(A, 2), AT[A], 61.0), (Suspect(A, 2, B), AT[B], 3.0)])
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
    some = [NodeId(f"n{i}") for i in range(5)]
    lone.let_in(*some)
    lone.hear(*(alive(each, ("10.0.1.1", i + 1), 1) for i, each in enumerate(some)))
    assert len(lone.engine.members()) == 3
    assert lone.engine.dropped["too many members"] == 3


def test_what_one_member_may_hold_is_bounded():
    lone = Lone(A)
    each = tables.VALUE_BYTES
    entries = [(f"k{i}", i + 1, b"x" * each) for i in range(tables.OWNER_BYTES // each + 2)]
    for i, entry in enumerate(entries):
        delta = proven(Delta(A, 1, i, i + 1, 0, (entry,)), tuple(entries[:i]))
        lone.engine._entropy.heard_delta(delta, AT[A], lone.now)
    held = [v for (owner, _), v in lone.engine.records().items() if owner == A]
    assert sum(map(len, held)) <= tables.OWNER_BYTES
    assert lone.engine.dropped["one member's records are too many"] > 0
    many = tuple((f"j{i}", i + 1, b"") for i in range(tables.RECORDS + 1))
    delta = proven(Delta(A, 2, 0, len(many), 0, many))
    lone.engine._entropy.heard_delta(delta, AT[A], lone.now)
    assert lone.engine._entropy.table.version_of(A)[0] == 1


def test_the_weight_of_an_owner_follows_its_records():
    """Replaced, deleted and reaped records weigh nothing: a busy owner is not shut out one day."""
    table = tables.Table(hand(A))
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
    lone.hear(Suspect(B, 1, ME), Dead(B, 1, ME), Dead(B, 1, NodeId("ghost")))
    assert lone.state(B) is State.ALIVE
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
    assert lone.said_to(A) == [], "a part of what one member says proves nothing"
    assert lone.engine.streams_to_open() == [AT[A]]
    lone.hear(DigestMessage({ME: (1, 95), A: (0, 0)}))
    packets = [p for p, to in lone.engine.datagrams_to_send(lone.now) if to == AT[A]]
    assert len(packets) == 5
    assert max(map(len, packets)) <= CONFIG.packet_bytes


# ---- records ----


def test_a_digest_that_knows_more_is_asked_back():
    lone = Lone(A, B)
    lone.hear(DigestMessage({B: (1, 3)}))
    (digest,) = [m for m in lone.said_to(A) if isinstance(m, DigestMessage)]
    assert digest.versions[B] == (0, 0)
    lone.hear(DigestMessage({B: (0, 0)}))
    assert not [m for m in lone.said_to(A) if isinstance(m, DigestMessage)]


def test_records_that_differ_are_found_by_the_fingerprints_of_buckets():
    lone = Lone(A)
    lone.wait(0.15)
    lone.engine.set_record("k", b"v", lone.now)
    lone.said()
    entropy, membership = lone.engine._entropy, lone.engine._membership
    lone.hear(Summary(membership.fingerprint(), entropy.fingerprint()))
    assert lone.said_to(A) == []
    lone.hear(Summary(membership.fingerprint(), entropy.fingerprint() ^ 1))
    mine = entropy.table.summed().buckets
    assert [m for m in lone.said_to(A) if isinstance(m, Buckets)] == [Buckets(mine)]
    lone.hear(Summary(membership.fingerprint(), entropy.fingerprint() ^ 1))
    assert lone.said_to(A) == [], "one an interval"
    lone.hear(Buckets(mine))
    assert lone.said_to(A) == []
    other = list(mine)
    other[bucket_of(ME)] ^= 1
    lone.hear(Buckets(other))
    (digest,) = [m for m in lone.said_to(A) if isinstance(m, DigestMessage)]
    assert digest.versions == {ME: (1, 1)}, "of the bucket that differs, and no more"


def test_what_lies_on_top_of_something_unknown_is_asked_for_and_nothing_else():
    lone = Lone(A, B)
    lone.hear(Delta(B, 1, 2, 3, 0, (("k", 3, b"v"),)))
    assert [m for m in lone.said_to(A) if isinstance(m, DigestMessage)] == [
        DigestMessage({B: (0, 0)})
    ]
    lone.hear(Delta(B, 1, 2, 3, 0, (("k", 3, b"v"),)))
    lone.hear(Delta(A, 1, 2, 3, 0, (("k", 3, b"v"),)))
    packets = [p for p, to in lone.engine.datagrams_to_send(lone.now) if to == AT[A]]
    asked = [m for p in packets for m in RING.open(p, "us") if isinstance(m, DigestMessage)]
    assert asked == [DigestMessage({A: (0, 0), B: (0, 0)})], "one digest a datagram"


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
    assert DigestMessage({ME: (1, 1)}) in lone.said_to(A), "show it"
    old = Delta(ME, 7, 0, 3, 0, (("k", 3, b"old"),))
    forged = replace(old, generation=9, proof=proven(old).proof)
    lone.hear(old, forged)
    assert lone.said_to(A) == []
    lone.hear(proven(old))
    delta = next(m for m in lone.said_to(A) if isinstance(m, Delta))
    assert (delta.share, delta.generation, delta.base) == (ME, 8, 0)
    assert delta.entries == (("k", 1, b"v"),)


def test_a_tombstone_is_remembered_for_its_time():
    lone = Lone(A)
    lone.engine.set_record("k", b"v", lone.now)
    lone.engine.set_record("k", None, lone.now)
    lone.wait(CONFIG.tombstone_s - 1)
    lone.hear(DigestMessage({ME: (1, 1)}))
    (delta,) = [m for m in lone.said_to(A) if isinstance(m, Delta)]
    assert delta.entries == (("k", 2, None),)


def test_what_changed_is_told_by_its_place():
    lone = Lone(A)
    lone.events()
    lone.engine.set_record("mine", b"1", lone.now)
    assert lone.events() == [RecordsChanged(frozenset({(ME, "mine")}))]
    lone.hear(proven(Delta(A, 1, 0, 2, 0, (("k", 1, b"x"), ("gone", 2, None)))))
    assert lone.events() == [RecordsChanged(frozenset({(A, "k")}))]
    assert lone.engine.record(A, "k") == b"x"
    assert lone.engine.told("k") == {A: b"x"}
    lone.hear(left(A, 1))
    assert lone.engine.told("k") == {}
    assert lone.engine.record(A, "k") == b"x"
    lone.wait(CONFIG.forget_left_s + 1)
    assert RecordsChanged(frozenset({(A, "k")})) in lone.events()
    assert lone.engine.record(A, "k") is None


def test_a_malformed_record_is_shown_to_nobody_until_its_owner_repairs_it():
    lone = Lone(A, accepts=lambda _, value: value != b"bad")
    lone.events()
    first = (("k", 1, b"bad"), ("j", 2, b"good"))
    lone.hear(proven(Delta(A, 1, 0, 2, 0, first)))
    assert lone.engine.records() == {(A, "j"): b"good"}
    assert lone.engine.record(A, "k") is None
    assert Refused(AT[A], "malformed record") in lone.events()
    lone.hear(proven(Delta(A, 1, 2, 4, 0, (("l", 3, b"bad"), ("k", 4, None))), first))
    assert lone.engine.dropped["malformed record"] == 2
    assert lone.engine.records() == {(A, "j"): b"good"}
    assert Refused(AT[A], "malformed record") not in lone.events(), "named once"
    lone.hear(proven(Delta(A, 1, 4, 5, 0, (("l", 5, b"fine"),)), first[1:]))
    assert lone.engine.records() == {(A, "j"): b"good", (A, "l"): b"fine"}


# ---- streams ----


def test_nothing_out_of_turn_is_taken_from_a_stream():
    lone = Lone(A)
    delta = Delta(A, 1, 0, 1, 0, (("k", 1, b"v"),))
    told = row(B, AT[B], 1, State.ALIVE)
    for frame in (
        [delta],
        [Sync(A, (), {})],
        [DIFFERENT, delta],
        [DIFFERENT, Sync(A, (told,), {})],
        [DIFFERENT, DIFFERENT],
        [End(more=False)],
        [DIFFERENT, End(more=False), delta],
        [DIFFERENT, Ping(7, ME)],
    ):
        with pytest.raises(WireError, match="unexpected message on a stream"):
            lone.engine.accept_stream(AT[A]).receive_frame(packet(*frame), lone.now)
    for frame in (
        [Sync(A, (told,), {})],
        [DIFFERENT, delta],
        [DIFFERENT, Sync(A, (told,), {}), Sync(B, (), {})],
    ):
        opened = lone.engine.open_stream(AT[A])
        opened.begin(lone.now)
        with pytest.raises(WireError, match="unexpected message on a stream"):
            opened.receive_frame(packet(*frame), lone.now)
    assert lone.engine.records() == {}
    assert B not in lone.engine.members()


def test_of_what_a_stream_names_no_more_is_held_than_there_are_members():
    lone = Lone(A, B)
    exchange = lone.engine.accept_stream(AT[A])
    exchange.receive_frame(packet(DIFFERENT, End(more=False)), lone.now)
    late = row(C, AT[C], 1, State.ALIVE)
    for frame in range(20):
        names = {f"nobody{frame}.{number}": (1, 1) for number in range(100)}
        exchange.receive_frame(
            packet(Sync(A, (late,), {C: (1, 2), f"{C} n": (1, 1), **names})), lone.now
        )
    assert exchange._digest == {C: (1, 2)}, "also whom the same frame brought"


def test_a_turn_on_a_stream_has_an_end_and_says_that_there_is_more():
    """What one member says goes whole: a part of it would prove nothing."""
    lone = Lone(A, B, C, config=replace(CONFIG, turn_bytes=130_000))
    entries = tuple((f"k{i}", i + 1, b"x" * 20_000) for i in range(5))
    for each in (B, C):
        lone.engine._entropy.heard_delta(
            proven(Delta(each, 1, 0, 5, 0, entries)), AT[each], lone.now
        )
    for key, _, value in entries:
        lone.engine.set_record(key, value, lone.now)
    exchange = lone.engine.accept_stream(AT[A])
    exchange.receive_frame(packet(DIFFERENT, End(more=False)), lone.now)
    told = row(A, AT[A], 1, State.ALIVE)
    said = packet(Sync(A, (told,), dict.fromkeys((B, C, ME), (0, 0))), End(more=False))
    frames = exchange.receive_frame(said, lone.now)
    assert 200_000 < sum(map(len, frames)) < 203_000, "two of the three"
    assert max(map(len, frames)) <= CONFIG.frame_bytes
    assert RING.open(frames[-1], "us")[-1] == End(more=True)
    opened = lone.engine.open_stream(AT[A])
    opened.begin(lone.now)
    opened.receive_frame(packet(DIFFERENT, Sync(A, (), {}), End(more=False)), lone.now)
    assert not opened.done
    opened.receive_frame(packet(End(more=True)), lone.now)
    assert opened.done
    assert not lone.engine.synced
    assert lone.engine.streams_to_open() == [AT[A]]
