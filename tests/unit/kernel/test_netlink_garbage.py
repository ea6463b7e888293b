"""Netlink's bytes that are cut off or no messages at all: a typed error or a value, and an end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import WireError
from meshnet.kernel import decode, encode, nlmsg
from meshnet.kernel.rtnetlink import Rtm
from meshnet.model.ids import MacAddress
from meshnet.netstate.objects import Route, Rule, Vxlan

BYTE = st.integers(0, 255)

DECODERS: list[Callable[[bytes], object]] = [
    decode.link,
    decode.address,
    decode.route,
    decode.rule,
    decode.neighbour,
]
BODIES = [
    encode.new_vxlan("vx0", Vxlan(4097, IPv4Address("192.0.2.1")), 1450, 3).body,
    encode.new_address(3, IPv4Interface("10.0.0.1/24")).body,
    encode.new_route(Route(300, IPv4Network("10.1.0.0/16"), IPv4Address("10.0.0.9"), 3, 77)).body,
    encode.new_rule(Rule(1, 3, 100, 100)).body,
    encode.new_neighbour(3, IPv4Address("10.0.0.2"), MacAddress("02:42:0a:00:00:02")).body,
]


@given(st.sampled_from(DECODERS), st.binary(max_size=200))
def test_garbage_is_a_typed_error_or_a_value(reads, garbage):
    try:
        reads(garbage)
    except WireError as error:
        assert str(error).startswith("from the kernel: ")  # noqa: PT017 - most garbage is read


@given(st.integers(0, len(BODIES) - 1), st.data())
def test_a_body_that_was_cut_or_flipped_is_a_typed_error_or_a_value(which, data):
    body = bytearray(BODIES[which][: data.draw(st.integers(0, len(BODIES[which])))])
    for _ in range(data.draw(st.integers(0, 4)) if body else 0):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(BYTE)
    with suppress(WireError):
        DECODERS[which](bytes(body))


def test_half_a_message_is_no_smaller_truth():
    for reads, body in zip(DECODERS, BODIES, strict=True):
        with pytest.raises(WireError, match="cut off"):
            reads(body[:-4])


def test_a_name_that_is_no_utf8_is_kept():
    name = b"eth\xff".decode(errors="surrogateescape")
    assert decode.link(encode.new_bridge(name, 1500).body).name == name


@given(st.lists(st.tuples(BYTE, BYTE, BYTE, st.binary(max_size=20))))
def test_messages_come_back_as_they_were_framed(sent):
    framed = b"".join(nlmsg.message(*one) for one in sent)
    assert list(nlmsg.messages(framed)) == sent


@given(st.binary(max_size=100))
def test_garbage_in_a_datagram_ends(garbage):
    with suppress(WireError):
        assert len(list(nlmsg.messages(garbage))) <= len(garbage) // nlmsg.HEADER.size


@pytest.mark.parametrize("length", [0, 15, 21, 2**32 - 1])
def test_a_message_of_a_length_that_cannot_be_is_refused(length):
    data = nlmsg.HEADER.pack(length, Rtm.NEWLINK, 0, 1, 0) + bytes(4)
    with pytest.raises(WireError):
        list(nlmsg.messages(data))
