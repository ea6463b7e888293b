"""Assignments and gossip joined into a Snapshot: nothing of a dead node is ever in it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from meshnet.gossip.members import Member, State
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni, mac_of
from meshnet.model.snapshot import Endpoint, Network, Sandbox
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_records
from meshnet_control.dataplane import snapshot

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


def _build(states: list[State], endpoints: list[Endpoint], **more):
    members = {
        NodeId(f"n{i}"): Member(NodeId(f"n{i}"), (f"192.168.0.{i + 1}", 7946), 1, state, 0.0)
        for i, state in enumerate(states)
    }
    return snapshot.build(
        revision=1,
        self_id=SELF,
        assignments=_assignments(len(states)),
        members=members,
        records=_records(endpoints) | more.get("records", {}),
        sandboxes=more.get("sandboxes", {}),
        gwbridge=None,
        complete=True,
        before=more.get("before", {}),
    )


@given(st.lists(st.sampled_from(list(State)), min_size=1, max_size=6))
def test_only_members_that_take_part_are_in_it(states):
    states[0] = State.ALIVE
    snapshot = _build(states, [_endpoint(i) for i in range(len(states))])
    counted = {f"n{i}" for i, s in enumerate(states) if s in {State.ALIVE, State.SUSPECT}}
    assert set(snapshot.nodes) == counted
    assert {e.node for e in snapshot.endpoints.values()} == counted
    assert {str(vtep) for _, vtep in snapshot.remote_macs(NET).values()} == {
        f"192.168.0.{int(n[1:]) + 1}" for n in counted - {"n0"}
    }


def test_service_network_and_ports():
    snapshot = _build([State.ALIVE, State.ALIVE], [_endpoint(0), _endpoint(1, ready=False)])
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
    known = _build([State.ALIVE], []).networks
    more = {"before": {**known, removed.id: removed}}
    assert _build([State.ALIVE], [], sandboxes=stopping, **more).networks == more["before"]
    assert _build([State.ALIVE], [], **more).networks == known
    taken = replace(removed, vni=next(iter(known.values())).vni)
    more = {"before": {**known, removed.id: taken}}
    assert _build([State.ALIVE], [], sandboxes=stopping, **more).networks == known


def test_mtu_is_the_lowest_underlay_minus_50():
    low = {(NodeId("n1"), gossip_records.NODE_KEY): gossip_records.encode_node(1400)}
    snapshot = _build([State.ALIVE, State.ALIVE], [], records=low)
    assert snapshot.mtu_of(snapshot.networks[NET]) == 1350


def test_a_network_without_a_subnet_is_not_realised():
    assert snapshot.network_of(pb.Network(id="x")) is None


def test_endpoint_record_round_trip():
    endpoint = _endpoint(3, ready=False)
    assert gossip_records.decode_endpoints(_records([endpoint])) == {endpoint.task: endpoint}


@given(st.binary(max_size=60))
def test_garbage_records_are_left_out(garbage):
    assert gossip_records.decode_endpoints({(SELF, "ep/t"): garbage}) == {}
    assert 576 <= gossip_records.decode_mtu(garbage) <= 65535


def test_a_task_said_by_two_nodes_belongs_to_the_ready_one():
    a, b = _endpoint(1, ready=False), _endpoint(2)
    b = Endpoint(**{f: getattr(b, f) for f in b.__dataclass_fields__} | {"task": a.task})
    for order in ([a, b], [b, a]):
        assert gossip_records.decode_endpoints(_records(order))[a.task].node == "n2"
