"""Assignments and gossip joined into a Snapshot: all can be reached, the live are chosen."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import from_scratch
from hypothesis import given
from hypothesis import strategies as st

from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni, mac_of
from meshnet.model.paths import mtu_of
from meshnet.model.snapshot import Endpoint, Network, Sandbox
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane import snapshot
from meshnet_dns.zone import zones
from meshnet_lb.chosen import Chosen

NET, SERVICE = NetworkId("net1"), ServiceId("svc1")
SELF = NodeId("n0")


def _assignments(nodes: int) -> pb.Assignments:
    network = pb.Network(id=NET, vni=4097)
    network.spec.name = "discovery"
    network.ipam_options.configs.add(subnet="10.0.1.0/24", gateway="10.0.1.1")
    service = pb.ServiceView(id=SERVICE, name="server", endpoint_mode="vip")
    service.virtual_ips.add(network_id=NET, addr="10.0.1.2/24")
    service.ports.add(target_port=80, published_port=8080)
    service.networks.add(target=NET, aliases=["s"])
    views = [
        pb.NodeView(
            id=f"n{i}",
            hostname=f"h{i}",
            addr=f"192.168.0.{i + 1}",
            ingress_address=f"10.0.0.{i + 2}/24",
        )
        for i in range(nodes)
    ]
    return pb.Assignments(networks=[network], services=[service], nodes=views)


def _endpoint(node: int, *, ready: bool = True) -> Endpoint:
    return Endpoint(
        task=TaskId(f"t{node}"),
        name=f"server.{node}.t{node}",
        node=NodeId(f"n{node}"),
        service=SERVICE,
        addresses={NET: IPv4Address(f"10.0.1.{node + 10}")},
        container="c" * 64,
        hostname="web",
        aliases={NET: ("a",)},
        ready=ready,
    )


def _records(endpoints: list[Endpoint]) -> dict[tuple[NodeId, str], bytes]:
    return {
        (e.node, gossip_records.endpoint_key(e.task)): gossip_records.encode_endpoint(e)
        for e in endpoints
    }


def _build(nodes: int, endpoints: list[Endpoint], **more):
    return from_scratch.build(
        revision=1,
        self_id=SELF,
        assignments=NodeState.of(_assignments(nodes)),
        gone=more.get("gone", frozenset()),
        records=_records(endpoints) | more.get("records", {}),
        sandboxes=more.get("sandboxes", {}),
        gwbridge=None,
        complete=True,
        before=more.get("before", {}),
    )


@given(st.sets(st.integers(0, 5).map(lambda i: NodeId(f"n{i}"))))
def test_all_that_the_managers_know_can_be_reached_and_only_what_is_not_gone_is_chosen(gone):
    snapshot = _build(6, [_endpoint(i) for i in range(6)], gone=gone)
    everyone = _build(6, list(snapshot.endpoints.values()))
    assert snapshot.remote_macs(NET) == everyone.remote_macs(NET)
    assert {str(vtep) for _, vtep in snapshot.remote_macs(NET).values()} == {
        f"192.168.0.{i + 1}" for i in range(1, 6)
    }
    chosen = {i for i in range(6) if i == 0 or f"n{i}" not in gone}
    addresses = tuple(IPv4Address(f"10.0.1.{i + 10}") for i in sorted(chosen))
    assert snapshot.backends(SERVICE, NET) == addresses
    balanced = Chosen()
    balanced.follow(snapshot)
    assert balanced.ready == {NET: {SERVICE: addresses}}
    named = zones(snapshot)[NET].names
    assert named["tasks.server"] == addresses
    assert {f"server.{i}.t{i}" in named for i in chosen} == {True}
    assert not any(f"server.{i}.t{i}" in named for i in set(range(6)) - chosen)


def test_what_a_node_said_goes_when_the_managers_remove_the_node():
    snapshot = _build(2, [_endpoint(i) for i in range(3)])
    assert {e.node for e in snapshot.endpoints.values()} == {"n0", "n1"}


def test_an_address_that_two_claim_leads_to_the_task_made_last_whoever_is_gone():
    a, b = _endpoint(1), _endpoint(2)
    same = {NET: IPv4Address("10.0.1.99")}
    both = [replace(a, addresses=same, made=2), replace(b, addresses=same, made=1)]
    for gone, vtep in (("n1", "192.168.0.2"), ("n2", "192.168.0.2")):
        for order in (both, both[::-1]):
            found = _build(3, order, gone={NodeId(gone)}).remote_macs(NET)
            assert [str(at) for _, at in found.values()] == [vtep]


def test_service_network_and_ports():
    snapshot = _build(2, [_endpoint(0), _endpoint(1, ready=False)])
    service = snapshot.services[SERVICE]
    assert (service.vips, service.aliases) == ({NET: IPv4Address("10.0.1.2")}, {NET: ("s",)})
    assert (service.ports[0].protocol, service.ports[0].mode) == ("tcp", "ingress")
    assert snapshot.networks[NET].vni == 4097
    assert snapshot.backends(SERVICE, NET) == (IPv4Address("10.0.1.10"),)
    assert mac_of(IPv4Address("10.0.1.11")) in snapshot.remote_macs(NET)


def test_a_removed_network_stays_until_its_last_container_is_gone():
    removed = Network(
        NetworkId("old"), "old", Vni(4999), IPv4Network("10.0.9.0/24"), IPv4Address("10.0.9.1")
    )
    task = TaskId("t1")
    address = IPv4Interface("10.0.9.7/24")
    stopping = {task: Sandbox(task, "/run/x", ((removed.id, address),), None)}
    known = _build(1, []).networks
    more = {"before": {**known, removed.id: removed}}
    assert _build(1, [], sandboxes=stopping, **more).networks == more["before"]
    assert _build(1, [], **more).networks == known
    taken = replace(removed, vni=next(iter(known.values())).vni)
    more = {"before": {**known, removed.id: taken}}
    assert _build(1, [], sandboxes=stopping, **more).networks == known


def test_mtu_is_the_lowest_underlay_minus_50():
    low = {(NodeId("n1"), gossip_records.NODE_KEY): gossip_records.encode_node(1400)}
    snapshot = _build(2, [], records=low)
    assert mtu_of(snapshot, snapshot.networks[NET]) == 1350


def test_a_network_without_a_subnet_is_not_realised():
    assert snapshot.network_of(pb.Network(id="x")) is None


def test_endpoint_record_round_trip():
    endpoint = _endpoint(3, ready=False)
    assert gossip_records.decode_endpoints(_records([endpoint])) == {endpoint.task: endpoint}


@given(st.binary(max_size=60))
def test_garbage_records_are_left_out(garbage):
    assert gossip_records.decode_endpoints({(SELF, "ep/t"): garbage}) == {}
    assert 576 <= gossip_records.decode_node(garbage)[0] <= 65535


def test_a_task_said_by_two_nodes_belongs_to_the_ready_one():
    a, b = _endpoint(1, ready=False), _endpoint(2)
    b = Endpoint(**{f: getattr(b, f) for f in b.__dataclass_fields__} | {"task": a.task})
    for order in ([a, b], [b, a]):
        assert gossip_records.decode_endpoints(_records(order))[a.task].node == "n2"
