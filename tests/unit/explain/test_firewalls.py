"""A VXLAN packet in chains of others: dropped, perhaps dropped, let through."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from meshnet.model.ids import NodeId
from meshnet.model.snapshot import Node, Snapshot
from meshnet_control.explain import firewalls
from meshnet_control.explain.firewalls import IN, OUT, Drop, Packet
from meshnet_control.explain.picture import Picture

H1, H2 = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
PACKET = Packet(H2, H1, 4789)
DROP, ACCEPT, RETURN = {"drop": None}, {"accept": None}, {"return": None}
REJECT = {"xt": {"type": "target", "name": "REJECT"}}
MULTIPORT = {"xt": {"type": "match", "name": "multiport"}}
COUNTER = {"counter": {"packets": 0, "bytes": 0}}
LIMIT = {"limit": {"rate": 5, "per": "second"}}
VMAP = {"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["invalid", DROP]]}}}


def match(left, right, op="=="):
    return {"match": {"op": op, "left": left, "right": right}}


def payload(protocol, field, right, op="=="):
    return match({"payload": {"protocol": protocol, "field": field}}, right, op)


def meta(key, right, op="=="):
    return match({"meta": {"key": key}}, right, op)


def state(right, op="in"):
    return match({"ct": {"key": "state"}}, right, op)


def jump(target, word="jump"):
    return {word: {"target": target}}


def chain(name="in", **more):
    head = {"family": "ip", "table": "x", "name": name, "hook": "input", "policy": "accept"}
    return {"chain": {**head, "type": "filter", **more}}


def rules(*each, name="in"):
    head = {"family": "ip", "table": "x", "chain": name}
    return [{"rule": {**head, "handle": n, "expr": expr}} for n, expr in enumerate(each, start=1)]


def found(*entries, hooks=IN):
    return firewalls.drops([{"metainfo": {}}, *entries], PACKET, hooks)


VXLAN = payload("udp", "dport", 4789)
STRANGERS = payload(
    "ip", "saddr", {"set": [{"prefix": {"addr": "10.0.0.0", "len": 8}}, "192.0.2.9"]}
)
NEIGHBOURS = payload("ip", "saddr", {"prefix": {"addr": "192.0.2.0", "len": 24}})


@pytest.mark.parametrize(
    ("expr", "sure"),
    [
        ([VXLAN, COUNTER, DROP], True),
        ([VXLAN, REJECT], True),
        ([DROP], True),
        ([NEIGHBOURS, meta("l4proto", "udp"), DROP], True),
        ([payload("ip", "saddr", {"range": ["192.0.2.2", "192.0.2.7"]}), DROP], True),
        ([payload("ip", "saddr", "10.0.0.1", "!="), VXLAN, DROP], True),
        ([payload("ip", "saddr", "@friends", "!="), VXLAN, DROP], False),
        ([meta("iifname", "eth0"), VXLAN, DROP], False),
        ([meta("iifname", "lo", "!="), VXLAN, DROP], True),
        ([meta("l4proto", "udp"), MULTIPORT, REJECT], False),
        ([VXLAN, LIMIT, DROP], False),
        ([state(["new", "untracked"]), DROP], True),
        ([state("new"), DROP], False),
        ([payload("th", "dport", {"set": [22, {"range": [4000, 5000]}]}), DROP], True),
    ],
)
def test_a_rule_that_drops_it(expr, sure):
    assert found(chain(), *rules(expr)) == [Drop("ip x in", 1, sure)]


@pytest.mark.parametrize(
    "expr",
    [
        [VXLAN, ACCEPT],
        [STRANGERS, VXLAN, DROP],
        [payload("udp", "dport", 53), DROP],
        [payload("tcp", "dport", 4789), DROP],
        [payload("ip", "daddr", "192.0.2.3"), DROP],
        [NEIGHBOURS, payload("ip", "saddr", "192.0.2.2", "!="), DROP],
        [state(["established", "related"]), DROP],
        [meta("iifname", "lo"), DROP],
        [COUNTER],
    ],
)
def test_a_rule_for_others(expr):
    assert found(chain(), *rules(expr)) == []


@pytest.mark.parametrize(
    ("before", "want"),
    [
        ([VXLAN, ACCEPT], []),
        ([NEIGHBOURS, ACCEPT], []),
        ([meta("iifname", "eth0"), VXLAN, ACCEPT], []),  # whoever opened the port knows why
        ([MULTIPORT, ACCEPT], [Drop("ip x in", 0, sure=False)]),
        ([VMAP], [Drop("ip x in", 0, sure=False)]),
        ([meta("iifname", "eth0"), jump("void", "goto")], [Drop("ip x in", 0, sure=False)]),
        ([STRANGERS, ACCEPT], [Drop("ip x in", 0, sure=True)]),
        ([state(["established"]), ACCEPT], [Drop("ip x in", 0, sure=True)]),
        ([jump("more")], [Drop("ip x in", 0, sure=True)]),
    ],
)
def test_a_policy_drops_what_nothing_before_accepts(before, want):
    more = rules([RETURN], [VXLAN, ACCEPT], name="more")
    assert found(chain(policy="drop"), *rules(before), *more) == want


def test_chains_that_are_jumped_to():
    more = rules([STRANGERS, RETURN], [VXLAN, DROP], name="more")
    assert found(chain(), *rules([jump("more")]), *more) == [Drop("ip x more", 2, sure=True)]
    perhaps = rules([meta("iifname", "eth0"), jump("more")])
    assert found(chain(), *perhaps, *more) == [Drop("ip x more", 2, sure=False)]
    endless = rules([jump("in")])
    assert found(chain(), *endless) == []


def test_a_sure_drop_is_told_before_a_doubtful_one():
    assert found(chain(), *rules([VXLAN, LIMIT, DROP], [VXLAN, DROP])) == [
        Drop("ip x in", 2, sure=True)
    ]


@pytest.mark.parametrize(
    "more",
    [{"hook": "forward"}, {"hook": "output"}, {"type": "nat"}, {"family": "ip6"},
     {"table": "meshnet"}],
)  # fmt: skip
def test_chains_that_it_does_not_go_through(more):
    assert found(chain(policy="drop", **more)) == []
    assert firewalls.of_others([chain()]) == {("ip", "x")}


def test_steps_name_the_chain_the_rule_and_what_to_do():
    nodes = {NodeId("n1"): Node(NodeId("n1"), "h1", H1), NodeId("n2"): Node(NodeId("n2"), "h2", H2)}
    seen = Picture(
        Snapshot(1, NodeId("n1"), nodes),
        foreign=[
            chain(),
            *rules([VXLAN, DROP]),
            chain("out", hook="output"),
            *rules([meta("oifname", "eth0"), VXLAN, DROP], name="out"),
        ],
    )
    into, out = seen.blocked(H2)
    assert (into.host, into.what) == ("h1", "others' firewall, UDP 4789 from 192.0.2.2")
    assert (into.ok, into.ends, into.warns) == (False, True, False)
    assert into.found == "chain ip x in is not ours, and rule 1 drops it"
    assert "nft insert rule ip x in ip saddr 192.0.2.2 udp dport 4789 accept" in into.mend
    assert (out.ok, out.ends, out.warns) == (True, False, True)
    assert out.what == "others' firewall, UDP 4789 to 192.0.2.2"
    assert "rule 1 may drop it" in out.found
    assert list(replace(seen, foreign=()).blocked(H2)) == []
    assert firewalls.drops(seen.foreign, Packet(H1, H2, 4789), OUT)
