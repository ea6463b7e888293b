"""Dual stack overlays in the real kernel: packets of IPv6 between containers of two hosts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from overlay_bed import NET, NODES, PREFIX, OverlayBed, settle, sh, snapshot, two_hosts

from meshnet.kernel.nft import NftOperations
from meshnet.model.ids import ServiceId
from meshnet.model.snapshot import Service
from meshnet.overlay.desired import netns_name
from meshnet.overlay.operations import OverlayOperations
from meshnet_lb.rules import rulesets

pytestmark = pytest.mark.netns
TASKS = {11: 1, 12: 1, 21: 2}


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[OverlayBed]:
    with two_hosts(tmp_path) as made:
        for task in TASKS:  # as the engine makes them
            made.container(str(task))
            off = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1"
            assert made.inside(f"c{task}", off).returncode == 0
        yield made


@pytest.fixture
def overlays(bed: OverlayBed) -> Iterator[dict[int, OverlayOperations]]:
    made = {n: OverlayOperations(bed.host(n), bed.netns_dir(n)) for n in (1, 2)}
    for number, operations in made.items():
        settle(operations, snapshot(bed, number, TASKS, dual=True))
    yield made
    for operations in made.values():
        operations.close()


def test_containers_reach_each_other_by_ipv6(bed, overlays):
    assert bed.pings("c11", "fd00:1::12"), "same host"
    assert bed.pings("c11", "fd00:2::21"), "across VXLAN"
    assert bed.pings("c21", "fd00:2::21"), "itself"
    assert bed.pings("c21", "::1")
    assert bed.pings("c11", "10.0.1.21"), "by IPv4 as ever"
    assert not bed.pings("c11", "fd00:1::99"), "an address that nobody has"
    shown = sh(f"ip -n {PREFIX}-c11 -6 addr show dev eth1 scope global")
    assert "fd00:1::11/64 scope global nodad" in shown
    assert "tentative" not in shown
    assert not sh(f"ip -n {PREFIX}-c11 -6 addr show dev eth0"), "the ingress network is of IPv4"


@pytest.mark.parametrize(
    "damage",
    [
        "ip -n {c11} addr del fd00:1::11/64 dev eth1",
        "ip -n {c11} addr add fd00:1::77/64 dev eth1",
        "ip -n {c11} -6 route del fd00:1::/64 dev eth1",
        "ip -n {c11} -6 route del local fd00:1::11 dev eth1 table local",
        "ip -n {c11} -6 route del fd00:2::/64 dev eth1",
        "ip -n {c11} link set eth1 down",
        "ip -n {c11} link del eth1",
        "ip netns exec {c11} sysctl -qw net.ipv6.conf.eth1.disable_ipv6=1",
        "ip netns exec {c11} sysctl -qw net.ipv6.conf.lo.disable_ipv6=1",
        "ip netns exec {c11} sysctl -qw net.ipv6.conf.eth1.accept_ra=2",
        "nsenter --net={net} ip -6 neigh del fd00:2::21 dev vx0",
        "nsenter --net={net} ip -6 neigh replace fd00:2::21 lladdr 02:00:00:00:00:09 dev vx0",
        "nsenter --net={net} ip -6 neigh add fd00:1::66 lladdr 02:00:00:00:00:09 dev vx0",
        "nsenter --net={net} ip link del vx0",
        "nsenter --net={net} sysctl -qw net.ipv6.conf.vx0.disable_ipv6=1",
    ],
)
def test_what_is_damaged_is_repaired(bed, overlays, damage):
    wanted = snapshot(bed, 1, TASKS, dual=True)
    assert settle(overlays[1], wanted) == 0
    sh(damage.format(c11=f"{PREFIX}-c11", net=bed.netns_dir(1) / netns_name(NET)))
    assert settle(overlays[1], wanted) > 0
    sh(f"ip -n {PREFIX}-c11 -6 neigh flush dev eth1")
    assert bed.pings("c11", "fd00:2::21")
    assert bed.pings("c11", "fd00:1::11"), "itself"


def test_a_virtual_ip_leads_to_the_other_host_and_back_after_its_table_was_flushed(bed, overlays):
    wanted = snapshot(bed, 1, TASKS, dual=True)
    vips = {NET: IPv4Address("10.0.1.200")}, {NET: IPv6Address("fd00:1::200")}
    service = Service(ServiceId("svc"), "web", vips=vips[0], vips6=vips[1])
    endpoints = {
        name: replace(each, ready=each.node == NODES[2]) for name, each in wanted.endpoints.items()
    }
    wanted = replace(wanted, services={service.id: service}, endpoints=endpoints)
    tables = NftOperations([rulesets], host_netns=bed.host(1))
    try:
        assert not bed.pings("c11", "fd00:1::200")
        settle(tables, wanted)
        assert bed.pings("c11", "fd00:1::200")
        assert bed.pings("c11", "10.0.1.200")
        sh(f"ip netns exec {PREFIX}-c11 nft delete table ip6 meshnet")
        assert not bed.pings("c11", "fd00:1::200")
        assert settle(tables, wanted) == 1
        assert bed.pings("c11", "fd00:1::200")
        plain = replace(
            wanted, sandboxes={n: replace(b, networks6=()) for n, b in wanted.sandboxes.items()}
        )
        settle(tables, plain)
        assert "ip6" not in sh(f"ip netns exec {PREFIX}-c11 nft list tables")
    finally:
        tables.close()


def test_an_endpoint_that_left_has_no_row_of_either_family(bed, overlays):
    settle(overlays[1], snapshot(bed, 1, {11: 1, 12: 1}, dual=True))
    shown = sh(f"nsenter --net={bed.netns_dir(1) / netns_name(NET)} ip neigh show nud permanent")
    assert shown == ""
