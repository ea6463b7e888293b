"""The endpoints of a node's own containers, out of its Snapshot."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

from meshnet.model.ids import NetworkId, NodeId, TaskId
from meshnet.model.snapshot import Endpoint, Sandbox, Snapshot
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane import overlays

SELF, OTHER = NodeId("n1"), NodeId("n2")
NET, INGRESS, GWBRIDGE = NetworkId("net1"), NetworkId("ing1"), NetworkId("gw1")
HERE = Endpoint(
    task=TaskId("t1"),
    name="web.1.t1",
    node=SELF,
    service=None,
    addresses={NET: IPv4Address("10.0.1.3"), INGRESS: IPv4Address("10.0.0.3")},
    container="a" * 64,
    hostname="web-1",
    aliases={NET: ("w",)},
)
SANDBOX = Sandbox(
    task=TaskId("t1"),
    netns="/run/docker/netns/0123456789ab",
    networks=(
        (INGRESS, IPv4Interface("10.0.0.3/24")),
        (NET, IPv4Interface("10.0.1.3/25")),
    ),
    gateway_address=IPv4Interface("172.18.0.3/16"),
)
SNAPSHOT = Snapshot(1, SELF, endpoints={HERE.task: HERE}, sandboxes={SANDBOX.task: SANDBOX})


def test_a_container_has_an_endpoint_on_each_network_in_the_order_of_its_interfaces():
    ingress, net = overlays.local_endpoints(SNAPSHOT)
    assert (ingress.network, net.network) == (INGRESS, NET)
    assert net.container == HERE.container
    assert (net.name, net.hostname, net.aliases) == ("web.1.t1", "web-1", ("w",))
    assert (str(net.address), net.mac) == ("10.0.1.3/25", "02:42:0a:00:01:03")
    assert ingress.aliases == ()


def test_what_is_not_here_or_has_no_container_has_none():
    for there in (replace(HERE, node=OTHER), replace(HERE, container="")):
        assert not [*overlays.local_endpoints(replace(SNAPSHOT, endpoints={HERE.task: there}))]
    assert not [*overlays.local_endpoints(replace(SNAPSHOT, sandboxes={}))]


def test_ids_of_endpoints_follow_from_network_and_container():
    ids = [each.id for each in overlays.local_endpoints(SNAPSHOT)]
    assert len({*ids}) == 2
    assert all(len(each) == 64 and int(each, 16) >= 0 for each in ids)
    assert ids == [each.id for each in overlays.local_endpoints(replace(SNAPSHOT, revision=2))]
    assert ids[1] == overlays.endpoint_id(NET, HERE.container)


def test_the_way_out_is_an_endpoint_on_the_engines_bridge_alone():
    (way,) = overlays.gateway_endpoints(SNAPSHOT, GWBRIDGE)
    assert (way.name, str(way.address)) == ("gateway_0123456789ab", "172.18.0.3/16")
    closed = replace(SANDBOX, gateway_address=None)
    shut = replace(SNAPSHOT, sandboxes={SANDBOX.task: closed})
    assert not [*overlays.gateway_endpoints(shut, GWBRIDGE)]


def test_networks_are_named_as_the_managers_name_them():
    network = pb.Network(id=NET)
    network.spec.name = "discovery"
    bare = pb.Network(id="new")
    network.ipam_options.configs.add(subnet="10.0.1.0/24")
    known = overlays.overlays(SNAPSHOT, NodeState.of(pb.Assignments(networks=[network, bare])))
    assert [*known.networks] == [NET]  # the other one has no subnet yet
    assert known.name_of(NET) == "discovery"
    assert known.name_of(INGRESS) == INGRESS
    assert [each.container for each in known.on(NET)] == [HERE.container]


def test_what_is_known_is_made_anew_when_snapshot_or_assignments_are_new():
    latest, assignments = overlays.Known(), NodeState.of(pb.Assignments())
    first = latest.of(SNAPSHOT, assignments)
    assert latest.of(SNAPSHOT, assignments) is first
    assert first.endpoints
    gone = latest.of(replace(SNAPSHOT, sandboxes={}), assignments)
    assert not gone.endpoints
    told = latest.of(SNAPSHOT, NodeState.of(pb.Assignments(tasks=[pb.Task(id="t1")])))
    assert (gone.unused, told.unused) == (True, False)
    assert [*told.tasks] == ["t1"]
