"""What goes to an upstream and what comes back of it: what changes and what must not."""

from __future__ import annotations

from typing import Any

import pytest
from dnslib import EDNS0, QTYPE, RR, A, DNSRecord, EDNSOption
from hypothesis import given
from hypothesis import strategies as st

from meshnet_dns import forwarded, wire

COOKIE = EDNSOption(10, b"12345678")


def query(name: str, kind: str = "A", *, number: int = 0x1234, **edns: Any) -> bytes:
    asked: Any = DNSRecord.question(name, kind)
    asked.header.id = number
    if edns:
        asked.add_ar(EDNS0(**edns))
    return bytes(asked.pack())


def reply(to: bytes, count: int = 1) -> bytes:
    asked: Any = DNSRecord.parse(to)
    said = asked.reply()
    for _ in range(count):
        said.add_answer(RR(asked.q.qname, QTYPE.A, ttl=5, rdata=A("192.0.2.7")))
    return bytes(said.pack())


def test_the_same_question_is_the_same_for_everybody():
    assert forwarded.key_of(query("a.test")) == forwarded.key_of(query("A.TEST", number=7))
    every = [
        query("a.test"),
        query("a.test", "AAAA"),
        query("b.test"),
        query("a.test", udp_len=1232),
        query("a.test", udp_len=512),
        query("a.test", udp_len=1232, flags="do"),
    ]
    assert len({forwarded.key_of(each) for each in every}) == len(every)


def test_types_are_no_letters():
    """65 (HTTPS) is an A, 97 an a."""
    https, other = (query("a.test")[:-4] + bytes([0, kind, 0, 1]) for kind in (65, 97))
    assert forwarded.key_of(https) != forwarded.key_of(other)
    assert not wire.answers(other[:2] + b"\x81\x80" + other[4:], https)


def test_a_question_with_a_cookie_is_nobody_elses():
    assert forwarded.key_of(query("a.test", udp_len=1232, opts=[COOKIE])) is None
    assert forwarded.key_of(query("a.test") + b"\0") is None
    assert forwarded.key_of(query("a.test")[:20]) is None


@pytest.mark.parametrize("options", [[], [COOKIE]])
def test_what_is_sent_offers_no_more_than_fits_one_packet(options):
    sent = DNSRecord.parse(
        forwarded.sent(query("A.test", udp_len=4096, flags="do", opts=options), b"\7\7")
    )
    assert (sent.header.id, str(sent.q.qname)) == (0x0707, "A.test.")
    [opt] = sent.ar
    assert (opt.edns_len, opt.edns_do, len(opt.rdata)) == (wire.UDP_EDNS, 1, len(options))
    small = query("a.test", udp_len=900)
    assert forwarded.sent(small, b"\7\7") == b"\7\7" + small[2:]
    plain = query("a.test")
    assert forwarded.sent(plain, b"\7\7") == b"\7\7" + plain[2:]


def test_letters_and_id_come_back_as_they_were_sent():
    said = DNSRecord.parse(
        forwarded.returned(reply(query("a.test")), query("A.tEsT", number=9), tcp=False)
    )
    assert (said.header.id, str(said.q.qname), str(said.rr[0].rname)) == (9, "A.tEsT.", "A.tEsT.")


@pytest.mark.parametrize(
    ("edns", "tcp", "count", "cut"),
    [
        ({}, False, 40, True),
        ({"udp_len": 1232}, False, 40, False),
        ({"udp_len": 65535}, False, 80, True),
        ({}, True, 80, False),
    ],
)
def test_what_a_client_cannot_take_is_cut(edns, tcp, count, cut):
    asked = query("a.test", **edns)
    said = forwarded.returned(reply(query("A.test"), count), asked, tcp=tcp)
    assert DNSRecord.parse(said).header.tc == cut
    assert len(said) > 512 or cut
    assert wire.answers(said, asked)


@given(st.binary(min_size=12, max_size=100), st.binary(min_size=12, max_size=1300))
def test_no_packet_whatsoever_is_a_fault(asked, said):
    forwarded.key_of(asked)
    assert len(forwarded.sent(asked, b"\1\2")) == len(asked)
    assert forwarded.returned(said, asked, tcp=False)[:2] == asked[:2]


@given(st.binary(max_size=80))
def test_only_the_id_and_the_size_change(more):
    asked = query("a.test") + more
    sent = forwarded.sent(asked, asked[:2])
    differ = [at for at, (one, other) in enumerate(zip(asked, sent, strict=True)) if one != other]
    size_at = len(query("a.test")) + 3
    assert set(differ) <= {size_at, size_at + 1}
