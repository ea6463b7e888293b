"""Overlay networks in the real kernel: two hosts, containers on both, packets between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from socket import AF_INET
from typing import Any

import pytest
from overlay_bed import INGRESS, NET, NODES, PREFIX, OverlayBed, settle, sh, snapshot, two_hosts

from meshnet.errors import KernelError
from meshnet.gwbridge.operations import GwbridgeOperations
from meshnet.kernel.iproute import iproute
from meshnet.model.ids import TaskId
from meshnet.model.since import Since
from meshnet.model.snapshot import Snapshot
from meshnet.overlay.desired import netns_name, veth_name
from meshnet.overlay.operations import OverlayOperations, plan
from meshnet.reconcile import Operations

pytestmark = pytest.mark.netns


def mtu_of(path, link):
    with iproute(path) as ip:
        return ip.get_links(ifname=link)[0].get("mtu")


def main_table(path):
    """Destinations of the routes of the main table; None: the default route."""
    with iproute(path) as ip:
        return [route.get("dst") for route in ip.get_routes(table=254, family=AF_INET)]


def lookups(name):
    """All rules and routes of a namespace as ip prints them, but for broadcasts."""
    shown = sh(f"ip -n {name} rule; ip -n {name} -4 route show table all")
    return sorted(line.strip() for line in shown.splitlines() if "broadcast" not in line)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[OverlayBed]:
    with two_hosts(tmp_path) as made:
        yield made


@pytest.fixture
def overlays(bed: OverlayBed) -> Iterator[dict[int, OverlayOperations]]:
    made = {n: OverlayOperations(bed.host(n), bed.netns_dir(n)) for n in (1, 2)}
    yield made
    for operations in made.values():
        operations.close()


def test_containers_on_two_hosts_reach_each_other(bed, overlays):
    tasks = {11: 1, 12: 1, 21: 2}
    for number, operations in overlays.items():
        settle(operations, snapshot(bed, number, tasks))
    assert bed.pings("c11", "10.0.1.12"), "same host"
    assert bed.pings("c11", "10.0.1.21"), "across VXLAN"
    assert bed.pings("c21", "10.0.0.11"), "on the ingress network too"
    assert bed.pings("h1", "10.0.0.21"), "from the host's ingress gateway"
    assert bed.pings("h2", "10.0.0.201"), "from gateway to gateway"
    assert not bed.pings("c11", "10.0.1.99"), "an address that nobody has"
    assert mtu_of(bed.container("11"), "eth1") == 1450


def test_containers_in_different_subnets_of_a_network_reach_each_other(bed, overlays):
    """Here and on the other host, also when the way to the other subnet was taken away."""
    second = {TaskId(f"task{task:021d}"[::-1]): f"10.8.0.{task}" for task in (12, 22)}

    def in_two(number):
        made = snapshot(bed, number, {11: 1, 12: 1, 21: 2, 22: 2})
        net = replace(made.networks[NET], more=(IPv4Network("10.8.0.0/24"),))
        moved = {task: IPv4Address(address) for task, address in second.items()}
        endpoints = {
            task: replace(each, addresses={**each.addresses, NET: moved[task]})
            for task, each in made.endpoints.items()
            if task in moved
        }
        sandboxes = {
            task: replace(
                each, networks=(each.networks[0], (NET, IPv4Interface((moved[task], 24))))
            )
            for task, each in made.sandboxes.items()
            if task in moved
        }
        return replace(
            made,
            networks={**made.networks, NET: net},
            endpoints={**made.endpoints, **endpoints},
            sandboxes={**made.sandboxes, **sandboxes},
        )

    for number, operations in overlays.items():
        settle(operations, in_two(number))
    assert bed.pings("c11", "10.8.0.12"), "same host"
    assert bed.pings("c11", "10.8.0.22"), "across VXLAN"
    assert bed.pings("c22", "10.0.1.11"), "from the second subnet"
    assert bed.pings("c12", "10.8.0.22"), "within it"
    sh(f"ip -n {PREFIX}-c11 route del 10.8.0.0/24")
    assert not bed.pings("c11", "10.8.0.22")
    assert settle(overlays[1], in_two(1)) == 1
    assert bed.pings("c11", "10.8.0.22")


def test_a_round_gives_way_before_each_namespace_that_it_reads_or_changes(bed):
    asked = []
    host, tasks = bed.host(1), {11: 1, 12: 1}
    every: tuple[Operations[Any, Any, Any], ...] = (
        OverlayOperations(host, bed.netns_dir(1), lambda: asked.append(True)),
        GwbridgeOperations(host, lambda: asked.append(True)),
    )
    for operations in every:
        wanted = operations.desired(snapshot(bed, 1, tasks))
        observed = operations.observe(wanted)
        assert len(asked) >= len(tasks), operations.name
        asked.clear()
        changes = operations.plan(wanted, observed, prune=True)
        assert changes
        with suppress(ExceptionGroup):  # docker_gwbridge itself is not there
            operations.apply(changes)
        assert asked, operations.name
        operations.close()
        asked.clear()


def test_a_change_reads_what_it_concerns_and_leaves_what_a_whole_look_would(bed):
    read: list[bool] = []
    operations = OverlayOperations(bed.host(1), bed.netns_dir(1), lambda: read.append(True))
    tasks = {11: 1, 12: 1, 13: 1, 21: 2}
    settle(operations, snapshot(bed, 1, tasks))
    was = operations.desired(snapshot(bed, 1, tasks))

    def follow(disturbed: frozenset[str | None] = frozenset()) -> int:
        """By what is known; the number of namespaces that were read for it."""
        nonlocal was
        wanted = operations.desired(snapshot(bed, 1, tasks))
        read.clear()
        observed = operations.observe(wanted, Since(was, disturbed))
        namespaces = len(read)
        operations.apply(operations.plan(wanted, observed, prune=True))
        assert plan(wanted, whole.observe(wanted), prune=True) == []
        was = wanted
        return namespaces

    whole = OverlayOperations(bed.host(1), bed.netns_dir(1))
    tasks[22] = 2
    assert follow() == 0, "rows of what is known"
    del tasks[21]
    assert follow() == 0
    tasks[14] = 1
    assert follow() == 1, "the container; its networks are known"
    tasks[21] = 2
    assert follow() == 3, "where links were made since"
    tasks[23] = 2
    assert follow() == 0
    del tasks[13]
    follow()
    broken = bed.container("12")
    follow(frozenset({broken}))  # it is known, however it was read
    with iproute(broken) as ip:
        ip.link("del", index=ip.link_lookup(ifname="eth1")[0])
    follow(frozenset({broken}))
    assert bed.pings("c12", "10.0.1.11")
    operations.close()
    whole.close()


def test_a_removed_endpoint_is_in_no_table_any_more(bed, overlays):
    tasks = {11: 1, 21: 2, 22: 2}
    settle(overlays[1], snapshot(bed, 1, tasks))
    assert settle(overlays[1], snapshot(bed, 1, tasks)) == 0
    del tasks[22]
    settle(overlays[1], snapshot(bed, 1, tasks))
    path = bed.netns_dir(1) / netns_name(NET)
    with iproute(str(path)) as ip:
        macs = {row.get("lladdr") for row in ip.fdb("dump")}
        neighbours = {row.get("dst") for row in ip.get_neighbours(family=AF_INET)}
    assert "02:42:0a:00:01:15" in macs
    assert "02:42:0a:00:01:16" not in macs
    assert "10.0.1.21" in neighbours
    assert "10.0.1.22" not in neighbours


def test_what_somebody_broke_is_repaired(bed, overlays):
    tasks = {11: 1, 21: 2}
    wanted = {n: snapshot(bed, n, tasks) for n in (1, 2)}
    for number, operations in overlays.items():
        settle(operations, wanted[number])
    path = bed.netns_dir(1) / netns_name(NET)
    task = next(iter(wanted[1].sandboxes))
    for damage in (
        "ip neigh flush nud permanent dev vx0; bridge fdb del 02:42:0a:00:01:15 dev vx0 master",
        "bridge fdb del 02:42:0a:00:01:15 dev vx0 self",
        "ip link set br0 down",
        "ip link del vx0",
        "ip link del br0",
        f"ip link del {veth_name(task)}",
        f"ip link set {veth_name(task)} nomaster",
        f"ip link set {veth_name(task)} mtu 1280",
        "ip link set vx0 mtu 1280",
        "ip link set br0 mtu 1280",
    ):
        sh(f"nsenter --net={path} sh -c '{damage}'")
        assert settle(overlays[1], wanted[1]) > 0, damage
        assert bed.pings("c11", "10.0.1.21"), damage
    before = lookups(f"{PREFIX}-c11")
    for damage in (
        "ip addr flush dev eth1",
        "ip link set eth1 down",
        "ip link set eth1 address 02:42:00:00:00:01",
        "ip rule del priority 100",
        "ip route flush table 100",
        "ip link del eth0",
        "ip link set eth0 down",
        "ip route flush table main",
        "ip route del 10.0.1.0/24 dev eth1",
        "ip rule flush; ip rule add priority 32766 lookup 253",
        "ip rule flush",
        "ip rule del priority 0",
        "ip route flush table local",
        "ip route flush table main; ip route flush table local; ip rule flush",
        "ip route replace 10.0.1.0/24 dev eth1 src 10.0.0.11",
        "ip link set eth1 mtu 1280",
        "ip link set lo down",
        "ip addr flush dev lo",
        "sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
        "sysctl -qw net.ipv4.conf.all.rp_filter=1",
        "sysctl -qw net.ipv4.tcp_fwmark_accept=0",
    ):
        sh(f"ip netns exec {PREFIX}-c11 sh -c '{damage}'")
        assert settle(overlays[1], wanted[1]) > 0, damage
        assert bed.pings("c11", "10.0.1.21"), damage
        assert bed.pings("c11", "10.0.0.21"), damage
        assert bed.pings("c11", "127.0.0.11"), damage
        assert mtu_of(bed.container("11"), "eth1") == 1450, damage
        if "253" not in damage:
            assert lookups(f"{PREFIX}-c11") == before, damage


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        ("bridge link set dev {12} bcast_flood off", "10.0.1.12"),
        ("bridge link set dev {11} isolated on; bridge link set dev {12} isolated on", "10.0.1.12"),
        ("bridge link set dev {11} isolated on; bridge link set dev vx0 isolated on", "10.0.1.21"),
        ("bridge link set dev {12} state 0", "10.0.1.12"),
        ("bridge link set dev vx0 state 0", "10.0.1.21"),
        ("bridge link set dev {12} learning off flood off; ip link set {12} down;"
         "ip link set {12} up", "10.0.1.12"),
        ("bridge link set dev {11} locked on; ip link set {11} down; ip link set {11} up",
         "10.0.1.21"),
        ("tc qdisc add dev vx0 root pfifo limit 0", "10.0.1.21"),
        ("tc qdisc add dev {12} root pfifo limit 0", "10.0.1.12"),
    ],
)  # fmt: skip
def test_a_port_that_somebody_set_otherwise_lets_through_again(bed, overlays, damage, lost):
    wanted = {n: snapshot(bed, n, {11: 1, 12: 1, 21: 2}) for n in (1, 2)}
    for number, operations in overlays.items():
        settle(operations, wanted[number])
    assert bed.pings("c11", lost)
    path = bed.netns_dir(1) / netns_name(NET)
    ports = {str(n): veth_name(TaskId(f"task{n:021d}"[::-1])) for n in (11, 12)}
    for number, name in ports.items():
        damage = damage.replace(f"{{{number}}}", name)
    sh(f"nsenter --net={path} sh -c '{damage}'")
    bed.inside("c11", "ip neigh flush dev eth1")
    assert not bed.pings("c11", lost), "nothing is shown by what does no harm"
    assert settle(overlays[1], wanted[1]) > 0
    assert bed.pings("c11", lost)
    assert settle(overlays[1], wanted[1]) == 0


def test_flags_of_a_port_that_do_no_harm_by_themselves_are_put_back_too(bed, overlays):
    wanted = snapshot(bed, 1, {11: 1, 21: 2})
    settle(overlays[1], wanted)
    path, task = bed.netns_dir(1) / netns_name(NET), next(iter(wanted.sandboxes))

    def shown():
        lines = sh(f"nsenter --net={path} bridge -d link show").splitlines()
        return [line for line in lines if "hairpin" in line]

    before = shown()
    for port in ("vx0", veth_name(task)):
        for flag in ("hairpin on", "mcast_flood off", "neigh_suppress on", "isolated on"):
            sh(f"nsenter --net={path} bridge link set dev {port} {flag}")
            assert settle(overlays[1], wanted) == 1, (port, flag)
            assert shown() == before
    sh(f"nsenter --net={path} bridge link set dev vx0 learning on")
    assert settle(overlays[1], wanted) == 1
    assert shown() == before


def test_a_container_s_main_table_that_was_flushed_is_whole_again(bed, overlays):
    gateway = GwbridgeOperations(bed.host(1))
    wanted = snapshot(bed, 1, {11: 1, 21: 2})
    settle(overlays[2], snapshot(bed, 2, {11: 1, 21: 2}))
    sh(
        f"ip -n {PREFIX}-h1 link add docker_gwbridge type bridge;"
        f"ip -n {PREFIX}-h1 addr add 172.18.0.1/16 dev docker_gwbridge;"
        f"ip -n {PREFIX}-h1 link set docker_gwbridge up"
    )
    try:
        for operations in (overlays[1], gateway):
            settle(operations, wanted)
        assert len(main_table(bed.container("11"))) == 4, "three links and a way out"
        for damage in ("ip route flush table main", "ip rule flush; ip route flush table main"):
            bed.inside("c11", damage)
            for operations in (gateway, overlays[1]):  # whichever comes first
                settle(operations, wanted)
            assert len(main_table(bed.container("11"))) == 4
            assert bed.pings("c11", "10.0.1.21")
            assert bed.pings("c11", "172.18.0.1")
    finally:
        gateway.close()


def test_one_namespace_that_cannot_be_read_holds_up_no_other(bed, overlays):
    wanted = snapshot(bed, 1, {11: 1, 12: 1, 21: 2})
    settle(overlays[2], snapshot(bed, 2, {11: 1, 12: 1, 21: 2}))
    (bed.directory / "no-netns").symlink_to("no-netns")
    broken, whole = sorted(wanted.sandboxes)
    other = replace(wanted.sandboxes[broken], netns=str(bed.directory / "no-netns"))
    wanted = replace(wanted, sandboxes={**wanted.sandboxes, broken: other})
    desired = overlays[1].desired(wanted)
    with pytest.raises(ExceptionGroup) as caught:
        overlays[1].apply(overlays[1].plan(desired, overlays[1].observe(desired), prune=True))
    (group,) = caught.value.exceptions
    assert isinstance(group, ExceptionGroup)
    (error,) = group.exceptions
    assert isinstance(error, KernelError)
    assert error.about == {(other.netns, "")}
    assert bed.pings("c12" if whole.startswith("21") else "c11", "10.0.1.21")


def test_a_network_goes_with_its_last_container_and_ingress_stays(bed, overlays):
    settle(overlays[1], snapshot(bed, 1, {11: 1, 21: 2}))
    settle(overlays[1], snapshot(bed, 1, {21: 2}))
    assert [p.name for p in bed.netns_dir(1).iterdir()] == [netns_name(INGRESS)]
    assert settle(overlays[1], snapshot(bed, 1, {11: 1, 21: 2})) > 0
    assert "eth1" in bed.inside("c11", "ip link").stdout


def test_a_container_that_is_off_its_last_network_has_no_interface_there_any_more(bed, overlays):
    on = snapshot(bed, 1, {11: 1, 21: 2})
    settle(overlays[1], on)
    off = {task: replace(box, networks=()) for task, box in on.sandboxes.items()}
    wanted = overlays[1].desired(replace(on, sandboxes=off))
    for _ in range(5):  # the kernel's cleanup of a namespace takes its time, not always the same
        settle(overlays[1], on)
        overlays[1].apply(overlays[1].plan(wanted, overlays[1].observe(wanted), prune=True))
        assert "eth" not in bed.inside("c11", "ip link").stdout


def test_nothing_is_removed_before_the_snapshot_is_complete(bed, overlays):
    full = snapshot(bed, 1, {11: 1, 21: 2})
    settle(overlays[1], full)
    empty = Snapshot(2, NODES[1], complete=False)
    desired = overlays[1].desired(empty)
    assert overlays[1].plan(desired, overlays[1].observe(desired), prune=False) == []
    settle(overlays[1], replace(empty, complete=True))
    assert not list(bed.netns_dir(1).iterdir())
    assert "mn-ingress" not in bed.inside("h1", "ip link").stdout


def test_a_container_that_ended_is_no_error(bed, overlays):
    wanted = snapshot(bed, 1, {11: 1, 12: 1})
    settle(overlays[1], wanted)
    sh(f"ip netns del {PREFIX}-c12")
    desired = overlays[1].desired(wanted)
    overlays[1].apply(overlays[1].plan(desired, overlays[1].observe(desired), prune=True))
    Path(f"/run/netns/{PREFIX}-c12").touch()
    try:
        overlays[1].apply(overlays[1].plan(desired, overlays[1].observe(desired), prune=True))
    finally:
        Path(f"/run/netns/{PREFIX}-c12").unlink()


def test_a_restarted_process_changes_nothing(bed, overlays):
    wanted = snapshot(bed, 1, {11: 1, 21: 2})
    settle(overlays[1], wanted)
    again = OverlayOperations(bed.host(1), bed.netns_dir(1))
    try:
        assert settle(again, wanted) == 0
    finally:
        again.close()


def test_a_route_of_the_host_is_not_taken_by_the_ingress_network(bed, overlays):
    wanted = snapshot(bed, 1, {11: 1, 21: 2})
    route = "ip route {} 10.0.0.0/16 via 10.99.0.2"
    assert bed.inside("h1", route.format("add")).returncode == 0
    changes: list[object] = []
    for _ in range(2):
        desired = overlays[1].desired(wanted)
        changes = overlays[1].plan(desired, overlays[1].observe(desired), prune=True)
        with pytest.raises(ExceptionGroup) as caught:
            overlays[1].apply(changes)
        (error,) = caught.value.exceptions
        assert "ingress network 10.0.0.0/24 overlaps 10.0.0.0/16 dev " in str(error)
        assert "via 10.99.0.2" in bed.inside("h1", "ip route get 10.0.0.9").stdout
    assert len(changes) == 1, "everything else is there"
    assert bed.inside("h1", route.format("del")).returncode == 0
    settle(overlays[1], wanted)
    assert bed.inside("h1", route.format("add")).returncode == 0
    assert settle(overlays[1], wanted) == 0, "what is made stays"
    assert bed.inside("h1", route.format("del")).returncode == 0


def test_docker_gwbridge_is_the_way_out(bed):
    sh(
        f"ip -n {PREFIX}-h1 link add docker_gwbridge type bridge;"
        f"ip -n {PREFIX}-h1 addr add 172.18.0.1/16 dev docker_gwbridge;"
        f"ip -n {PREFIX}-h1 link set docker_gwbridge up;"
        f"ip netns exec {PREFIX}-h1 sysctl -qw net.ipv4.ip_forward=1;"
        f"ip -n {PREFIX}-h2 route add 172.18.0.0/16 via 10.99.0.1;"
        f"ip netns exec {PREFIX}-h1 iptables -P FORWARD DROP"
    )
    operations = GwbridgeOperations(bed.host(1))
    wanted = snapshot(bed, 1, {11: 1, 12: 1})
    try:
        settle(operations, wanted)
        assert bed.pings("c11", "172.18.0.1")
        assert bed.pings("c11", "10.99.0.2"), "through a FORWARD chain that drops"
        for damage in ("iptables -F; iptables -P FORWARD DROP", "iptables -D DOCKER-USER 1"):
            assert bed.inside("h1", damage).returncode == 0
            assert settle(operations, wanted) == 1, damage
            assert bed.pings("c11", "10.99.0.2"), damage
        for damage in ("ip addr flush dev docker_gwbridge", "ip link set docker_gwbridge down"):
            assert bed.inside("h1", damage).returncode == 0
            assert settle(operations, wanted) == 1, damage
            assert bed.pings("c11", "10.99.0.2"), damage
        again = (
            "ip link del docker_gwbridge; ip link add docker_gwbridge type bridge;"
            "ip link set docker_gwbridge up"
        )
        assert bed.inside("h1", again).returncode == 0
        settle(operations, wanted)
        assert bed.pings("c11", "10.99.0.2"), "the new bridge has the MAC the container knows"
        assert settle(operations, snapshot(bed, 1, {11: 1})) == 1
        with iproute(bed.host(1)) as ip:
            ends = [link.get("ifname") for link in ip.get_links(kind="veth")]
        assert len([name for name in ends if name.startswith("g")]) == 1
        settle(operations, replace(wanted, sandboxes={}, gwbridge=None))
        assert "meshnet" not in bed.inside("h1", "iptables -S DOCKER-USER").stdout
    finally:
        operations.close()
