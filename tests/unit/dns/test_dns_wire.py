"""Replies as bytes: sizes, EDNS, truncation; and that no packet whatsoever is a fault."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from dnslib import EDNS0, DNSError, DNSRecord, EDNSOption
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshnet.errors import WireError
from meshnet.model.ids import NetworkId
from meshnet_dns import wire
from meshnet_dns.mmsg import SEND_SIZE
from meshnet_dns.views import View
from meshnet_dns.zone import Zone

NET = NetworkId("net")
MANY = tuple(IPv4Address("10.0.0.1") + i for i in range(200))
ZONE = Zone(
    "net",
    IPv4Network("10.0.0.0/16"),
    {"web": MANY[:1], "rr": MANY},
    {MANY[0]: "web.net"},
)


def view() -> View:
    made = View((NET,))
    made.refresh({NET: ZONE})
    return made


def query(name: str, kind: str = "A", *, size: int | None = None, **edns: object) -> bytes:
    asked = DNSRecord.question(name, kind)
    asked.header.id = 0x1234
    if size is not None:
        asked.add_ar(EDNS0(udp_len=size, **edns))
    return bytes(asked.pack())


def opts(reply: DNSRecord) -> list[Any]:
    return [extra for extra in reply.ar if extra.rtype == 41]


@pytest.mark.parametrize(
    ("size", "limit"), [(None, 512), (0, 512), (512, 512), (800, 800), (1232, 1232), (4096, 1232)]
)
def test_a_big_answer_by_udp_is_cut_between_records(size, limit):
    packet = view().datagram(query("rr", size=size))
    assert limit - 16 < len(packet) <= limit
    reply = DNSRecord.parse(packet)
    assert reply.header.tc == 1
    assert reply.header.a == len(reply.rr) > 0
    assert len(opts(reply)) == (size is not None)


def test_by_tcp_it_is_whole():
    reply = DNSRecord.parse(view().message(query("rr")))
    assert reply.header.tc == 0
    assert {str(record.rdata) for record in reply.rr} == {str(address) for address in MANY}


def test_who_ignores_truncation_sees_all_addresses_in_turn():
    through = view()
    seen = set()
    packet = query("rr")
    through.datagram(packet)
    make = through.turning(packet[2:])
    assert make is not None
    for _ in MANY:
        seen |= {str(record.rdata) for record in DNSRecord.parse(make()).rr}
    assert seen == {str(address) for address in MANY}


def test_edns_is_answered_with_edns_and_its_options_are_not_echoed():
    cookie = query("web", size=1232, opts=[EDNSOption(10, b"12345678"), EDNSOption(65001, b"?")])
    through = view()
    reply = DNSRecord.parse(through.datagram(cookie))
    [opt] = opts(reply)
    assert opt.rdata == []
    assert str(reply.rr[0].rdata) == "10.0.0.1"
    assert through.fixed(cookie[2:]) is None, "the next cookie is another one"
    assert not opts(DNSRecord.parse(through.datagram(query("web")))), "nor without EDNS"


def test_the_do_bit_is_repeated_and_another_edns_version_refused():
    [opt] = opts(DNSRecord.parse(view().datagram(query("web", size=1232, flags="do"))))
    assert opt.ttl & 0x8000
    reply = DNSRecord.parse(view().datagram(query("web", size=1232, version=1)))
    [opt] = opts(reply)
    assert (opt.ttl >> 24, reply.header.rcode) == (1, 0), "BADVERS is 16"
    assert not reply.rr


def test_id_and_rd_are_the_queries():
    packet = bytearray(query("web"))
    for flag in (0x00, 0x01):
        packet[2] = flag
        reply = view().datagram(bytes(packet))
        assert reply[:2] == packet[:2]
        assert reply[2] & 1 == flag


@pytest.mark.parametrize(
    ("packet", "rcode"),
    [
        (query("web")[:12], 1),
        (query("web")[:-1], 1),
        (query("web")[:4] + b"\0\2" + query("web")[6:], 1),
        (query("web")[:4] + b"\0\0" + query("web")[6:], 1),
        (query("web")[:2] + b"\x28\0" + query("web")[4:], 4),
        (query("web")[:12] + b"\xc0\x0c\0\1\0\1", 1),
    ],
    ids=["no question", "cut", "two questions", "none", "update", "a pointer to itself"],
)
def test_malformed_queries_get_a_result_code(packet, rcode):
    reply = view().datagram(packet)
    assert reply[:2] == packet[:2]
    assert reply[2] & 0x80
    assert reply[3] & 15 == rcode
    assert reply[4:] == bytes(8), "nothing that could not be read is sent back"


def test_responses_and_crumbs_are_never_answered():
    for packet in (b"", query("web")[:11], query("web")[:2] + b"\x80\0" + query("web")[4:]):
        with pytest.raises(WireError):
            view().datagram(packet)


def test_an_endless_name_does_not_make_an_endless_reply():
    packet = query("web")[:12] + b"\x01a" * 1000 + b"\0\0\1\0\1"
    assert len(view().datagram(packet)) <= SEND_SIZE


def test_a_query_that_is_cut_anywhere_is_malformed():
    whole = query("a.web", size=1232)
    for end in range(12, len(whole)):
        reply = view().datagram(whole[:end])
        assert reply[3] & 15 == 1, end
        assert len(reply) == 12, end


def test_a_response_that_is_cut_anywhere_has_no_question():
    whole = query("a.web")
    assert wire.question_of(whole) == whole[12:]
    for end in range(12, len(whole)):
        assert wire.question_of(whole[:end]) == b"", end


def no_fault(packet: bytes) -> None:
    through = view()
    for handle, limit in ((through.datagram, SEND_SIZE), (through.message, wire.TCP)):
        try:
            reply = handle(packet)
        except WireError:
            continue
        assert len(reply) <= limit
        if reply:
            assert reply[:2] == packet[:2]
            assert reply[2] & 0x80
            readable(reply)


def readable(reply: bytes) -> None:
    try:
        DNSRecord.parse(reply)
    except DNSError as error:
        assert "Invalid label" in str(error)  # noqa: PT017 - dnslib takes UTF-8 only


@settings(max_examples=300)
@given(st.binary(max_size=300))
@example(query("web")[:12] + b"\x01a" * 127 + b"\0\0\1\0\1")
@example(query("web")[:12] + b"\x03\xff\xe9\x2e\0\0\1\0\1")
def test_no_bytes_are_a_fault(packet):
    no_fault(packet)


@settings(max_examples=300)
@given(
    st.sampled_from([query("web"), query("rr", size=900), query("1.0.0.10.in-addr.arpa", "PTR")]),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=6),
    st.binary(max_size=12),
)
def test_no_damaged_query_is_a_fault(packet, damage, more):
    damaged = bytearray(packet)
    for at, byte in damage:
        damaged[at % len(damaged)] = byte
    no_fault(bytes(damaged) + more)


def test_no_random_datagram_is_a_fault():
    dice = random.Random(7)
    for _ in range(3000):
        packet = bytearray(query("web", size=1232))
        for _ in range(dice.randrange(1, 8)):
            packet[dice.randrange(2, len(packet))] = dice.choice((0, 1, 12, 63, 64, 192, 255))
        no_fault(bytes(packet[: dice.randrange(12, len(packet) + 1)]))


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_only_the_answer_to_the_question_is_one(response, asked):
    if wire.answers(response, asked):
        assert response[:2] == asked[:2]
        assert response[2] & 0x80


def test_an_answer_must_match_id_and_question():
    asked = query("example.org")
    good = bytes(DNSRecord.parse(asked).reply().pack())
    assert wire.answers(good, asked)
    assert not wire.answers(b"\0\0" + good[2:], asked)
    assert not wire.answers(bytes(DNSRecord.parse(query("example.net")).reply().pack()), asked)
    assert not wire.answers(asked, asked), "a query"


@pytest.mark.parametrize(
    ("bits", "counts"),
    [
        pytest.param(b"\x81\x81", True, id="FORMERR"),
        pytest.param(b"\x81\x82", True, id="SERVFAIL"),
        pytest.param(b"\x83\x80", True, id="truncated"),
        pytest.param(b"\x81\x80", False, id="NOERROR"),
        pytest.param(b"\x81\x83", False, id="NXDOMAIN"),
    ],
)
def test_without_a_question_only_what_has_no_data_is_an_answer(bits, counts):
    asked = query("example.org")
    bare = asked[:2] + bits + bytes(8)
    assert wire.answers(bare, asked) is counts
    assert not wire.answers(bare[:-1] + b"\1", asked), "with a record"
    passed_on = DNSRecord.parse(wire.with_question(bare, asked))
    assert passed_on.q == DNSRecord.parse(asked).q
    assert wire.with_question(bytes(passed_on.pack()), asked) == passed_on.pack()


def counted(packet: bytes, *, others: int) -> bytes:
    """``packet`` with a count of records behind the question."""
    return packet[:10] + others.to_bytes(2) + packet[12:]


RECORD = b"\0\1\0\1" + bytes(4) + b"\0\0"
"""Type A, class IN, TTL 0, no data."""


@pytest.mark.parametrize(
    "name",
    [b"\xc0\x0c", b"\xc0\x1a", b"\xff\xff", b"\1a\xc0\x0c", b"\x3f" + b"a" * 63 + b"\0"],
    ids=["the question", "itself", "nowhere", "after a label", "plain"],
)
def test_no_pointer_behind_the_question_is_followed(name):
    packet = counted(query("web"), others=1) + name + RECORD
    assert wire.parse(packet).question.name == "web"


def test_a_kind_of_label_that_does_not_exist_is_malformed():
    with pytest.raises(wire.RefusedQueryError):
        wire.parse(counted(query("web"), others=1) + b"\x40" + RECORD)


def test_records_are_at_most_what_the_packet_has_room_for():
    with pytest.raises(wire.RefusedQueryError):
        wire.parse(counted(query("web"), others=65535))
    with pytest.raises(wire.RefusedQueryError):
        wire.parse(counted(query("web"), others=1) + b"\0" + RECORD[:-1] + b"\1")
    with pytest.raises(wire.RefusedQueryError):
        wire.parse(counted(query("web"), others=1) + b"\x40" + RECORD)


def test_two_edns_records_are_malformed():
    packet = query("web", size=1232)
    assert wire.parse(packet).offered == 1232
    with pytest.raises(wire.RefusedQueryError):
        wire.parse(counted(packet, others=2) + packet[-11:])


def test_a_dot_within_a_label_is_not_one_between_labels():
    packet = query("web")[:12] + b"\x07web.net\0\0\1\0\1"
    assert view().datagram(packet) == b"", "not our web.net: forwarded"
    assert view().datagram(query("web.net"))


@given(
    st.lists(st.text("abcXYZ019-_", min_size=1, max_size=20), min_size=1, max_size=8),
    st.sampled_from(["A", "AAAA", "PTR", "MX", "ANY"]),
    st.one_of(st.none(), st.integers(0, 65535)),
)
def test_it_reads_what_dnslib_writes(labels, kind, size):
    name = ".".join(labels)
    read = wire.parse(query(name, kind, size=size))
    told = DNSRecord.parse(query(name, kind, size=size))
    assert read.question.name == name.lower()
    assert (read.question.type, read.question.cls) == (told.q.qtype, told.q.qclass)
    assert str(read.label) == f"{name}."
    assert read.offered == size
    assert not read.options


@settings(max_examples=300)
@given(st.binary(max_size=80), st.integers(0, 3), st.integers(0, 65535))
def test_no_bytes_behind_a_question_are_a_fault(more, others, answers):
    packet = bytearray(counted(query("web"), others=others) + more)
    packet[6:8] = answers.to_bytes(2)
    no_fault(bytes(packet))


@given(st.binary(min_size=12, max_size=200))
def test_no_upstreams_bytes_are_a_fault(response):
    asked = query("example.org")
    response = asked[:2] + response
    if wire.answers(response, asked):
        assert len(wire.with_question(response, asked)) >= len(asked) or not wire.question_of(asked)


@pytest.mark.parametrize("name", ["", "a..b", "a" * 64, "../../etc"])
def test_what_is_no_name_is_said_in_words_of_names(name):
    with pytest.raises(ValueError, match=r"is no name that can be asked: its labels have 1 to 63"):
        wire.asking(name, "A", 1)
