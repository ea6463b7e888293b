"""The policy table of answers, from a question's bytes to the reply's where bytes matter."""

from __future__ import annotations

import ctypes
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from dnslib import DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from meshnet.model.ids import NetworkId
from meshnet_dns import wire
from meshnet_dns.answer import NOERROR, NXDOMAIN, Answer, Question, answer, reverse_address
from meshnet_dns.views import CACHE_ENTRIES, FORWARD, View
from meshnet_dns.zone import ServedPort, Zone

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
    BACK: Zone(
        "back",
        IPv4Network("10.0.2.0/24"),
        {"web": (OTHER,), "db": (OTHER,)},
        more=(IPv4Network("10.7.0.0/24"),),
    ),
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
        ("77.0.7.10.in-addr.arpa", "PTR", "NXDOMAIN"),
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


SIX = [IPv6Address(f"fd00:1::{host}") for host in (2, 3, 4)]
DUAL = Zone(
    "dual",
    IPv4Network("10.0.1.0/24"),
    {"web": (VIP, SIX[0]), "tasks.web": (ONE, TWO, SIX[1], SIX[2]), "old": (ONE,)},
    {VIP: "web.dual", SIX[0]: "web.dual", ONE: "web.1.dual", SIX[1]: "web.1.dual"},
    {"web": (ServedPort("tcp", 80),)},
    {ONE: True, SIX[1]: True},
    (IPv6Network("fd00:1::/64"),),
)


@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        ("web", "A", {"10.0.1.2"}),
        ("web", "AAAA", {"fd00:1::2"}),
        ("web", "ANY", {"10.0.1.2", "fd00:1::2"}),
        ("web.dual", "AAAA", {"fd00:1::2"}),
        ("tasks.web", "AAAA", {"fd00:1::3", "fd00:1::4"}),
        ("nearest.web", "AAAA", {"fd00:1::3"}),
        ("old", "AAAA", set()),
        ("web", "MX", set()),
        ("_80._tcp.web", "SRV", {"0 1 80 web.1.dual."}),
        (SIX[0].reverse_pointer, "PTR", {"web.dual."}),
        (SIX[1].reverse_pointer.upper(), "PTR", {"web.1.dual."}),
        (SIX[1].reverse_pointer, "A", set()),
        (IPv6Address("fd00:1::99").reverse_pointer, "PTR", NXDOMAIN),
        (IPv6Address("fd00:2::1").reverse_pointer, "PTR", None),
        ("1.0.0.0.ip6.arpa", "PTR", None),
    ],
)
def test_a_dual_stack_network_answers_for_both_families(name, kind, wanted):
    made = View((FRONT,))
    made.refresh({FRONT: DUAL})
    reply = ask(name, kind, made)
    if wanted is None or isinstance(wanted, int):
        assert (reply.header.rcode if reply is not None else None) == wanted
        return
    assert reply is not None
    assert (reply.header.rcode, {str(each.rdata) for each in reply.rr}) == (NOERROR, wanted)


def test_addresses_of_ipv6_take_turns_to_be_first():
    made = View((FRONT,))
    made.refresh({FRONT: DUAL})
    replies = [ask("tasks.web", "AAAA", made) for _ in range(4)]
    firsts = [str(reply.rr[0].rdata) for reply in replies if reply is not None]
    assert sorted(firsts[:2]) == ["fd00:1::3", "fd00:1::4"]
    assert firsts[:2] == firsts[2:]


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_reverse_names_of_ipv6(address):
    assert reverse_address(address.reverse_pointer) == address
    assert reverse_address(address.reverse_pointer.replace(".ip6", ".g.ip6")) is None


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


HTTP, DNS = ServedPort("tcp", 80, "http"), ServedPort("udp", 53)
PLACES = Zone(
    "front",
    IPv4Network("10.0.1.0/24"),
    {
        "web": (VIP,),
        "tasks.web": (ONE, TWO),
        "shop_db": (ONE,),
        "tasks.shop_db": (ONE,),
        "blog_db": (TWO,),
        "tasks.blog_db": (TWO,),
        "db": (ONE, TWO),
        "tasks.db": (ONE, TWO),
        "idle": (VIP,),
        "tasks.idle": (),
        "web.1.abc": (ONE,),
    },
    {ONE: "web.1.abc.Front", TWO: "web.2.def.Front"},
    {"web": (HTTP, DNS), "shop_db": (ServedPort("tcp", 5432),), "idle": (HTTP,)},
    {TWO: True},
)
ELSEWHERE = Zone(
    "back", IPv4Network("10.0.2.0/24"), {"db": (OTHER,), "tasks.db": (OTHER,), "web": (OTHER,)}
)
FIRST, SECOND = "1 80 web.1.abc.Front", "1 80 web.2.def.Front"


