"""Links as rules, and rules read back as links."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.lab import link_rules
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab_file import parsed
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.topology import Impairment

TOPOLOGY = parsed(
    "lans: {front: 192.168.60.0/24, back: 192.168.61.0/24}\nhosts: {h1: , h2: , h3: {lan: back}}\n",
    "lab.yaml",
)
LAYOUT = Layout("mnlab", 3, topology=TOPOLOGY)
DOWN = Impairment(down=True)


def rules(links) -> list[str]:
    text = link_rules.ruleset(LAYOUT, links)
    return [
        line.removeprefix("add rule bridge meshnet_lab ").partition(" comment")[0]
        for line in text.splitlines()
        if line.startswith("add rule")
    ]


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (("h1",), ['prerouting iifname "h1" drop', 'postrouting oifname "h1" drop']),
        (
            ("h1", "h2"),
            [
                'prerouting iifname "h1" ether daddr 02:6d:c0:a8:3c:0c drop',
                'prerouting iifname "h2" ether daddr 02:6d:c0:a8:3c:0b drop',
            ],
        ),
        (
            ("h1", "h3"),
            [
                'prerouting iifname "h1" ip daddr 192.168.61.13 drop',
                'prerouting iifname "h3" ip daddr 192.168.60.11 drop',
            ],
        ),
        (
            ("back", "front"),
            [
                "prerouting ip saddr 192.168.61.0/24 ip daddr 192.168.60.0/24 drop",
                "prerouting ip saddr 192.168.60.0/24 ip daddr 192.168.61.0/24 drop",
            ],
        ),
    ],
)
def test_a_link_is_down_both_ways(ends, expected):
    assert rules({ends: DOWN}) == expected


def test_loss_and_rate():
    actions = [line.partition('"h1" ')[2] for line in rules({("h1",): Impairment(250, 10_000_000)})]
    assert actions == [
        "numgen random mod 10000 < 250 drop",
        "numgen random mod 10000 < 250 drop",
        "limit rate over 1250000 bytes/second burst 131072 bytes drop",
        "limit rate over 1250000 bytes/second burst 131072 bytes drop",
    ]


def test_no_links_are_no_table():
    assert link_rules.ruleset(LAYOUT, {}) == (
        "add table bridge meshnet_lab\ndelete table bridge meshnet_lab\n"
    )


def test_a_machine_that_is_none_is_refused():
    with pytest.raises(LabError, match="no host 'h9'"):
        link_rules.ruleset(LAYOUT, {("h9",): DOWN})


keys = st.sampled_from([("h1",), ("h2",), ("h1", "h2"), ("h1", "h3"), ("back", "front")])
rates = st.integers(0, 10_000).map(lambda mbit: mbit * 1_000_000)
impairments = st.builds(Impairment, st.integers(0, 10_000), rates, down=st.booleans()).filter(
    lambda link: link != Impairment()
)


@given(st.dictionaries(keys, impairments))
def test_what_is_written_is_what_is_read(links):
    comments = [
        line.rpartition(' comment "')[2].rstrip('"')
        for line in link_rules.ruleset(LAYOUT, links).splitlines()
        if line.startswith("add rule")
    ]
    listing = {"nftables": [{"rule": {"comment": comment}} for comment in comments]}
    assert link_rules.links(listing) == links


def test_rules_of_others_say_nothing():
    listing = {"nftables": [{"table": {}}, {"rule": {}}, {"rule": {"comment": "mine"}}]}
    assert link_rules.links(listing) == {}
