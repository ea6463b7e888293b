"""What should be on overlays: of changes what it is from scratch, and the same objects else."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import changing_cluster as world
from hypothesis import given

from meshnet.model.ids import NodeId, TaskId, Vni, mac_of
from meshnet.model.paths import mtu_of
from meshnet.model.shared_map import SharedMap
from meshnet.model.snapshot import Endpoint, Network, Node, Sandbox, Snapshot
from meshnet.netstate.values import NeighbourOn
from meshnet.overlay.desired import BRIDGE, VXLAN, Overlays, netns_name

DIR = Path("/run/netns")
NOBODYS = IPv4Address("192.0.2.99")


@given(world.histories())
def test_what_is_kept_up_is_what_is_made_from_scratch(history: list[Snapshot]):
    overlays = Overlays(DIR)
    for snapshot in history:
        kept = overlays.of(snapshot)
        assert kept == Overlays(DIR).of(snapshot)
        assert overlays.of(replace(snapshot, revision=99)) is kept
        for network in snapshot.networks.values():
            spec = kept.specs.get(str(DIR / netns_name(network.id)))
            if spec is None:
                continue
            remote = snapshot.remote_macs(network.id)
            expected: set[NeighbourOn] = {(VXLAN, at, mac) for mac, (at, _) in remote.items()}
            assert spec.dual is (bool(network.subnets6) and mtu_of(snapshot, network) >= 1280)
            if spec.dual:
                expected |= {
                    (VXLAN, second, mac_of(each.addresses[network.id]))
                    for each in snapshot.endpoints.values()
                    if mac_of(each.addresses.get(network.id, NOBODYS)) in remote
                    and (second := each.addresses6.get(network.id)) is not None
                }
            if spec.dual and network.ingress:
                expected |= {
                    (VXLAN, node.ingress_address6, mac_of(node.ingress_address))
                    for node in snapshot.nodes.values()
                    if node.id != snapshot.self_id
                    and node.ingress_address is not None
                    and node.ingress_address6 is not None
                }
            assert spec.neighbours == expected
            rows = {(VXLAN, mac, to) for mac, (_, vtep) in remote.items() for to in (vtep, None)}
            assert spec.fdb == rows
            assert spec.bridges == {BRIDGE: mtu_of(snapshot, network)}


def test_a_network_that_becomes_dual_stack_has_rows_for_what_was_there_before():
    net = Network(
        world.NETS[1], "net", Vni(4097), IPv4Network("10.0.1.0/24"), IPv4Address("10.0.1.1")
    )
    here, there = world.TASKS[:2]
    away = Node(NodeId("h2"), "h2", IPv4Address("192.0.2.2"))
    itself = Node(world.SELF, "h1", IPv4Address("192.0.2.1"))
    box = Sandbox(here, "/run/a", ((net.id, IPv4Interface("10.0.1.10/24")),), None)
    task = Endpoint(
        there, "web.1", away.id, world.SERVICES[0], {net.id: IPv4Address("10.0.1.11")},
        addresses6={net.id: IPv6Address("fd00::11")},
    )  # fmt: skip
    one = Snapshot(
        1,
        world.SELF,
        {itself.id: itself, away.id: away},
        {net.id: net},
        {},
        SharedMap({there: task}),
        {here: box},
    )
    both = replace(
        one, revision=2, networks={net.id: replace(net, subnets6=(IPv6Network("fd00::/64"),))}
    )
    overlays = Overlays(DIR)
    rows = [
        {at for _, at, _ in overlays.of(each).specs[str(DIR / netns_name(net.id))].neighbours}
        for each in (one, both, one)
    ]
    assert [IPv6Address("fd00::11") in each for each in rows] == [False, True, False]


def test_a_container_learns_of_subnets_that_its_network_has_now():
    network = Network(
        world.DUAL, "net", Vni(4096), IPv4Network("10.0.2.0/24"), IPv4Address("10.0.2.1")
    )
    task, at = TaskId("t".ljust(25, "0")), IPv4Interface("10.0.2.10/24")
    before = Snapshot(
        1,
        world.SELF,
        nodes={world.SELF: Node(world.SELF, "h", IPv4Address("192.168.50.11"))},
        networks={network.id: network},
        sandboxes={task: Sandbox(task, "/run/t", ((network.id, at),), None)},
    )
    second = IPv4Network("10.1.2.0/24")
    after = replace(before, networks={network.id: replace(network, more=(second,))})
    overlays = Overlays(DIR)
    first, then = overlays.of(before).specs["/run/t"], overlays.of(after).specs["/run/t"]
    assert second in {route.destination for route in then.routes - first.routes}


@given(world.histories())
def test_an_endpoint_that_changes_its_readiness_changes_nothing(history: list[Snapshot]):
    overlays = Overlays(DIR)
    before = overlays.of(history[-1])
    put = {
        task: replace(each, ready=not each.ready) for task, each in history[-1].endpoints.items()
    }
    assert overlays.of(replace(history[-1], endpoints=put)) is before


@given(world.histories())
def test_an_endpoint_that_comes_is_rows_on_its_networks_and_nothing_else(history: list[Snapshot]):
    overlays = Overlays(DIR)
    now = history[-1]
    ways = {n: replace(node, underlay_mtu=1500, narrow=()) for n, node in now.nodes.items()}
    now = replace(now, nodes=ways)  # what is narrow between those who are there is another test's
    before = overlays.of(now)
    nodes = [node for node in now.nodes.values() if node.id != world.SELF]
    networks = [each for each in world.NETS if str(DIR / netns_name(each)) in before.specs]
    if not nodes or not networks:
        return
    come = replace(
        next(iter(history[0].endpoints.values())),
        task=TaskId("new"),
        node=nodes[0].id,
        addresses={networks[-1]: IPv4Address("10.9.9.9")},
    )
    after = overlays.of(replace(now, endpoints={**now.endpoints, come.task: come}))
    path = str(DIR / netns_name(networks[-1]))
    assert {p for p, spec in after.specs.items() if spec is not before.specs[p]} == {path}
    assert after.veths is before.veths
    mac = mac_of(IPv4Address("10.9.9.9"))
    assert after.specs[path].fdb - before.specs[path].fdb == {
        (VXLAN, mac, nodes[0].vtep),
        (VXLAN, mac, None),
    }
