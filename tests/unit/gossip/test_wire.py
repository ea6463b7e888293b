"""What is sealed with our key and well formed comes in as typed values, nothing else does."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshnet.errors import WireError
from meshnet.gossip.members import State, Word
from meshnet.gossip.messages import (
    NUMBER_MAX,
    Ack,
    Applied,
    Ask,
    Buckets,
    Dead,
    DigestMessage,
    End,
    Hello,
    Message,
    Nack,
    Ping,
    PingReq,
    RelayedAck,
    Row,
    Summary,
    Suspect,
    Sync,
    fields,
)
from meshnet.gossip.parsing import parse
from meshnet.gossip.records import DIGEST_BYTES, PROOF_BYTES, VALUE_BYTES, Delta, Proof
from meshnet.gossip.signing import SIGNATURE_BYTES
from meshnet.gossip.sums import BUCKETS
from meshnet.gossip.wire import MESSAGES, OVERHEAD, VERSION, KeyRing, encode
from meshnet.model.ids import NodeId

A, B = NodeId("a"), NodeId("b")
HERE = ("10.0.0.1", 7946)
OLD, NEW = b"1" * 16, b"2" * 16
NONCE = b"n" * 12
HAND = b"s" * SIGNATURE_BYTES

SAID: list[Message] = [
    Ping(0, A),
    PingReq(7, A, HERE),
    Ack(7),
    RelayedAck((1 << 32) - 1),
    Nack(7),
    Word(A, HERE, NUMBER_MAX, State.ALIVE, HAND),
    Suspect(A, 1, B),
    Dead(A, 1, B),
    Word(A, HERE, 2, State.RESTARTING, HAND),
    Word(A, HERE, 1, State.LEFT, HAND),
    Summary(0, NUMBER_MAX),
    Buckets(tuple(range(BUCKETS))),
    Ask(A, (NUMBER_MAX, 0)),
    Applied(B, (0, NUMBER_MAX)),
    Hello(A, (0,) * BUCKETS, ((1 << 32) - 1,) * BUCKETS),
    Hello(A, (0,) * BUCKETS, (1,) * BUCKETS, ("n1", "n2"), (2,) * BUCKETS),
    DigestMessage({A: (5, 4), f"{A} n1": (5, 2)}),
    Delta(f"{A} n1", 5, 1, 4, 0, (("k", 2, b"v"),), Proof(b"d" * DIGEST_BYTES, HAND)),
    Ask(f"{A} n1", (1, 2)),
    DigestMessage({A: (1, 2), B: (0, 0)}),
    Delta(A, 5, 1, 4, 0, (("k", 2, b"v"), ("gone", 4, None))),
    Delta(A, 5, 1, 4, 0, (("k", 2, b"v"),), Proof(b"d" * DIGEST_BYTES, HAND)),
    Sync(
        A,
        (
            Row(Word(B, HERE, 3, State.RESTARTING, HAND), State.DEAD),
            Row(Word(A, HERE, 1, State.LEFT, HAND), State.LEFT, 77),
        ),
        {A: (1, 0)},
    ),
    End(more=True),
]


def _sealed(plain: object) -> bytes:
    """A packet of whatever a holder of the key packs."""
    said = [msgpack.packb(each) for each in plain] if isinstance(plain, list) else []
    return KeyRing((OLD,)).seal(said, NONCE)


@pytest.mark.parametrize("message", SAID, ids=lambda message: type(message).__name__)
def test_what_is_said_is_heard(message):
    ring = KeyRing((OLD,))
    assert ring.open(ring.seal([encode(message)], NONCE), "peer") == (message,)


def test_the_newest_key_seals_and_every_key_opens():
    old, both = KeyRing((OLD,)), KeyRing((NEW, OLD))
    packet = old.seal([encode(Ack(7))], NONCE)
    assert both.open(packet, "peer") == (Ack(7),)
    assert KeyRing((NEW,)).open(both.seal([encode(Ack(7))], NONCE), "peer") == (Ack(7),)
    with pytest.raises(WireError):
        old.open(both.seal([encode(Ack(7))], NONCE), "peer")
    with pytest.raises(WireError):
        both.open(packet[:-1] + bytes([packet[-1] ^ 1]), "peer")
    assert len(packet) == OVERHEAD + 1 + len(encode(Ack(7)))


def _but(message: Message, place: int, value: object) -> list[Any]:
    said = fields(message)
    said[place] = value
    return said


def _row(said: object, state: object) -> list[Any]:
    return ["b", "10.0.0.1", 7946, 1, said, HAND, state, 0]


BAD: list[tuple[object, str]] = [
    ([], "unknown message or wrong number of fields"),
    (7, "unknown message or wrong number of fields"),
    ([99], "unknown message or wrong number of fields"),
    ([3], "unknown message or wrong number of fields"),
    ([3, 7, 7], "unknown message or wrong number of fields"),
    ([True, 7, "a"], "message without a number"),
    ([3.0, 7], "message without a number"),
    ([14, 1], "unknown message or wrong number of fields"),
    ([15, b"x" * 255], "malformed sums"),
    ([17, "a", -1, 1], "number out of range"),
    ([18, "a", 1], "unknown message or wrong number of fields"),
    ([15, [1] * 256], "malformed sums"),
    ([16, "a", b"x" * 256, b"", b"x" * 256, []], "malformed sums"),
    ([16, "a", b"x" * 256, b"x" * 256, b"x" * 256, [""]], "malformed id"),
    ([16, "a", b"x" * 256, b"x" * 256, b"x" * 256, ["n"] * 1025], "malformed list of networks"),
    ([8, {"a ": [1, 1]}], "malformed id"),
    ([8, {"a n m": [1, 1]}], "malformed id"),
    ([17, " n", 1, 1], "malformed id"),
    ([3, True], "number out of range"),
    (_but(Ack(7), 1, -1), "number out of range"),
    (_but(Ack(7), 1, 1 << 32), "number out of range"),
    (_but(Ack(7), 1, 7.0), "number out of range"),
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 4, NUMBER_MAX + 1), "number out of range"),
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 3, 99999), "malformed port"),
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 3, 0), "malformed port"),
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 3, "7946"), "malformed port"),
    (_but(PingReq(1, A, HERE), 4, 99999), "malformed port"),
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 2, "localhost"), "malformed address"),
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 2, "example.org"), "malformed address"),
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 2, "::1"), "malformed address"),
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 2, "10.1"), "malformed address"),
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 2, "10.0.0.010"), "malformed address"),
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 2, 167772161), "malformed address"),
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 2, "0.0.0.0"), "malformed address"),  # noqa: S104
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 2, "224.0.0.1"), "malformed address"),
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 2, "255.255.255.255"), "malformed address"),
    (_but(Suspect(A, 1, B), 1, ""), "malformed id"),
    (_but(Suspect(A, 1, B), 1, "a b"), "malformed id"),
    (_but(Suspect(A, 1, B), 1, "a\n"), "malformed id"),
    (_but(Suspect(A, 1, B), 3, "x" * 65), "malformed id"),
    (_but(Suspect(A, 1, B), 1, b"a"), "malformed id"),
    (_but(Word(A, HERE, 1, State.ALIVE, HAND), 5, HAND + b"s"), "malformed signature"),
    (_but(Word(A, HERE, 1, State.LEFT, HAND), 5, "s" * SIGNATURE_BYTES), "malformed signature"),
    ([9, "a", 1, 0, 1, 0, [], b"s" * (PROOF_BYTES - 1)], "malformed signature"),
    ([9, "a", 1, 0, 1, 0, [], "s" * PROOF_BYTES], "malformed signature"),
    ([8, {"a": [1]}], "malformed digest"),
    ([8, {"a": [1, 2, 3]}], "malformed digest"),
    ([8, {"a": 5}], "malformed digest"),
    ([8, [["a", [1, 2]]]], "malformed digest"),
    ([8, {7: [1, 2]}], "malformed id"),
    ([8, {f"n{i}": [1, 2] for i in range(513)}], "malformed digest"),
    ([9, "a", 1, 0, 1, 0, 5, None], "malformed delta"),
    ([9, "a", 1, 0, 1, 0, [["k", 1]], None], "malformed delta"),
    ([9, "a", 1, 0, 1, 0, [["k", 1, "text"]], None], "malformed delta"),
    ([9, "a", 1, 0, 1, 0, [["k", 2, b""]], None], "malformed delta"),
    ([9, "a", 1, 1, 2, 0, [["k", 1, b""]], None], "malformed delta"),
    ([9, "a", 1, 0, 2, 0, [["k", 2, b""], ["j", 1, b""]], None], "malformed delta"),
    ([9, "a", 1, 2, 1, 0, [], None], "malformed delta"),
    ([9, "a", 1, 0, 1, 0, [["k", 1, b"x" * (VALUE_BYTES + 1)]], None], "malformed delta"),
    ([9, "a", 1, 0, 1, 0, [["", 1, b""]], None], "malformed record key"),
    ([9, "a", 1, 0, 1, 0, [["k" * 129, 1, b""]], None], "malformed record key"),
    ([10, "a", [["b", "10.0.0.1", 7946, 1]], {}], "malformed member list"),
    ([10, "a", [_row("alive", "undead")], {}], "unknown state of a member"),
    ([10, "a", [_row("alive", 2)], {}], "unknown state of a member"),
    ([10, "a", [_row("dead", "dead")], {}], "unknown state of a member"),
    ([10, "a", [_row([], "dead")], {}], "unknown state of a member"),
    ([10, "a", {}, {}], "malformed member list"),
    ([10, "a", [["b", "10.0.0.1", 70000, 1, "alive", HAND, "alive", 0]], {}], "malformed port"),
]


@pytest.mark.parametrize(("said", "why"), BAD, ids=[f"{why} {i}" for i, (_, why) in enumerate(BAD)])
def test_what_is_malformed_is_refused_by_reason(said, why):
    with pytest.raises(WireError) as refused:
        parse(said, "10.0.0.9")
    assert (refused.value.peer, refused.value.why) == ("10.0.0.9", why)


def test_one_bad_message_refuses_the_whole_packet():
    with pytest.raises(WireError, match="malformed port"):
        KeyRing((OLD,)).open(_sealed([[3, 7], [5, "a", "10.0.0.1", 99999, 1, HAND]]), "peer")


@given(st.binary(max_size=200))
def test_garbage_is_a_wire_error_and_nothing_else(garbage):
    with pytest.raises(WireError):
        KeyRing((OLD,)).open(garbage, "peer")


Anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=7)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=12,
)
Told = st.integers(0, 20).flatmap(
    lambda kind: st.lists(Anything, max_size=8).map(lambda rest: [kind, *rest])
)


@given(st.lists(Told | Anything, max_size=4))
@example([[8, {"a": [1]}]])
@example([[5, "a", "10.0.0.1", 99999, 1, HAND]])
@example([[9, "a", 0, 0, 0, 0, [[]]]])
@example([[] for _ in range(MESSAGES + 1)])
@example([{"a": {}}])
def test_nonsense_from_a_key_holder_is_messages_or_a_wire_error(said):
    try:
        heard = KeyRing((OLD,)).open(_sealed(said), "peer")
    except WireError:
        return
    assert [encode(message) for message in heard] == [
        msgpack.packb(fields(message)) for message in heard
    ]


@given(st.binary(max_size=60))
@example(b"\x81\x90\x01")  # a list as the key of a map
@example(b"\xdf\xff\xff\xff\xff")  # a map of four billion
@example(b"\x91" * 3000)  # deeper than any stack
def test_any_plain_text_is_messages_or_a_wire_error(plain):
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    packet = bytes((VERSION,)) + NONCE + AESGCM(OLD).encrypt(NONCE, plain, None)
    with contextlib.suppress(WireError):
        KeyRing((OLD,)).open(packet, "peer")
