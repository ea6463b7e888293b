"""The policy table of answers, from a question's bytes to the reply's where bytes matter."""

from __future__ import annotations

import ctypes
from ipaddress import IPv4Address, IPv4Network

import pytest
from dnslib import DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from meshnet.model.ids import NetworkId
from meshnet_dns.answer import NXDOMAIN, Answer, Question, answer, reverse_address
from meshnet_dns.views import CACHE_ENTRIES, FORWARD, View
from meshnet_dns.zone import Zone

FRONT, BACK = NetworkId("front"), NetworkId("back")
VIP, ONE, TWO = (IPv4Address(f"10.0.1.{host}") for host in (2, 3, 4))
OTHER = IPv4Address("10.0.2.9")
ZONES = {
    FRONT: Zone(
        "front",
        IPv4Network("10.0.1.0/24"),
        {
            "web": (VIP,),
            "www": (VIP,),
            "tasks.web": (ONE, TWO),
            "rr": (ONE, TWO),
            "idle": (),
            "web.1.abc": (ONE,),
        },
        {VIP: "web.front", ONE: "Web.1.abc.front"},
    ),
    BACK: Zone("back", IPv4Network("10.0.2.0/24"), {"web": (OTHER,), "db": (OTHER,)}),
}
BOTH = tuple(ZONES.values())


def view() -> View:
    made = View((FRONT, BACK))
    made.refresh(ZONES)
    return made


def ask(name: str, kind: str = "A", through: View | None = None) -> DNSRecord | None:
    """The reply; None: it was forwarded."""
    reply = (through or view()).datagram(bytes(DNSRecord.question(name, kind).pack()))
    return DNSRecord.parse(reply) if reply else None


def key(name: str) -> bytes:
    """What a query for addresses is remembered by."""
    return bytes(DNSRecord.question(name, "A").pack())[2:]


def said(name: str, kind: str = "A") -> object:
    """A set of records, the name of a result code when there are none, or None: forwarded."""
    reply = ask(name, kind)
    if reply is None:
        return None
    return {str(record.rdata) for record in reply.rr} or {0: "NOERROR", 3: "NXDOMAIN", 4: "NOTIMP"}[
        reply.header.rcode
    ]


@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        ("web", "A", {"10.0.1.2"}),
        ("WeB", "A", {"10.0.1.2"}),
        ("web.", "A", {"10.0.1.2"}),
        ("web", "ANY", {"10.0.1.2"}),
        ("www", "A", {"10.0.1.2"}),
        ("tasks.web", "A", {"10.0.1.3", "10.0.1.4"}),
        ("rr", "A", {"10.0.1.3", "10.0.1.4"}),
        ("web.1.abc", "A", {"10.0.1.3"}),
        ("web.front", "A", {"10.0.1.2"}),
        ("tasks.web.FRONT", "A", {"10.0.1.3", "10.0.1.4"}),
        ("web.back", "A", {"10.0.2.9"}),
        ("db", "A", {"10.0.2.9"}),
        ("idle", "A", "NOERROR"),
        ("web", "AAAA", "NOERROR"),
        ("web", "MX", "NOERROR"),
        ("web.front", "TXT", "NOERROR"),
        ("2.1.0.10.in-addr.arpa", "PTR", {"web.front."}),
        ("3.1.0.10.IN-ADDR.ARPA", "PTR", {"Web.1.abc.front."}),
        ("2.1.0.10.in-addr.arpa", "A", "NOERROR"),
        ("77.1.0.10.in-addr.arpa", "PTR", "NXDOMAIN"),
        ("1.0.0.10.in-addr.arpa", "PTR", None),
        ("1.0.10.in-addr.arpa", "PTR", None),
        ("nothing", "A", None),
        ("nothing.front", "A", None),
        ("example.org", "A", None),
        ("front", "A", None),
    ],
)
def test_policy(name, kind, wanted):
    assert said(name, kind) == wanted


def test_another_class_is_not_implemented():
    asked = DNSRecord.question("web", "A")
    asked.q.qclass = 3
    assert DNSRecord.parse(view().datagram(bytes(asked.pack()))).header.rcode == 4


def test_a_reply_repeats_the_name_as_it_was_spelt():
    reply = ask("wEb")
    assert reply is not None
    assert str(reply.q.qname) == "wEb."
    assert reply.header.aa == 1
    assert reply.header.ra == 1
    assert 0 <= reply.rr[0].ttl <= 5


@pytest.mark.parametrize("count", [2, 3, 7])
def test_addresses_take_turns_to_be_first(count):
    addresses = tuple(IPv4Address(f"10.0.1.{i + 1}") for i in range(count))
    through = View((FRONT,))
    through.refresh({FRONT: Zone("front", IPv4Network("10.0.1.0/24"), {"rr": addresses})})
    replies = [ask("rr", through=through)]
    make = through.turning(key("rr"))
    assert make is not None
    replies += [DNSRecord.parse(make()) for _ in range(2 * count - 1)]
    firsts = [str(reply.rr[0].rdata) for reply in replies if reply]
    assert sorted(firsts) == sorted(2 * [str(address) for address in addresses])
    assert all({str(r.rdata) for r in reply.rr} == set(firsts) for reply in replies if reply)


def test_a_new_zone_is_answered_at_once_and_forwards_are_remembered_as_such():
    through = view()
    assert ask("new", through=through) is None
    assert ask("new", through=through) is None
    assert ask("web", through=through)
    grown = Zone("front", IPv4Network("10.0.1.0/24"), {"new": (TWO,)})
    through.refresh({FRONT: grown})
    assert str((ask("new", through=through) or DNSRecord()).rr[0].rdata) == str(TWO)
    assert ask("web", through=through) is None, "networks without a zone have no names"


def test_the_cache_is_bounded():
    through = view()
    for i in range(CACHE_ENTRIES + 50):
        assert through.datagram(bytes(DNSRecord.question(f"n{i}", "A").pack())) == FORWARD
    assert through.turning(key("n0")) is None
    assert through.turning(key(f"n{CACHE_ENTRIES + 49}")) is not None
    ask("web", through=through)
    for i in range(CACHE_ENTRIES):
        ask(f"n{i}", through=through)
    assert through.fixed(key("web")) is None


def test_a_reply_that_never_changes_lies_where_the_kernel_reads_it():
    through = view()
    for name in ("web", "idle"):
        reply = through.datagram(bytes(DNSRecord.question(name, "A").pack()))
        at, size = through.fixed(key(name)) or (0, 0)
        assert ctypes.string_at(at, size) == reply[2:]
    through.refresh(ZONES)
    assert through.fixed(key("web")) is None
    ask("rr", through=through)
    assert through.fixed(key("rr")) is None, "its records take turns"


@given(st.binary(min_size=4, max_size=4).map(IPv4Address))
def test_reverse_names(address):
    assert reverse_address(address.reverse_pointer) == address


@given(st.text())
def test_any_text_has_a_policy(name):
    said = answer(Question(name.lower(), 12), BOTH)
    assert said is None or isinstance(said, Answer)
    reverse_address(name + ".in-addr.arpa")


@given(st.integers(0, 255), st.sampled_from([1, 12, 16, 28, 255]))
def test_nobody_else_is_asked_about_our_subnets(host, kind):
    name = IPv4Address(f"10.0.1.{host}").reverse_pointer
    found = answer(Question(name, kind), BOTH)
    assert found is not None
    assert found.pointer or found.rcode == NXDOMAIN or kind not in {12, 255}
