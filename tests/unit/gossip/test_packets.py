"""What is sent fits into a datagram that the path takes, whatever is to be said."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lone_node import CONFIG, RING, A, B, Lone, alive

from meshnet.gossip.messages import Buckets, DigestMessage
from meshnet.gossip.sums import BUCKETS
from meshnet.gossip.table import ENTRY_BYTES, Delta
from meshnet.model.ids import NodeId

MANY = [NodeId(f"{number:064d}") for number in range(150)]


def crowd(mtu: int) -> Lone:
    """A node that knows many with the longest ids."""
    lone = Lone(A, B, config=CONFIG.through(mtu))
    lone.let_in(*MANY)
    for number, member in enumerate(MANY):
        lone.hear(alive(member, (f"10.1.0.{number + 1}", 7946), 1))
    lone.said()
    return lone


@pytest.mark.parametrize("mtu", [576, 1280, 1420, 9000])
@settings(max_examples=20)
@given(
    values=st.lists(st.binary(max_size=1600), min_size=1, max_size=8),
    digests=st.lists(st.sets(st.sampled_from(MANY)), max_size=3),
)
def test_no_packet_is_larger_than_the_path_takes(
    mtu: int, values: list[bytes], digests: list[set[NodeId]]
) -> None:
    lone = crowd(mtu)
    lone.wait(0.2)
    for number, value in enumerate(values):
        lone.engine.set_record(f"{number:0128d}", value, lone.now)
    lone.hear(Buckets([1] * BUCKETS))
    lone.hear(DigestMessage({lone.engine.self_id: (0, 0)}))
    for digest in digests:  # asks for several at once
        for owner in digest:
            lone.hear(Delta(owner, 1, 1, 2, 0, (("k", 2, b"x"),)))
    sent = [packet for packet, _ in lone.engine.datagrams_to_send(lone.now)]
    assert max(map(len, sent)) + 28 <= min(mtu, 1228)
    for packet in sent:
        asked = [m for m in RING.open(packet, "us") if isinstance(m, DigestMessage)]
        assert len(asked) < 2
    room = min(mtu, 1228) - 28 - 230 - 128 - ENTRY_BYTES
    fits = max(map(len, values)) <= room and len(values) <= CONFIG.burst_packets // 2
    told = {
        key
        for packet in sent
        for m in RING.open(packet, "us")
        if isinstance(m, Delta)
        for key, _, _ in m.entries
    }
    assert not fits or told == {f"{n:0128d}" for n in range(len(values))}, "what fits is sent"
