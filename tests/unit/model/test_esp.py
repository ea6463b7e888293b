"""Keys of encrypted overlays, whatever nodes, lives and rings there are."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meshnet.model.esp import SALT_BYTES, derived, directions, inside, port_of
from meshnet.model.ids import NodeId
from meshnet.model.snapshot import Node

KEYS = st.binary(min_size=16, max_size=16)
SALTS = st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES)
A = Node(NodeId("a"), "a", IPv4Address("192.0.2.1"), salt=b"a" * 16)
B = Node(NodeId("b"), "b", IPv4Address("192.0.2.2"), salt=b"b" * 16)
OLD, NEW = b"1" * 16, b"2" * 16
ROTATION = ((OLD,), (OLD, NEW), (NEW, OLD), (NEW,))
"""Rings in the order in which they follow each other (``meshnet_control.cluster.gossip_ring``)."""


@given(KEYS, SALTS, SALTS)
def test_both_ends_come_to_the_same_and_neither_way_to_the_others(key, one, other):
    a, b = replace(A, salt=one), replace(B, salt=other)
    of_a, of_b = set(directions((key,), a, b)), set(directions((key,), b, a))
    assert of_a == of_b
    assert len({secret for *_, secret in of_a}) == len({spi for *_, spi, _ in of_a}) == 2


@given(st.lists(st.tuples(KEYS, SALTS, SALTS), min_size=2, max_size=6, unique=True))
def test_another_key_of_the_ring_or_another_life_of_either_is_another_key(lives):
    found = [
        derived(key, *ends)
        for key, one, other in lives
        for a, b in [(replace(A, salt=one), replace(B, salt=other))]
        for ends in ((a, b), (b, a))
    ]
    assert len({secret for _, secret in found}) == len(found)
    assert all(256 <= spi < 1 << 32 and len(secret) == 20 for spi, secret in found)


def test_a_host_that_has_booted_neither_sends_nor_hears_by_a_key_of_before():
    again = b"c" * SALT_BYTES
    before = derived(OLD, A, B)
    assert derived(OLD, replace(A, salt=again), B) != before
    assert derived(OLD, A, replace(B, salt=again)) != before


def test_ids_do_not_run_into_each_other():
    one = derived(OLD, replace(A, id=NodeId("xy")), replace(B, id=NodeId("z")))
    assert one != derived(OLD, replace(A, id=NodeId("x")), replace(B, id=NodeId("yz")))


def test_at_each_moment_of_a_rotation_what_anybody_sends_everybody_opens():
    """Rings that are used at one moment are neighbours; each node changes at its own time."""
    for before, after in pairwise(ROTATION):
        for of_a in (before, after):
            for of_b in (before, after):
                a, b = set(directions(of_a, A, B)), set(directions(of_b, B, A))
                assert {each for each in a if each[0] == A.vtep} <= b
                assert {each for each in b if each[0] == B.vtep} <= a


def test_who_sends_has_one_key_to_do_it_with():
    for ring in ROTATION:
        out = [each for each in directions(ring, A, B) if each[0] == A.vtep]
        assert [(spi, key) for _, _, spi, key in out] == [derived(ring[0], A, B)]


@given(st.integers(576, 65535))
def test_what_is_inside_fits_and_four_bytes_more_do_not(outer):
    def wrapped(size: int) -> int:
        """RFC 4303: what is encrypted is padded to four bytes, two of the trailer included."""
        udp_vxlan_ethernet = 8 + 8 + 14
        sealed = -(-(size + udp_vxlan_ethernet + 2) // 4) * 4
        return 20 + 8 + 8 + sealed + 16

    assert wrapped(inside(outer)) <= outer < wrapped(inside(outer) + 4)
    assert inside(1500) == 1416


def test_the_port_is_beside_that_of_the_others_and_is_not_gossips():
    assert port_of(4789) == 4790
    assert port_of(7945) == 7947
    assert port_of(65535) == 65534
