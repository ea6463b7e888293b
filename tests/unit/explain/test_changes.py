"""What is told of a newer Snapshot: each difference once, with whose word it is."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.snapshot import Endpoint, Network, Node, Service, Snapshot
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cli import events
from meshnet_control.explain.changes import between

H2, APP, WEB, ONE = NodeId("n2"), NetworkId("app"), ServiceId("s"), TaskId("t1")
NODE = Node(H2, "h2", IPv4Address("192.0.2.2"))
NETWORK = Network(APP, "app", Vni(1), IPv4Network("10.0.1.0/24"), IPv4Address("10.0.1.1"))
TASK = Endpoint(ONE, "web.1", H2, WEB, {APP: IPv4Address("10.0.1.3")})
WHOLE = Snapshot(
    1, NodeId("n1"), {H2: NODE}, {APP: NETWORK}, {WEB: Service(WEB, "web")}, {ONE: TASK}
)


@pytest.mark.parametrize(
    ("now", "who", "what"),
    [
        ({"nodes": {}}, "managers", "node h2 was removed"),
        ({"nodes": {H2: replace(NODE, live=False)}}, "gossip", "node h2 is silent"),
        ({"nodes": {H2: replace(NODE, live=False, down=True)}}, "managers", "node h2 is down"),
        ({"nodes": {H2: replace(NODE, underlay_mtu=9000)}}, "managers", "node h2 was changed"),
        ({"networks": {}}, "managers", "network app (10.0.1.0/24) was removed"),
        ({"services": {WEB: Service(WEB, "web", "dnsrr")}}, "managers", "service web was changed"),
        ({"endpoints": {}}, "h2", "web.1 has gone"),
        ({"endpoints": {ONE: replace(TASK, ready=False)}}, "h2", "web.1 is not ready"),
        ({"endpoints": {ONE: replace(TASK, node=NodeId("n3"))}}, "managers", "web.1 was moved"),
    ],
)
def test_a_difference_and_whose_word_it_is(now, who, what):
    newer = replace(WHOLE, revision=2, **now)
    assert list(between(WHOLE, newer)) == [(who, what)]


def test_what_is_new_is_told_and_what_is_the_same_is_not():
    nothing = Snapshot(1, NodeId("n1"))
    assert [what for _, what in between(nothing, WHOLE)] == [
        "node h2 at 192.0.2.2 is part of the cluster",
        "network app (10.0.1.0/24) was made",
        "service web was made",
        "web.1 is there, ready",
    ]
    assert list(between(WHOLE, replace(WHOLE, revision=9, endpoints={ONE: replace(TASK)}))) == []
    away = replace(WHOLE, nodes={H2: replace(NODE, live=False, down=True)})
    assert list(between(away, WHOLE)) == [("managers", "node h2 is there again")]


def test_what_is_on_networks_that_were_not_heard_of_has_not_happened():
    other = NetworkId("other")
    nothing = replace(WHOLE, endpoints={})
    assert list(between(nothing, WHOLE, {APP, other}.__contains__)) == []
    assert list(between(WHOLE, nothing, {APP, other}.__contains__)) == []
    assert list(between(nothing, WHOLE, {other}.__contains__)) == [("h2", "web.1 is there, ready")]
    alone = replace(WHOLE, endpoints={ONE: replace(TASK, addresses={})})
    assert list(between(nothing, alone, lambda _: True)), "it is on none"


@given(st.lists(st.tuples(st.floats(0, 1e6), st.sampled_from(["h1", "h2"]))))
def test_the_events_of_all_hosts_are_told_by_time(told):
    reply = xpb.AskReply()
    for number, (at, host) in enumerate(told):
        one = xpb.Event(number=number, at=at)
        answer = xpb.Answer(events=xpb.EventsAnswer(events=[one]))
        reply.answers.add(hostname=host, answer=answer)
    times = [event.at for _, event in events.in_order(reply)]
    assert times == sorted(at for at, _ in told)


def test_an_event_as_it_is_read():
    event = xpb.Event(at=0.5, part="lb", who="others", what="x", repaired_s=0.061)
    assert events.line("h1", event).endswith(".500 h1 lb by others: x (put right after 0.06 s)")
    event = xpb.Event(at=0.5, part="host", what="the Docker daemon was away", repaired_s=-1)
    assert events.line("h1", event).endswith(".500 h1 host: the Docker daemon was away")
