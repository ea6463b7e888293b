"""Which packets come uncut to another namespace, as ``meshnet doctor`` asks."""

from __future__ import annotations

import pytest

from meshnet.kernel import echo, netns

pytestmark = pytest.mark.netns


def test_what_is_larger_than_the_way_takes_is_not_answered(bed):
    near, far = bed.namespace("near"), bed.namespace("far")
    bed.veth(near, "eth0", far, "eth0")
    bed.run(f"ip -n {near} addr add 10.9.9.1/24 dev eth0")
    bed.run(f"ip -n {far} addr add 10.9.9.2/24 dev eth0")
    bed.run(f"ip -n {far} link set eth0 mtu 1400")
    wide = bed.namespace("wide")
    bed.veth(near, "eth1", wide, "eth0")
    bed.run(f"ip -n {near} addr add 10.9.8.1/24 dev eth1")
    bed.run(f"ip -n {wide} addr add 10.9.8.2/24 dev eth0")
    gone, small, fits, cut, own = (
        ("10.9.9.3", 84), ("10.9.9.2", 84), ("10.9.9.2", 1400), ("10.9.9.2", 1450),
        ("10.9.8.2", 1501),
    )  # fmt: skip
    with netns.inside(bed.path(near)):
        heard = echo.heard([gone, small, fits, cut, own], 1.0)
    assert heard == {gone: False, small: True, fits: True, cut: False, own: False}


def test_an_echo_is_what_rfc_792_says():
    packet = echo.request(b"12345678", 84)
    assert len(packet) == 84 - 20
    assert (packet[0], echo.checksum(packet)) == (8, 0), "a checksum over itself is 0"
    header = bytes([0x45, *[0] * 19])
    assert echo.token_of(header + b"\0" + packet[1:]) == b"12345678"
    assert echo.token_of(header + packet) == b"", "a request, not a reply"
    assert echo.token_of(b"") == b""
