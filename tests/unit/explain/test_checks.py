"""What is found in facts: each check by itself, several hosts together, and the exit status."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cli import doctor
from meshnet_control.explain import checks
from meshnet_control.explain.checks import Finding

NOW = 1_000_000.0
DAY = 86400.0
AT = "192.0.2.2"
STRICT = {"ipv4/conf/all/rp_filter": "1"}


def facts(name="h1", **more):
    fine = {
        "version": "1.2.0",
        "clock": NOW,
        "certificate_ends": NOW + 60 * DAY,
        "sysctls": {"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "0"},
    }
    return xpb.HostFacts(hostname=name, **{**fine, **more})


def found(*hosts, began=NOW - 1, now=NOW):
    return checks.examined(hosts, began, now)


def test_nothing_is_found_of_a_host_that_is_well():
    well = facts(
        reaches=[xpb.Reach(host="h2", address="192.0.2.2", what="7946/tcp")],
        rooms=[xpb.Room(what="bytes", used=79, most=100), xpb.Room(what="files", used=9, most=0)],
        members=[xpb.View(node_id="n1", hostname="h1", state="alive")],
        reconcilers=[xpb.Loop(name="lb")],
    )
    assert found(well) == []
    assert checks.status([]) == 0


@pytest.mark.parametrize(
    ("more", "level", "words"),
    [
        (
            {"reaches": [xpb.Reach(host="h2", address=AT, what="7946/tcp", why="refused")]},
            "error",
            "7946/tcp of h2 (192.0.2.2) is not reached: refused",
        ),
        (
            {"reaches": [xpb.Reach(host="h2", address=AT, what="1500 bytes", why="x")]},
            "error",
            "no packet of 1500 bytes comes to h2 (192.0.2.2) uncut: x",
        ),
        (
            {"narrow": ["packets above 1400 of 1500 bytes do not come to h2 uncut"]},
            "warning",
            "packets above 1400 of 1500 bytes do not come to h2 uncut: overlays on both have a "
            "smaller MTU",
        ),
        ({"sysctls": {"ipv4/ip_forward": "0"}}, "error", "net.ipv4.ip_forward is 0"),
        ({"sysctls": STRICT}, "error", "net.ipv4.conf.all.rp_filter is 1"),
        (
            {"droppers": ["inet filter input"]},
            "warning",
            "nftables chain inet filter input is not ours and drops what it does not accept",
        ),
        (
            {"droppers": ["ip filter INPUT: 4789/udp"]},
            "warning",
            "nftables chain ip filter INPUT is not ours and has a rule that drops 4789/udp",
        ),
        (
            {"routes_in_way": ["network a overlaps route b"]},
            "error",
            "network a overlaps route b: containers do not reach what is behind it, "
            "or the host does not",
        ),
        ({"leftovers": ["mn-x"]}, "warning", "namespace mn-x is of no network of this cluster"),
        (
            {"certificate_ends": NOW + DAY},
            "warning",
            "the node's certificate ends in 1.0 days, and was not renewed",
        ),
        (
            {"certificate_ends": NOW - DAY},
            "error",
            "the node's certificate ended 1.0 days ago, and was not renewed",
        ),
        (
            {"rooms": [xpb.Room(what="addresses of network a", used=8, most=10)]},
            "warning",
            "8 of 10 addresses of network a are taken",
        ),
        (
            {"rooms": [xpb.Room(what="files", used=10, most=10)]},
            "error",
            "10 of 10 files are taken",
        ),
        ({"reconcilers": [xpb.Loop(name="lb", error="no right")]}, "error", "lb: no right"),
        ({"lacks": ["vxlan"]}, "error", "the kernel has no vxlan: overlays need it"),
        (
            {"lacks": ["esp4"]},
            "warning",
            "the kernel has no esp4: networks made with --opt encrypted need it",
        ),
        ({"troubles": ["the disk is full"]}, "error", "the disk is full"),
        (
            {"members": [xpb.View(node_id="n3", hostname="h3", state="dead")]},
            "error",
            "h3 is dead",
        ),
        ({"clock": NOW + 9}, "error", "its clock is +9 s from that of this host"),
        ({"clock": NOW - 9}, "error", "its clock is -8 s from that of this host"),
    ],
)
def test_a_fact_that_is_in_the_way_is_found(more, level, words):
    (one,) = found(facts(**more))
    assert (one.level, one.host, one.what) == (level, "h1", words)
    assert one.mend


def test_since_when_is_that_of_the_first_look_that_found_it_without_one_that_did_not():
    nearly, well = xpb.Room(what="files", used=85, most=100), xpb.Room(what="files", most=100)
    first = checks.seen(facts(rooms=[nearly]), {}, NOW - 60)
    nearly.used = 86
    kept = checks.seen(facts(rooms=[nearly]), first, NOW)
    assert list(kept.values()) == [NOW - 60]
    (one,) = found(facts(rooms=[nearly], first_seen=kept))
    assert (one.since, one.at_least) == (NOW - 60, True)
    assert "(since 60 s at least)" in " ".join(doctor.lines([one], NOW))
    assert checks.seen(facts(rooms=[well]), first, NOW) == {}


def test_a_look_that_is_the_first_to_find_something_does_not_know_since_when():
    made = facts(leftovers=["mn-x"], rooms=[xpb.Room(what="files", used=9, most=9)])
    made.first_seen.update(checks.seen(made, {}, NOW))
    assert [each.since for each in found(made)] == [0.0, 0.0]
    made.since["mn-x"] = NOW - 99
    assert [(each.since, each.at_least) for each in found(made)] == [
        (0.0, False),
        (NOW - 99, False),
    ]


def test_a_clock_that_was_read_while_others_were_waited_for_is_right():
    assert found(facts(clock=NOW - 7), began=NOW - 8, now=NOW) == []


def test_what_a_node_does_not_say_is_no_finding():
    assert found(xpb.HostFacts(hostname="h1", version="1.2.0")) == []


def test_older_versions_are_named_by_number_not_by_letter():
    (one,) = found(facts("h1", version="1.10.0"), facts("h2", version="1.9.0"))
    assert (one.host, one.what) == ("h2", "it runs meshnet 1.9.0, others 1.10.0")


def test_a_member_that_one_host_does_not_know():
    one, two = (xpb.View(node_id=f"n{n}", hostname=f"h{n}", state="alive") for n in (1, 2))
    (said,) = found(facts("h1", members=[one, two]), facts("h2", members=[two]))
    assert (said.level, said.host) == ("warning", "h2")
    assert said.what == "it does not know h1, which h1 knows as alive"
    assert found(facts("h1", members=[one]), facts("h2")) == [], "it said nothing of members"


@given(st.lists(st.sampled_from(["warning", "error"])))
def test_the_exit_status_is_that_of_the_worst(levels):
    findings = [Finding(level, "h", "x", "y") for level in levels]
    want = 2 if "error" in levels else 1 if levels else 0
    assert checks.status(findings) == want


@given(st.permutations(["h1", "h2", "h3"]), st.data())
def test_errors_come_first_whatever_the_order_of_hosts(names, data):
    hosts = [
        facts(name, leftovers=["mn-x"] if data.draw(st.booleans()) else [], troubles=["t"])
        for name in names
    ]
    levels = [each.level for each in found(*hosts)]
    assert levels == sorted(levels)
    assert levels.count("error") == 3


def test_what_a_person_reads_fits_80_columns():
    one = Finding("error", "h1", "what is wrong " * 8, "what to do " * 9, since=NOW - 5)
    lines = doctor.lines([one], NOW)
    assert max(map(len, lines)) <= 80
    assert "(since 5 s)" in " ".join(lines)
    assert any(line.startswith("      do: what") for line in lines)
