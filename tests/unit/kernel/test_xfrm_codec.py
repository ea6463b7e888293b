"""XFRM's messages: what is written is what is read, and garbage is an error of its own."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import WireError
from meshnet.kernel import xfrm_codec
from meshnet.netstate.esp import Association, Life, Policy

ADDRESSES = st.integers(1 << 24, (1 << 32) - 1).map(IPv4Address)
ASSOCIATIONS = st.builds(
    Association,
    ADDRESSES,
    ADDRESSES,
    st.integers(256, (1 << 32) - 1),
    st.just(b"k" * 20),
    st.integers(1, 65535),
)
POLICIES = st.builds(Policy, st.sampled_from(["in", "out"]), ADDRESSES, st.integers(1, 65535))


@given(ASSOCIATIONS)
def test_an_association_comes_back(each):
    body = xfrm_codec.add(each).body
    assert xfrm_codec.association_of(body) == each
    assert xfrm_codec.life_of(body) is None


@given(st.binary(min_size=16, max_size=16), st.integers(0, (1 << 63) - 1))
def test_a_life_comes_back_and_is_no_association(salt, digest):
    body = xfrm_codec.begin(Life(salt, digest), b"k" * 20).body
    assert xfrm_codec.life_of(body) == Life(salt, digest)
    assert xfrm_codec.association_of(body) is None


@given(POLICIES, st.integers(0, 1 << 30))
def test_a_policy_comes_back_with_the_number_that_the_kernel_gave_it(policy, index):
    body = bytearray(xfrm_codec.add_policy(policy).body)
    at = xfrm_codec.POLICY_BYTES - 12
    body[at : at + 4] = index.to_bytes(4, "little")
    assert xfrm_codec.policy_of(bytes(body)) == policy


@given(POLICIES, st.integers(0, 55), st.integers(1, 255))
def test_a_policy_that_selects_otherwise_is_not_that_policy(policy, at, by):
    body = bytearray(xfrm_codec.add_policy(policy).body)
    body[at] ^= by
    assert xfrm_codec.policy_of(bytes(body)) != policy


def test_a_policy_that_blocks_or_lets_through_is_another():
    policy = Policy("out", IPv4Address("192.0.2.1"), 4790)
    whole = xfrm_codec.add_policy(policy).body
    blocks = bytearray(whole)
    blocks[xfrm_codec.POLICY_BYTES - 7] = 1
    assert xfrm_codec.policy_of(bytes(blocks)) is None, "action"
    assert xfrm_codec.policy_of(whole[: xfrm_codec.POLICY_BYTES]) is None, "no template"


def test_what_others_made_is_none_of_ours():
    added, _ = xfrm_codec.trial(b"k" * 20)
    assert xfrm_codec.association_of(added.body) is None
    larval = Association(IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"), 0, b"k" * 20, 1)
    assert xfrm_codec.association_of(xfrm_codec.add(larval).body) is None
    assert xfrm_codec.association_of(xfrm_codec.add(replace(larval, spi=300)).body) is not None


@given(st.binary(max_size=300))
def test_garbage_is_a_wire_error_or_nothing_of_ours(data):
    for read in (xfrm_codec.association_of, xfrm_codec.life_of, xfrm_codec.policy_of):
        try:
            read(data)
        except WireError:
            assert len(data) < xfrm_codec.SA_BYTES
    with pytest.raises(WireError):
        xfrm_codec.association_of(b"")
