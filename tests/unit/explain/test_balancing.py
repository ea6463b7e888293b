"""What conntrack's flows say of a service's backends, and several nodes' words as one."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.snapshot import (
    Endpoint,
    Network,
    Node,
    PublishedPort,
    Sandbox,
    Service,
    Snapshot,
)
from meshnet.nft.flows import Flow
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.explain import balancing, references

H1, H2 = NodeId("n1"), NodeId("n2")
NET, MESH = NetworkId("net"), NetworkId("mesh")
WEB = ServiceId("web".ljust(25, "0"))
VIP = "10.0.1.2"
ONE, TWO = TaskId("one"), TaskId("two")
PORTS = (PublishedPort("tcp", 80, 8080), PublishedPort("tcp", 9, 9009, "host"))


def network(key, third, *, ingress=False):
    subnet = IPv4Network(f"10.0.{third}.0/24")
    return Network(key, key, Vni(4096 + third), subnet, subnet[1], ingress)


def endpoint(task, node, slot, *, ready=True):
    addresses = {NET: IPv4Address(f"10.0.1.{10 + slot}"), MESH: IPv4Address(f"10.0.9.{10 + slot}")}
    return Endpoint(task, f"web.{slot}.{task}", node, WEB, addresses, ready=ready)


SNAPSHOT = Snapshot(
    1,
    H1,
    {H1: Node(H1, "h1", IPv4Address("192.0.2.1")), H2: Node(H2, "h2", IPv4Address("192.0.2.2"))},
    {NET: network(NET, 1), MESH: network(MESH, 9, ingress=True)},
    {WEB: Service(WEB, "web", vips={NET: IPv4Address(VIP)}, ports=PORTS)},
    {ONE: endpoint(ONE, H1, 1), TWO: endpoint(TWO, H2, 2)},
    {ONE: Sandbox(ONE, "/ns/one", (), IPv4Interface("172.18.0.5/16"), PORTS)},
)


def flow(asked, port, backend, **more):
    more = {"packets": 4, "octets": 400, **more}
    return Flow("tcp", "10.0.1.99", asked, port, backend, "10.0.1.99", **more)


def counted(flows, snapshot=SNAPSHOT):
    (service,) = balancing.answer(snapshot, flows).services
    return {
        each.task: (each.counters.open, each.counters.connections, each.counters.bytes)
        for each in service.backends
    }


@pytest.mark.parametrize(
    ("where", "seen", "task"),
    [
        ("/ns/caller", flow(VIP, 80, "10.0.1.11"), ONE),  # by the VIP
        ("/ns/caller", flow(VIP, 80, "10.0.1.12"), TWO),
        (None, flow("192.0.2.1", 8080, "10.0.9.12"), TWO),  # by the published port
        (None, flow("192.0.2.1", 9009, "172.18.0.5"), ONE),  # by one of the host's
        ("/ns/one", flow("10.0.1.11", 80, "10.0.1.11"), None),  # the backend's own side of it
        ("/ns/caller", flow("192.0.2.1", 8080, "10.0.9.12"), None),
        ("/ns/caller", flow("10.0.1.77", 80, "10.0.1.11"), None),  # another VIP
        (None, flow("192.0.2.1", 8081, "10.0.9.12"), None),
    ],
)
def test_a_connection_is_counted_once_where_it_was_translated(where, seen, task):
    want = {ONE: (0, 0, 0), TWO: (0, 0, 0)} | ({task: (1, 1, 400)} if task else {})
    assert counted({where: [seen]}) == want


def test_what_has_ended_is_counted_and_not_open():
    flows = {"/ns/caller": [flow(VIP, 80, "10.0.1.11", ended=True)]}
    assert counted(flows)[ONE] == (0, 1, 400)


def test_an_address_that_is_another_services_too_is_not_mixed_up():
    other = ServiceId("other".ljust(25, "0"))
    strange = Service(other, "x", vips={NET: IPv4Address("10.0.1.3")})
    services = {**SNAPSHOT.services, other: strange}
    snapshot = replace(SNAPSHOT, services=services)
    found = balancing.answer(snapshot, {"/ns/caller": [flow("10.0.1.3", 80, "10.0.1.11")]})
    assert all(not each.counters.connections for s in found.services for each in s.backends)


@pytest.mark.parametrize(
    ("node", "ready", "open_", "state"),
    [
        (Node(H2, "h2", IPv4Address("192.0.2.2")), True, False, "ready"),
        (Node(H2, "h2", IPv4Address("192.0.2.2")), False, False, "not ready"),
        (Node(H2, "h2", IPv4Address("192.0.2.2")), False, True, "draining"),
        (Node(H2, "h2", IPv4Address("192.0.2.2"), live=False), True, True, "host silent"),
        (Node(H2, "h2", IPv4Address("192.0.2.2"), doubted=True), True, True, "host doubted"),
        (Node(H2, "h2", IPv4Address("192.0.2.2"), doubted=True), False, True, "draining"),
        (Node(H2, "h2", IPv4Address("192.0.2.2"), live=False, down=True), True, True, "host down"),
    ],
)
def test_the_state_of_a_backend(node, ready, open_, state):
    snapshot = replace(
        SNAPSHOT,
        nodes={**SNAPSHOT.nodes, H2: node},
        endpoints={TWO: endpoint(TWO, H2, 2, ready=ready)},
    )
    seen = flow(VIP, 80, "10.0.1.12", ended=not open_)
    (service,) = balancing.answer(snapshot, {"/ns/caller": [seen]}).services
    assert [each.state for each in service.backends] == [state]
    assert service.backends[0].node == "h2"


def test_a_backend_drains_while_another_node_has_connections_to_it():
    snapshot = replace(SNAPSHOT, endpoints={TWO: endpoint(TWO, H2, 2, ready=False)})
    here = balancing.answer(snapshot, {})
    there = balancing.answer(snapshot, {"/ns/caller": [flow(VIP, 80, "10.0.1.12")]})
    (service,) = balancing.merged([here, there]).services
    assert service.backends[0].state == "draining"
    assert service.backends[0].counters.open == 1


@given(st.lists(st.lists(st.sampled_from(["10.0.1.11", "10.0.1.12"])), min_size=1, max_size=4))
def test_the_whole_is_the_sum_of_its_nodes_and_shares_are_parts_of_one(nodes):
    answers = [
        balancing.answer(SNAPSHOT, {"/ns/caller": [flow(VIP, 80, to) for to in backends]})
        for backends in nodes
    ]
    before = [answer.SerializeToString(deterministic=True) for answer in answers]
    (whole,) = balancing.merged(answers).services
    assert balancing.total(whole).connections == sum(map(len, nodes))
    assert balancing.total(whole).bytes == 400 * sum(map(len, nodes))
    assert sum(balancing.shares(whole)) == pytest.approx(1.0 if any(nodes) else 0.0)
    assert [answer.SerializeToString(deterministic=True) for answer in answers] == before


def test_slots_are_in_order_of_number():
    ten = TaskId("ten")
    snapshot = replace(SNAPSHOT, endpoints={ten: endpoint(ten, H1, 10), **SNAPSHOT.endpoints})
    (service,) = balancing.answer(snapshot, {}).services
    assert [each.name.split(".")[1] for each in service.backends] == ["1", "2", "10"]


def test_merging_nothing_is_nothing():
    assert balancing.merged([]) == xpb.BalancingAnswer()


KNOWN = {"abc1": 1, "abc2": 2, "xyz": 3, "t4": 4}
NAMES = {"abc1": "server", "abc2": "client", "xyz": "abc", "t4": "web.1.t4"}


@pytest.mark.parametrize(
    ("reference", "want"),
    [("server", 1), ("abc2", 2), ("xy", 3), ("abc", 3), ("web.1", 4), ("web.1.t4", 4)],
)
def test_a_reference_is_a_name_an_id_or_the_beginning_of_one(reference, want):
    assert references.found("service", reference, KNOWN, NAMES) == want


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("ab", "service ab is ambiguous (2 matches found)"),
        ("sevrer", "no such service: sevrer; did you mean server?"),
        ("", "no such service:  (there is abc, client, server, web.1)"),
        ("zzz", "no such service: zzz (there is abc, client, server, web.1)"),
    ],
)
def test_what_names_nobody_is_refused_with_who_may_be_meant(reference, words):
    with pytest.raises(ControlError) as refused:
        references.found("service", reference, KNOWN, NAMES)
    assert str(refused.value) == words


def test_many_names_are_not_listed():
    assert references.meant("zzz", map(str, range(references.FEW + 1))) == ""
    assert references.meant("zzz", []) == ""
