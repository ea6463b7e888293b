"""Which flows are forgotten when rules change: a table, and laws that hold of any change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from meshnet.nft import flows
from meshnet.nft.flows import Fate, Flow, Known, Stale
from meshnet.nft.objects import Ruleset, Set

VIP, ONE, TWO = "10.0.1.200", "10.0.1.2", "10.0.1.3"
ADDRESSES = some.frozensets(some.sampled_from([ONE, TWO, "10.0.1.4"]))


def flow(protocol, asked, backend, *, unanswered=False, answers_to="10.0.1.9", port=53):
    return Flow(protocol, "10.0.1.9", asked, port, backend, answers_to, unanswered)


def table(leads, there=frozenset(), avoided=frozenset()):
    backends = frozenset().union(*leads.values())
    elements = {key: "goto svc" if to else "goto refuse" for key, to in leads.items()}
    leads = {key: to | avoided for key, to in leads.items()}
    vips = Set("vips", "ipv4_addr : verdict", elements, leads=leads)
    return Ruleset("ip", "meshnet", (), (vips,), backends, there | backends | avoided, avoided)


AVOIDED = Stale(avoided=frozenset({ONE}))
DRAINED, GONE = Stale(drained=frozenset({ONE})), Stale(gone=frozenset({ONE}))
TWO6 = "fd00::3"
MOVED6 = Stale(moved={"ip6 udp . 53": frozenset({TWO6})})
MOVED = Stale(moved={VIP: frozenset({TWO}), "udp . 53": frozenset({TWO})})


@pytest.mark.parametrize(
    ("stale", "seen", "fate"),
    [
        (DRAINED, flow("tcp", VIP, ONE), Fate.STAYS),
        (DRAINED, flow("tcp", VIP, ONE, unanswered=True), Fate.DOUBTED),
        (DRAINED, flow("tcp", ONE, ONE, unanswered=True), Fate.STAYS),  # nobody translated it
        (DRAINED, flow("udp", VIP, ONE), Fate.FORGOTTEN),
        (DRAINED, flow("udp", ONE, ONE), Fate.STAYS),
        (DRAINED, flow("other", VIP, ONE), Fate.FORGOTTEN),
        (AVOIDED, flow("tcp", VIP, ONE), Fate.STAYS),
        (AVOIDED, flow("tcp", VIP, ONE, unanswered=True), Fate.DOUBTED),
        (AVOIDED, flow("tcp", ONE, ONE, unanswered=True), Fate.STAYS),
        (AVOIDED, flow("udp", VIP, ONE), Fate.STAYS),
        (AVOIDED, flow("other", VIP, ONE), Fate.STAYS),
        (GONE, flow("tcp", VIP, ONE), Fate.FORGOTTEN),
        (GONE, flow("tcp", ONE, ONE), Fate.STAYS),
        (GONE, flow("tcp", VIP, TWO), Fate.STAYS),
        (GONE, flow("udp", VIP, ONE), Fate.FORGOTTEN),
        (MOVED, flow("udp", VIP, VIP), Fate.FORGOTTEN),  # older than the VIP
        (MOVED, flow("udp", VIP, ONE), Fate.FORGOTTEN),
        (MOVED, flow("udp", VIP, TWO), Fate.STAYS),
        (MOVED, flow("tcp", VIP, ONE), Fate.STAYS),
        (MOVED, flow("udp", "192.0.2.1", "192.0.2.1"), Fate.FORGOTTEN),  # older than the port
        (MOVED, flow("udp", "192.0.2.1", TWO), Fate.STAYS),
        (MOVED, flow("udp", "192.0.2.1", "192.0.2.1", port=54), Fate.STAYS),
        (MOVED, flow("udp", "2001:db8::1", "fd00::9"), Fate.STAYS),  # a port of the other family
        (MOVED6, flow("udp", "2001:db8::1", "fd00::9"), Fate.FORGOTTEN),
        (MOVED6, flow("udp", "2001:db8::1", TWO6), Fate.STAYS),
        (MOVED6, flow("udp", "192.0.2.1", "192.0.2.1"), Fate.STAYS),
        # a datagram that this host forwards, and answers of which come to its own address
        (MOVED, flow("udp", "8.8.8.8", "8.8.8.8", answers_to="192.0.2.1"), Fate.STAYS),
    ],
)
def test_the_fate_of_a_flow(stale, seen, fate):
    assert stale.fate(seen) is fate


def test_what_drains_is_seen_to_once_and_again_when_it_is_gone():
    known = Known().with_backends({ONE, TWO})
    known = flows.after(known, [table({VIP: frozenset({ONE, TWO})})], Stale())
    draining = [table({VIP: frozenset({TWO})}, there=frozenset({ONE}))]
    stale = flows.stale(known, draining, ())
    assert stale.drained == {ONE}
    assert not stale.gone
    known = flows.after(known, draining, stale)
    again = flows.stale(known, draining, ())
    assert not again
    ended = [table({VIP: frozenset({TWO})})]
    stale = flows.stale(known, ended, ())
    assert stale.gone == {ONE}
    assert not stale.drained
    assert not flows.stale(flows.after(known, ended, stale), ended, ())


def test_a_doubt_moves_what_nobody_answered_and_a_death_the_rest():
    known = Known().with_backends({ONE, TWO})
    known = flows.after(known, [table({VIP: frozenset({ONE, TWO})})], Stale())
    doubted = [table({VIP: frozenset({TWO})}, avoided=frozenset({ONE}))]
    stale = flows.stale(known, doubted, ())
    assert stale == AVOIDED
    known = flows.after(known, doubted, stale)
    assert not flows.stale(known, doubted, ())
    dead = [table({VIP: frozenset({TWO})}, there=frozenset({ONE}))]
    stale = flows.stale(known, dead, ())
    assert stale.drained == {ONE}
    assert stale.fate(flow("udp", VIP, ONE)) is Fate.FORGOTTEN


def test_a_doubt_that_was_false_and_comes_again_is_seen_to_again():
    both, doubted = (
        [table({VIP: frozenset({ONE, TWO})})],
        [table({VIP: frozenset({TWO})}, avoided=frozenset({ONE}))],
    )
    known = flows.after(Known().with_backends({ONE, TWO}), both, Stale())
    for _ in range(2):
        stale = flows.stale(known, doubted, ())
        assert stale == AVOIDED
        known = flows.after(known, doubted, stale)
        assert not flows.stale(known, both, ())
        known = flows.after(known, both, Stale())


def test_a_vip_that_is_removed_leads_nobody_where_it_led_or_was_refused():
    before = [table({VIP: frozenset({ONE}), "udp . 53": frozenset()})]
    known = flows.after(Known().with_backends({ONE}), before, Stale())
    left = [table({}, there=frozenset({ONE}))]
    stale = flows.stale(known, left, ())
    assert stale.moved == {VIP: frozenset(), "udp . 53": frozenset()}
    assert stale.fate(flow("udp", VIP, "127.0.0.1", port=9)) is Fate.FORGOTTEN
    assert stale.fate(flow("udp", "192.0.2.1", "127.0.0.1")) is Fate.FORGOTTEN
    assert stale.fate(flow("tcp", VIP, VIP)) is Fate.STAYS
    assert not flows.stale(flows.after(known, left, stale), left, ())


def test_one_more_backend_moves_nobody():
    before = [table({VIP: frozenset({ONE})})]
    known = flows.after(Known().with_backends({ONE}), before, Stale())
    assert not flows.stale(known, [table({VIP: frozenset({ONE, TWO})})], ())


def test_a_process_that_begins_sees_to_what_the_kernel_lacks_alone():
    wanted = [table({VIP: frozenset({ONE}), "10.0.1.201": frozenset({TWO})})]
    assert flows.stale(Known(), wanted, [VIP]).moved == {VIP: {ONE}}
    assert not flows.stale(Known(), wanted, ())


@given(some.lists(some.tuples(ADDRESSES, ADDRESSES, ADDRESSES), min_size=1))
def test_after_any_changes_no_flow_is_left_that_leads_where_nothing_leads(changes):
    """And nothing is done twice."""
    known, kept = Known(), {(p, b) for p in ("tcp", "udp") for b in (VIP, ONE, TWO, "10.0.1.4")}
    chosen: frozenset[str] = frozenset()
    there: frozenset[str] = frozenset()
    doubted: frozenset[str] = frozenset()
    for now, draining, silent in changes:
        chosen, doubted = now, silent - now
        there = now | draining | doubted
        tables = [table({VIP: now}, there=draining, avoided=doubted)]
        known = known.with_backends(now)
        stale = flows.stale(known, tables, ())
        kept = {(p, b) for p, b in kept if stale.fate(flow(p, VIP, b)) is Fate.STAYS}
        known = flows.after(known, tables, stale)
        assert not flows.stale(known, tables, ())
        # flows may begin to whoever is chosen now
        kept |= {(p, b) for p in ("tcp", "udp") for b in chosen}
    seen = {b for p, b in kept if p == "udp" and b != VIP}
    ever = frozenset().union(*(now for now, _, _ in changes))
    assert seen & ever <= chosen | doubted
    assert {b for p, b in kept if p == "tcp" and b in ever} <= there


def test_a_port_of_one_family_moves_without_the_other_s():
    def ports(family, to):
        leads = {"udp . 53": frozenset({to})}
        set_ = Set("ports", "inet_proto . inet_service : verdict", {}, leads=leads)
        return Ruleset(family, "meshnet", (), (set_,), frozenset({to}), frozenset({to}))

    before = [ports("ip", ONE), ports("ip6", TWO6)]
    known = flows.after(Known(), before, Stale())
    now = [ports("ip", ONE), ports("ip6", "fd00::4")]
    assert flows.stale(known, now, ()).moved == {"ip6 udp . 53": frozenset({"fd00::4"})}
    unsettled = [flows.known_as(family, "udp . 53") for family in ("ip", "ip6")]
    assert flows.stale(known, before, unsettled).moved.keys() == {"udp . 53", "ip6 udp . 53"}
    assert flows.known_as("ip6", "fd00::9") == "fd00::9", "an address says its family"