def told(name: str, kind: int = 33, *zones: Zone, stack: str = "") -> object:
    """What is answered, a result code if nothing, None if it is forwarded."""
    found = answer(Question(name, kind), zones or (PLACES,), stack)
    return None if found is None else list(found.told) or found.rcode


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("_80._tcp.web", [f"0 {FIRST}", f"0 {SECOND}"]),
        ("_http._tcp.web", [f"0 {FIRST}", f"0 {SECOND}"]),
        ("_http._tcp.web.front", [f"0 {FIRST}", f"0 {SECOND}"]),
        ("_http._tcp.tasks.web", [f"0 {FIRST}", f"0 {SECOND}"]),
        ("_http._tcp.nearest.web", [f"0 {SECOND}", f"1 {FIRST}"]),
        ("_53._udp.web", [f"0 {FIRST}".replace("80", "53"), f"0 {SECOND}".replace("80", "53")]),
        ("_80._udp.web", NXDOMAIN),
        ("_81._tcp.web", NXDOMAIN),
        ("_tcp.web", NOERROR),
        ("_sctp.web", NXDOMAIN),
        ("_80._tcp.idle", NOERROR),
        ("_80._tcp.db", NXDOMAIN),
        ("_80._tcp.web.1.abc", None),
        ("_80._tcp.example.org", None),
        ("_80._tcp", None),
        ("_80", None),
        ("_ldap._tcp.dc._msdcs.example.org", None),
        ("_._tcp.web", NOERROR),
    ],
)
def test_where_a_service_is_served(name, wanted):
    assert told(name) == wanted


def test_of_a_port_only_where_it_is_served_is_known():
    assert told("_80._tcp.web", 1) == NOERROR
    assert told("_80._tcp.web", 28) == NOERROR
    assert told("_80._tcp.web", 255) == told("_80._tcp.web")
    assert told("web", 33) == NOERROR


def test_nearest_are_those_of_this_node_or_all():
    assert told("nearest.web", 1) == [str(TWO)]
    assert told("nearest.web.front", 1) == [str(TWO)]
    assert told("nearest.shop_db", 1) == [str(ONE)], "none is here"
    assert told("nearest.idle", 1) == NOERROR
    assert told("nearest.web", 28) == NOERROR
    assert told("nearest.nobody", 1) is None


def test_the_own_stack_comes_first():
    both = (ELSEWHERE, PLACES)
    assert told("db", 1, *both) == [str(OTHER)]
    assert told("db", 1, *both, stack="shop") == [str(ONE)], "before a network before it"
    assert told("db.front", 1, *both, stack="shop") == [str(ONE)]
    assert told("db.back", 1, *both, stack="shop") == [str(OTHER)], "another network was meant"
    assert told("tasks.db", 1, *both, stack="blog") == [str(TWO)]
    assert told("nearest.db", 1, *both, stack="shop") == [str(ONE)]
    assert told("_5432._tcp.db", 33, *both, stack="shop") == ["0 1 5432 web.1.abc.Front"]
    assert told("db", 1, *both, stack="other") == [str(OTHER)]
    assert told("web", 1, *both, stack="shop") == [str(OTHER)]
    assert told("shop_db", 1, *both, stack="shop") == [str(ONE)]


NAMES = st.lists(
    st.sampled_from(["_80", "_http", "_tcp", "_udp", "nearest", "tasks", "web", "db", "front", ""]),
    max_size=6,
).map(".".join)


@given(NAMES, st.sampled_from([1, 12, 16, 28, 33, 255]), st.sampled_from(["", "shop"]))
def test_any_order_of_labels_has_a_policy_and_an_answer_is_ours(name, kind, stack):
    found = answer(Question(name, kind), (PLACES, ELSEWHERE), stack)
    assert found is None or set(found.addresses) <= {VIP, ONE, TWO, OTHER}
    if found is not None:
        again = answer(Question(name, 1), (PLACES, ELSEWHERE), stack)
        assert again is not None, "the same name is not ours for one type and another's for another"
        assert again.rcode == found.rcode


@pytest.mark.parametrize("limit", [512, 130, 90, 60])
def test_a_service_as_bytes(limit):
    """What fits goes with it; addresses before records, and only missing records are told of."""
    asked = wire.parse(bytes(DNSRecord.question("_80._tcp.WEB", "SRV").pack()))
    said = answer(asked.question, (PLACES,))
    assert said is not None
    packet = next(wire.reply(asked, said, limit).packets())
    assert len(packet) <= limit or limit < len(bytes(DNSRecord.question("_80._tcp.WEB").pack()))
    read = DNSRecord.parse(packet)
    found = {str(each.rdata) for each in read.rr}
    if limit == 512:
        assert found == {f"0 {FIRST}.", f"0 {SECOND}."}
        assert {(str(each.rname), str(each.rdata)) for each in read.ar} == {
            ("web.1.abc.Front.", str(ONE)), ("web.2.def.Front.", str(TWO))
        }  # fmt: skip
    assert bool(found) != bool(read.header.tc)
    assert (read.header.a, read.header.ar) == (len(read.rr), len(read.ar))
