"""The way of a connection, read from the kernel of two hosts; each damage marks its step."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from overlay_bed import INGRESS, NET, PREFIX, settle, sh, snapshot, two_hosts

from meshnet.kernel import flow_reader, netns
from meshnet.kernel.nft import NftOperations
from meshnet.model.ids import ServiceId, mac_of
from meshnet.model.policy import Policy
from meshnet.model.snapshot import PublishedPort, Service
from meshnet.overlay.desired import netns_name, veth_name
from meshnet.overlay.operations import OverlayOperations
from meshnet_control.explain import arrival, departure
from meshnet_control.node import looking
from meshnet_lb import rules
from meshnet_lb.policies import mark_text, memory_map, slots_map
from meshnet_lb.service import chain_name

pytestmark = pytest.mark.netns

VIP = IPv4Address("10.0.1.200")
VIP6 = IPv6Address("fd00:1::200")
SVC = ServiceId("svc")
PORT = PublishedPort("tcp", 80, 8080)
TASKS = {11: 1, 21: 2}


class Hosts:
    """Two hosts, a container on each that is a task of one service, and what each host reads."""

    def __init__(self, bed, operations, *, dual=False):
        self.bed, self._operations = bed, operations
        self.snapshots = {}
        for number in (1, 2):
            made = snapshot(bed, number, TASKS, dual=dual, mesh6=dual)
            second = {NET: VIP6} if dual else {}
            service = Service(SVC, "web", vips={NET: VIP}, vips6=second, ports=(PORT,))
            boxes = {t: replace(box, ports=(PORT,)) for t, box in made.sandboxes.items()}
            made = replace(made, services={SVC: service}, sandboxes=boxes)
            self.snapshots[number] = made
            for each in operations[number]:
                settle(each, made)
        self.tasks = {
            number: next(iter(made.sandboxes.values())) for number, made in self.snapshots.items()
        }

    def choose_by(self, policy):
        for number, made in self.snapshots.items():
            services = {SVC: replace(made.services[SVC], policy=policy)}
            self.snapshots[number] = replace(made, services=services)
            settle(self._operations[number][1], self.snapshots[number])

    def look(self, number, networks):
        box = self.tasks[number]
        bed = self.bed
        return looking.look(
            self.snapshots[number], [box], networks, bed.netns_dir(number), bed.host(number)
        )

    def overlay(self, number, network=NET):
        return f"--net={self.bed.netns_dir(number) / netns_name(network)}"

    def by_vip(self, vip=VIP):
        seen, box = self.look(1, [NET]), self.tasks[1]
        of = self.snapshots[1].endpoints[box.task]
        return self._whole(departure.from_container(seen, of, box, [vip], 80, "tcp"), [NET])

    def by_port(self, family=4):
        service = self.snapshots[1].services[SVC]
        found = departure.from_client(self.look(1, [INGRESS]), service, PORT, family)
        return self._whole(found, [INGRESS])

    def _whole(self, path, networks):
        steps = list(path.steps)
        for target in path.targets:
            number = next(n for n, made in self.snapshots.items() if made.self_id == target.node)
            steps += arrival.steps(self.look(number, networks), target)
        return {f"{step.host} {step.what}": step for step in steps}


@pytest.fixture
def hosts(tmp_path, request) -> Iterator[Hosts]:
    with two_hosts(tmp_path) as bed, ExitStack() as stack:
        made = {}
        for number in (1, 2):
            host = bed.host(number)
            made[number] = (
                OverlayOperations(host, bed.netns_dir(number)),
                NftOperations([rules.rulesets], host_netns=host),
            )
            for each in made[number]:
                stack.callback(each.close)
        yield Hosts(bed, made, dual=getattr(request, "param", None) == "dual")


def wrong(steps):
    return {name: step.found for name, step in steps.items() if not step.ok}


def test_a_way_that_is_whole_has_no_marks_and_names_what_the_kernel_has(hosts):
    nobody = "nobody listens: there is no program"
    steps = hosts.by_vip()
    assert set(wrong(steps)) == {"h1 who listens", "h2 who listens"}, nobody
    far = mac_of(IPv4Address("10.0.1.21"))
    assert steps[f"h1 FDB row {far}"].found == "10.99.0.2"
    assert steps["h1 backends"].found == "one of 10.0.1.11 10.0.1.21, in turn"
    assert steps["h1 route to VTEP 10.99.0.2"].found == "10.99.0.0/24 dev u"
    back = mac_of(IPv4Address("10.0.1.11"))
    assert steps[f"h2 way back: FDB row {back}"].found == "10.99.0.1"
    steps = hosts.by_port()
    assert set(wrong(steps)) == {"h1 who listens", "h2 who listens"}, nobody
    assert steps["h1 published port tcp . 8080"].found == "goto port-tcp-8080"
    assert steps["h2 way back: table of the mark"].found.startswith("table 100: default via")


def test_why_this_backend_is_said_by_every_policy(hosts):
    both, client = "10.0.1.11 10.0.1.21", "10.0.1.11"
    hosts.choose_by(Policy("nearest"))
    assert hosts.by_vip()["h1 backends"].found == "one of 10.0.1.11, in turn, the nearest"
    assert hosts.by_port()["h1 backends"].ok
    hosts.choose_by(Policy("source-hash"))
    hashed = hosts.by_vip()["h1 backends"]
    assert hashed.ok
    assert hashed.found.endswith(f", by the address of {client}; of {both}")
    assert hosts.by_port()["h1 backends"].found.endswith(", by the client's address")
    hosts.choose_by(policy := Policy("sticky", sticky_s=60))
    assert hosts.by_vip()["h1 backends"].found == hashed.found
    other = next(each for each in both.split() if not hashed.found.startswith(each))
    box, memory = hosts.bed.container("11"), memory_map(SVC, NET, policy)
    element = f"{client} timeout 60s : {mark_text(other)}"
    sh(f"nsenter --net={box} nft 'add element ip meshnet {memory} {{ {element} }}'")
    kept = hosts.by_vip()
    assert kept["h1 backends"].found == f"{other}, where {client} went before; of {both}"
    assert kept["h1 backends"].ok
    sh(f"nsenter --net={box} nft flush map ip meshnet {slots_map(SVC, NET, policy)}")
    sh(f"nsenter --net={box} nft flush map ip meshnet {memory}")
    assert "h1 backends" in wrong(hosts.by_vip())


def test_who_listens_is_seen_and_loopback_is_nobody(hosts):
    with ExitStack() as stack:
        for name, address in (("11", "127.0.0.1"), ("21", "")):
            with netns.inside(hosts.bed.container(name)):
                stack.enter_context(socket.create_server((address, 80)))
        assert wrong(hosts.by_vip()) == {"h1 who listens": "tcp nothing"}


FAR, BACK = mac_of(IPv4Address("10.0.1.21")), mac_of(IPv4Address("10.0.1.11"))
MESH = mac_of(IPv4Address("10.0.0.201"))
CHAIN = chain_name(SVC, NET)
TO_FAR, TO_BACK = f"{FAR} dev vx0 dst 10.99.0.2", f"{BACK} dev vx0 dst 10.99.0.1"
NO_VIP = f"nft delete element ip meshnet vips {{ {VIP} }}"
MACS = "way back: MAC of mark 0x100000c9"


@pytest.mark.parametrize(
    ("way", "at", "damage", "step", "ends"),
    [
        ("by_vip", "h1", f"bridge fdb del {TO_FAR}", f"FDB row {FAR}", True),
        ("by_vip", "h1", "ip neigh del 10.0.1.21 dev vx0", "neighbour 10.0.1.21", True),
        ("by_vip", "c11", NO_VIP, f"virtual IP {VIP}", True),
        ("by_vip", "c11", f"nft flush chain ip meshnet {CHAIN}", "rule", False),
        ("by_vip", "c11", f"nft flush map ip meshnet {CHAIN}", "backends", True),
        ("by_vip", "c11", "ip link set eth1 down", "interface", False),
        ("by_vip", "c11", "ip addr flush dev eth1", "interface", False),
        ("by_vip", "h2", "ip link set vx0 down", "VXLAN device", False),
        ("by_vip", "h2", f"bridge fdb del {TO_BACK}", f"way back: FDB row {BACK}", True),
        ("by_vip", "2", "nft flush set ip meshnet vteps", "VXLAN from 10.99.0.1 is taken", True),
        ("by_vip", "1", "ip route flush 10.99.0.0/24", "route to VTEP 10.99.0.2", True),
        ("by_port", "1", "nft flush map ip meshnet ports", "published port tcp . 8080", True),
        ("by_port", "1", "nft flush chain ip meshnet port-tcp-8080", "rule", False),
        ("by_port", "1", "ip link set mn-ingress down", "way into the mesh", False),
        ("by_port", "c21", "nft flush set ip meshnet targets", "published to tcp . 80", True),
        ("by_port", "c21", "nft flush map ip meshnet gateways", f"mark of entry {MESH}", True),
        ("by_port", "c21", "ip rule del pref 100", "way back: table of the mark", True),
        ("by_port", "c21", "nft flush map netdev meshnet macs", MACS, True),
    ],
)  # fmt: skip
def test_a_damage_marks_its_step(hosts, way, at, damage, step, ends):
    network = NET if way == "by_vip" else INGRESS
    if at.startswith("h"):
        sh(f"nsenter {hosts.overlay(int(at[1]), network)} {damage}")
    else:
        name = f"{PREFIX}-{at}" if at.startswith("c") else f"{PREFIX}-h{at}"
        sh(f"ip netns exec {name} {damage}")
    steps = getattr(hosts, way)()
    (found,) = (each for name, each in steps.items() if name.endswith(f" {step}") and not each.ok)
    assert found.ends == ends
    assert found.found != found.should
    assert found.mend


def test_firewalls_of_others_on_the_way_are_marked(hosts):
    at = f"ip netns exec {PREFIX}-h"
    sh(f"{at}2 iptables -A INPUT -s 10.99.0.1 -p udp --dport 4789 -j DROP")
    sh(f"{at}1 iptables -A INPUT -s 10.99.0.7 -p udp --dport 4789 -j DROP")
    sh(f"{at}1 iptables -A OUTPUT -p udp -m multiport --dports 53,4789 -j REJECT")
    steps = hosts.by_vip()
    (taken,) = (step for name, step in steps.items() if name.startswith("h2 others' firewall"))
    assert taken.what == "others' firewall, UDP 4789 from 10.99.0.1"
    assert (taken.ok, taken.ends) == (False, True)
    assert taken.found.startswith("chain ip filter INPUT is not ours, and rule ")
    (perhaps,) = (step for name, step in steps.items() if name.startswith("h1 others' firewall"))
    assert perhaps.what == "others' firewall, UDP 4789 to 10.99.0.2"
    assert (perhaps.ok, perhaps.warns) == (True, True)
    sh(f"{at}2 {taken.mend.partition('that: ')[2].partition(' (')[0]}")
    assert not [name for name in hosts.by_vip() if name.startswith("h2 others' firewall")]


def test_a_bridge_port_that_was_taken_away_is_marked(hosts):
    port = veth_name(hosts.tasks[1].task)
    sh(f"nsenter {hosts.overlay(1)} ip link set {port} nomaster")
    found = hosts.by_vip()["h1 bridge port"]
    assert (found.ok, found.found) == (False, f"{port} in no bridge")


def test_a_namespace_that_has_gone_is_where_it_ends(hosts):
    box = hosts.tasks[1]
    gone = replace(box, netns=f"/run/netns/{PREFIX}-none")
    made = replace(hosts.snapshots[1], sandboxes={box.task: gone})
    seen = looking.look(made, [gone], [NET], hosts.bed.netns_dir(1), hosts.bed.host(1))
    path = departure.from_container(seen, made.endpoints[box.task], gone, [VIP], 80, "tcp")
    assert [(step.what, step.ends) for step in path.steps] == [("network namespace", True)]


DUAL = pytest.mark.parametrize("hosts", ["dual"], indirect=True)


@DUAL
def test_ways_by_ipv6_are_told_as_those_by_ipv4_are(hosts):
    nobody = {"h1 who listens", "h2 who listens"}
    steps = hosts.by_vip(VIP6)
    assert set(wrong(steps)) == nobody
    far, back = (mac_of(IPv4Address(f"10.0.1.{number}")) for number in (21, 11))
    assert steps["h1 neighbour fd00:2::21"].found == far
    assert steps[f"h1 FDB row {far}"].found == "10.99.0.2"
    assert steps["h1 backends"].found == "one of fd00:1::11 fd00:2::21, in turn"
    assert steps[f"h2 way back: FDB row {back}"].found == "10.99.0.1"
    steps = hosts.by_port(6)
    assert set(wrong(steps)) == nobody
    assert steps["h1 published port tcp . 8080"].found == "goto port-tcp-8080"
    assert steps["h1 forwarding"].found == "1"
    assert (
        steps["h2 way back: table of the mark"].found
        == "table 100: default via fe80::77:1 dev eth0"
    )
    assert steps["h2 way back: neighbour fd00::201"].found == mac_of(IPv4Address("10.0.0.201"))
    assert set(wrong(hosts.by_port())) == nobody, "by IPv4 as ever"


@DUAL
def test_why_this_backend_is_said_of_ipv6_too(hosts):
    """The hash of an address of 16 bytes is the kernel's."""
    for kind in ("source-hash", "sticky"):
        hosts.choose_by(Policy(kind))
        said = hosts.by_vip(VIP6)["h1 backends"]
        assert said.ok
        assert ", by the address of fd00:1::11; of fd00:1::11 fd00:2::21" in said.found
        box = hosts.tasks[1]
        with netns.inside(box.netns), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asking:
            asking.sendto(b"?", (str(VIP6), 53))
        flows = flow_reader.flows([box.netns])[0][box.netns]
        led = {flow.backend for flow in flows if flow.asked == str(VIP6)}
        assert led == {said.found.partition(",")[0]}
    kept = hosts.by_vip(VIP6)["h1 backends"].found
    assert "where fd00:1::11 went before" in kept


