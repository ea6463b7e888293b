"""How long an upstream's answer is kept, and that nobody's questions take another's room."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from dnslib import EDNS0, RR, SOA, A, DNSError, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from meshnet_dns.answer import NXDOMAIN, SERVFAIL
from meshnet_dns.kept_answers import (
    LONGEST_S,
    MOST_BYTES,
    NEGATIVE_S,
    OVERHEAD,
    KeptAnswers,
    Lifetime,
    lifetime,
)

SOURCE = ("", ("192.0.2.1",), False)


def response(
    *ttls: int, rcode: int = 0, soa: tuple[int, int] | None = None, name: str = "who.test"
) -> bytes:
    """An A record for each TTL, and an SOA with a TTL and a MINIMUM."""
    said: Any = DNSRecord.question(name).reply()
    said.header.rcode, said.header.id = rcode, 1  # the same in every process that collects tests
    for ttl in ttls:
        said.add_answer(RR(name, 1, ttl=ttl, rdata=A("192.0.2.7")))
    if soa is not None:
        times = (1, 7200, 900, 86400, soa[1])
        said.add_auth(RR("test", 6, ttl=soa[0], rdata=SOA("ns.test", "admin.test", times)))
    return bytes(said.pack())


def with_bits(packet: bytes, bits: int) -> bytes:
    return packet[:2] + (int.from_bytes(packet[2:4]) | bits).to_bytes(2) + packet[4:]


def seconds(packet: bytes) -> int:
    good = lifetime(packet)
    return 0 if good is None else good.seconds


@pytest.mark.parametrize(
    ("packet", "wanted"),
    [
        (response(30), 30),
        (response(30, 5, 60), 5),
        (response(30, 0), 0),
        (response(1 << 30), LONGEST_S),
        (response(0x80000000), 0),
        (response(rcode=NXDOMAIN, soa=(60, 20)), 20),
        (response(rcode=NXDOMAIN, soa=(10, 20)), 10),
        (response(soa=(9000, 9000)), NEGATIVE_S),
        (response(rcode=NXDOMAIN), 0),
        (response(), 0),
        (response(30, rcode=SERVFAIL), 0),
        (with_bits(response(30), 0x0200), 0),
        (response(30)[:-1], 0),
        (response(30) + b"x", 0),
        (response(*[30] * (MOST_BYTES // 16)), 0),
    ],
)
def test_how_long_an_answer_is_good(packet, wanted):
    assert seconds(packet) == wanted


def test_a_referral_is_no_denial():
    """NS records of others and no SOA: RFC 2308 section 2.2."""
    said: Any = DNSRecord.question("who.test").reply()
    said.add_auth(*RR.fromZone("test. 300 IN NS ns.test."))
    said.add_ar(*RR.fromZone("ns.test. 300 IN A 192.0.2.5"))
    assert lifetime(bytes(said.pack())) is None


def test_the_ttl_field_of_edns_is_none():
    said: Any = DNSRecord.parse(response(30))
    said.add_ar(EDNS0(udp_len=1232, flags="do"))
    good = lifetime(bytes(said.pack()))
    assert good is not None
    assert (good.seconds, len(good.ttls)) == (30, 1)


def shown(packet: bytes | None) -> list[int] | None:
    return None if packet is None else [record.ttl for record in DNSRecord.parse(packet).rr]


def test_what_is_given_out_is_as_old_as_it_is():
    kept = KeptAnswers()
    key = (SOURCE, b"who")
    kept.keep(key, response(30, 40), "box", 100.0)
    assert shown(kept.find(key, 100.9)) == [30, 40]
    assert shown(kept.find(key, 129.9)) == [1, 11]
    assert kept.find(key, 130.0) is None
    assert (len(kept), kept.bytes) == (0, 0)


def test_it_is_kept_for_those_who_ask_the_same_servers():
    kept = KeptAnswers()
    kept.keep((SOURCE, b"who"), response(30), "box", 0.0)
    assert kept.find((("/run/netns/x", ("192.0.2.1",), False), b"who"), 0.0) is None


def asked(numbers: Iterable[int]) -> list[tuple[object, bytes]]:
    return [(SOURCE, str(number).encode()) for number in numbers]


def test_one_that_asks_for_thousands_takes_only_its_own_room():
    kept = KeptAnswers(entries=80)
    modest, *greedy = asked(range(200))
    kept.keep(modest, response(30), "modest", 0.0)
    for key in greedy:
        kept.keep(key, response(30), "greedy", 0.0)
    assert kept.find(modest, 1.0) is not None
    assert [kept.find(key, 1.0) is not None for key in greedy[-11:]] == [False] + [True] * 10
    kept.forget("greedy")
    assert len(kept) == 1
    kept.clear()
    assert (len(kept), kept.bytes) == (0, 0)


def test_bytes_are_bounded_too():
    one = len(response(30)) + 1 + OVERHEAD
    kept = KeptAnswers(size=8 * 3 * one)
    for key in asked(range(9)):
        kept.keep(key, response(30), "box", 0.0)
    assert len(kept) == 3
    for owner in range(20):
        for key in asked(range(9)):
            kept.keep((owner, key[1]), response(30), owner, 0.0)
    assert kept.bytes <= 8 * 3 * one


Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["keep", "find", "forget"]), *[st.integers(0, 6)] * 3), max_size=60
)


@given(STEPS)
def test_the_bounds_hold_whatever_comes(steps: list[Step]):
    kept, now = KeptAnswers(entries=8, size=8000), 0.0
    for verb, name, owner, later in steps:
        now += later
        key = (SOURCE, b"%d" % name)
        if verb == "keep":
            kept.keep(key, response(name), owner, now)
        elif verb == "find":
            found = kept.find(key, now)
            assert found is None or min(shown(found) or [1]) >= 1
        else:
            kept.forget(owner)
        assert len(kept) <= 8
        assert 0 <= kept.bytes <= 8000
    for owner in range(7):
        kept.forget(owner)
    assert (len(kept), kept.bytes) == (0, 0)


@given(st.binary(min_size=12, max_size=200), st.binary(max_size=60))
def test_no_packet_whatsoever_is_a_fault(packet, more):
    for each in (packet, response(30) + more, response(30)[:12] + more, response(3)[:40] + more):
        good = lifetime(each)
        assert good is None or isinstance(good, Lifetime)


@given(st.data())
def test_what_is_kept_can_be_read_and_has_the_lowest_ttl(data):
    packet = bytearray(response(30, 60, soa=(50, 40)))
    for _ in range(data.draw(st.integers(0, 3))):
        packet[data.draw(st.integers(2, len(packet) - 1))] = data.draw(st.integers(0, 255))
    good = lifetime(bytes(packet))
    if good is None:
        return
    try:
        read = DNSRecord.parse(bytes(packet))
    except DNSError:
        return  # names that lead nowhere: a client's to judge, no time of ours
    ttls = [each.ttl for each in (*read.rr, *read.auth, *read.ar) if each.rtype != 41]
    assert good.seconds <= min(ttls)