@DUAL
@pytest.mark.parametrize(
    ("damage", "name"),
    [
        ("nsenter {net1} ip -6 neigh del fd00:2::21 dev vx0", "h1 neighbour fd00:2::21"),
        ("ip netns exec {c1} nft flush map ip6 meshnet vips", "h1 virtual IP fd00:1::200"),
        ("ip -n {c2} addr del fd00:2::21/64 dev eth1", "h2 interface"),
    ],
    ids=["neighbour", "element", "address"],
)
def test_damage_of_ipv6_marks_its_step_of_a_virtual_ip(hosts, damage, name):
    names = {"c1": f"{PREFIX}-c11", "c2": f"{PREFIX}-c21"}
    sh(damage.format(net1=hosts.overlay(1), **names))
    assert name in wrong(hosts.by_vip(VIP6))
    assert name not in wrong(hosts.by_port(6))


@DUAL
@pytest.mark.parametrize(
    ("damage", "name"),
    [
        ("ip netns exec {h1} nft delete table ip6 meshnet", "h1 published port tcp . 8080"),
        ("ip netns exec {h1} sysctl -qw net.ipv6.conf.all.forwarding=0", "h1 forwarding"),
        (
            "ip -n {c2} -6 rule del fwmark 0x10000000/0x10000000 lookup 100",
            "h2 way back: table of the mark",
        ),
        ("ip netns exec {c2} nft flush set ip6 meshnet targets", "h2 published to tcp . 80"),
    ],
    ids=["table", "forwarding", "rule", "target"],
)
def test_damage_of_ipv6_marks_its_step_of_a_published_port(hosts, damage, name):
    sh(damage.format(h1=f"{PREFIX}-h1", c2=f"{PREFIX}-c21"))
    assert name in wrong(hosts.by_port(6))
    assert set(wrong(hosts.by_port())) == {"h1 who listens", "h2 who listens"}


def test_by_ipv6_a_way_ends_where_the_network_has_none_of_it(hosts):
    (step,) = hosts.by_port(6).values()
    assert step.ends
    assert "--ingress --ipv6" in step.mend
