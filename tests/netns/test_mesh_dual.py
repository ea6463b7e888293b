"""Where packets of IPv6 to a published port go: two hosts, a LAN, a client, wired by us alone."""

from __future__ import annotations

import socket
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

import pytest

from meshnet.gwbridge.operations import GwbridgeOperations
from meshnet.kernel import netns
from meshnet.kernel.nft import NftOperations
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
from meshnet.overlay.desired import netns_name
from meshnet.overlay.operations import OverlayOperations
from meshnet_lb.rules import rulesets

pytestmark = pytest.mark.netns

INGRESS = NetworkId("ingress".ljust(25, "0"))
WEB, DEAD = ServiceId("web".ljust(25, "0")), ServiceId("dead".ljust(25, "0"))
HOSTS = (1, 2)
TASKS = {1: 1, 2: 2, 3: 1}
"""Of each task its host."""
NODE = {i: NodeId(f"node{i}".ljust(25, "0")) for i in HOSTS}
TASK = {t: TaskId(f"{t}task".ljust(25, "0")) for t in TASKS}
CLIENT, CLIENT4 = "fd99::100", "10.99.0.100"
LAN, LAN4 = ({i: f"{net}{i}" for i in HOSTS} for net in ("fd99::", "10.99.0."))
GATEWAY = {i: f"fd00::{200 + i}" for i in HOSTS}
PORTS = tuple(PublishedPort(protocol, 9000, 8080) for protocol in ("tcp", "udp"))
CLOSED = tuple(PublishedPort(protocol, 9000, 8081) for protocol in ("tcp", "udp"))
BOTH = pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
MESH = Network(
    INGRESS, "ingress", Vni(4096), IPv4Network("10.0.0.0/24"), IPv4Address("10.0.0.1"),
    ingress=True, subnets6=(IPv6Network("fd00::/64"),),
)  # fmt: skip


def settle(operations, wanted):
    """Rounds as a reconciler makes them until nothing is left to do; how many changes that took.

    A busy kernel tells of a carrier, and makes the routes that follow from it, a moment later.
    """
    desired, made, until = operations.desired(wanted), 0, time.monotonic() + 15
    while changes := operations.plan(desired, operations.observe(desired), prune=True):
        assert time.monotonic() < until, changes
        operations.apply(changes)
        made += len(changes)
    return made


class World:
    """Two hosts with tasks on a dual stack ingress network."""

    def __init__(self, bed, directory):
        self.bed = bed
        self.lan = bed.namespace("lan")
        bed.bridge(self.lan)
        self.client = self._on_lan("x", CLIENT, CLIENT4)
        self.host = {i: self._on_lan(f"h{i}", LAN[i], LAN4[i]) for i in HOSTS}
        self.task = {t: bed.namespace(f"t{t}") for t in TASKS}
        for name in self.task.values():  # as the engine makes them
            bed.sysctl(name, "net.ipv6.conf.all.disable_ipv6=1")
        self.places = {i: directory / f"h{i}" for i in HOSTS}
        self.overlays = {
            i: OverlayOperations(bed.path(self.host[i]), self.places[i]) for i in HOSTS
        }
        self.tables = {
            i: NftOperations([rulesets], host_netns=bed.path(self.host[i])) for i in HOSTS
        }

    def _on_lan(self, label, *addresses):
        name = self.bed.namespace(label)
        self.bed.veth(name, "u", self.lan, f"l{label}")
        self.bed.run(f"ip -n {self.lan} link set l{label} master br0")
        for address in addresses:
            length = "64 dev u nodad" if ":" in address else "24 dev u"
            self.bed.run(f"ip -n {name} addr add {address}/{length}")
        return name

    def snapshot(self, i, ready=tuple(TASKS), mesh=MESH):
        """What node ``i`` knows."""
        dual = bool(mesh.subnets6)
        nodes = {
            NODE[j]: Node(
                NODE[j], f"h{j}", IPv4Address(LAN4[j]),
                ingress_address=IPv4Address(f"10.0.0.{200 + j}"),
                ingress_address6=IPv6Address(GATEWAY[j]) if dual else None,
            )
            for j in HOSTS
        }  # fmt: skip
        services = {
            WEB: Service(WEB, "web", ports=PORTS),
            DEAD: Service(DEAD, "dead", ports=CLOSED),
        }
        endpoints = {
            TASK[t]: Endpoint(
                TASK[t], f"web.{t}", NODE[j], WEB, {mesh.id: IPv4Address(f"10.0.0.{10 + t}")},
                addresses6={mesh.id: IPv6Address(f"fd00::{10 + t}")} if dual else {},
                ready=t in ready,
            )
            for t, j in TASKS.items()
        }  # fmt: skip
        sandboxes = {
            TASK[t]: Sandbox(
                TASK[t], self.bed.path(self.task[t]),
                ((mesh.id, IPv4Interface(f"10.0.0.{10 + t}/24")),), None, PORTS,
                networks6=((mesh.id, IPv6Interface(f"fd00::{10 + t}/64")),) if dual else (),
            )
            for t, j in TASKS.items()
            if j == i
        }  # fmt: skip
        return Snapshot(1, NODE[i], nodes, {mesh.id: mesh}, services, endpoints, sandboxes)

    def apply(self, change=lambda snapshot: snapshot, **known):
        for i in HOSTS:
            wanted = change(self.snapshot(i, **known))
            settle(self.overlays[i], wanted)
            settle(self.tables[i], wanted)

    def link_local(self, i):
        """Of a host on the LAN, as the client writes it."""
        shown = self.bed.run(f"ip -n {self.host[i]} -6 -br addr show dev u scope link")
        return next(word for word in shown.split() if word.startswith("fe80")).partition("/")[0]

    def close(self):
        for i in HOSTS:
            self.overlays[i].close()
            self.tables[i].close()
        for place in self.places.values():
            for path in place.glob("mn-*"):
                netns.delete(path)


@pytest.fixture
def world(bed, tmp_path):
    made = World(bed, tmp_path)
    try:
        made.apply()
        for t, name in made.task.items():
            bed.server(name, 9000, f"task{t}", address="::")
        yield made
    finally:
        made.close()


@BOTH
def test_a_client_reaches_every_task_in_turn_through_any_node_and_is_seen(world, udp):
    for node in HOSTS:
        asked = [world.bed.ask(world.client, LAN[node], 8080, udp=udp) for _ in range(6)]
        assert Counter(says for says, _ in asked) == {f"task{t}": 2 for t in TASKS}
        assert {seen for _, seen in asked} == {CLIENT}


def test_ipv4_is_as_it_was_beside_it(world):
    for node in HOSTS:
        asked = [world.bed.ask(world.client, LAN4[node], 8080) for _ in range(6)]
        assert Counter(says for says, _ in asked) == {f"task{t}": 2 for t in TASKS}
        assert {seen for _, seen in asked} == {f"::ffff:{CLIENT4}"}


@BOTH
@pytest.mark.parametrize("address", ["::1", LAN[1]])
def test_a_node_reaches_its_own_port_at_localhost_and_at_its_address(world, address, udp):
    asked = [world.bed.ask(world.host[1], address, 8080, udp=udp) for _ in range(3)]
    assert {says for says, _ in asked} == {f"task{t}" for t in TASKS}
    assert {seen for _, seen in asked} == {GATEWAY[1]}


def test_nobody_from_outside_speaks_to_a_node_s_loopback(world):
    """The route by which answers to ``::1`` come in is no way in for others."""
    world.bed.server(world.host[1], 9200, "private", address="::1")
    mac = world.bed.run(f"ip -n {world.host[1]} -br link show mn-ingress").split()[2]
    task = world.task[1]
    world.bed.run(
        f"ip -n {task} -6 rule add to ::1 lookup 200 pref 0; ip -n {task} -6 rule del pref 0"
        " lookup local; ip -n {t} -6 rule add pref 1 lookup local".format(t=task)
        + f"; ip -n {task} -6 route add ::1 via fe80::99:9 dev eth0 onlink table 200"
        f"; ip -n {task} -6 neigh replace fe80::99:9 lladdr {mac} dev eth0 nud permanent"
    )
    with pytest.raises(TimeoutError):
        world.bed.ask(task, "::1", 9200)


@BOTH
@pytest.mark.parametrize("source", ["client", "itself"])
def test_a_port_without_tasks_refuses_at_once(world, source, udp):
    where = {"client": world.client, "itself": world.host[1]}[source]
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        world.bed.ask(where, LAN[1], 8081, udp=udp)
    assert time.monotonic() - began < 1


def test_who_asks_at_a_link_local_address_is_refused(world):
    with netns.inside(world.bed.path(world.client)):
        asking = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        scope = socket.if_nametoindex("u")
    with asking:
        asking.settimeout(3)
        where = (world.link_local(1), 8080, 0, scope)
        with pytest.raises(ConnectionRefusedError):
            asking.connect(where)


def test_a_program_that_listens_for_ipv4_alone_refuses(world, bed):
    """At once, but for the seconds in which no program is taken for one that does not listen."""
    only = (PublishedPort("tcp", 9100, 8082),)
    world.apply(
        lambda seen: replace(
            seen,
            services={WEB: Service(WEB, "web", ports=only)},
            sandboxes={task: replace(box, ports=only) for task, box in seen.sandboxes.items()},
        )
    )
    for name in world.task.values():
        bed.server(name, 9100, "four", address="0.0.0.0")  # noqa: S104 - in its namespace
    assert bed.ask(world.client, LAN4[1], 8082) == ("four", CLIENT4)
    for where, address in ((world.client, LAN[1]), (world.client, LAN[2]), (world.host[1], "::1")):
        until = time.monotonic() + 15
        while True:
            with pytest.raises((ConnectionRefusedError, TimeoutError)) as refused:
                bed.ask(where, address, 8082)
            if refused.type is ConnectionRefusedError:
                break
            assert time.monotonic() < until


@BOTH
def test_one_port_of_a_client_reaches_one_task_through_every_node_at_once(world, udp):
    world.apply(ready=(3,))
    with ExitStack() as stack:
        held = []
        for node in HOSTS:
            with netns.inside(world.bed.path(world.client)):
                kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
                held.append(stack.enter_context(socket.socket(socket.AF_INET6, kind)))
            held[-1].settimeout(5)
            held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held[-1].bind((CLIENT, 41000))
            held[-1].connect((LAN[node], 8080))
        for _ in range(3):
            for each in held:
                each.sendall(b"?")
            assert {each.recv(200).decode() for each in held} == {f"task3 {CLIENT}"}


def test_a_held_connection_outlives_its_task_s_withdrawal(world):
    with world.bed.socket(world.client, LAN[1], 8080) as held:
        held.sendall(b"?")
        own = held.recv(200).decode().split()[0]
        others = tuple(t for t in TASKS if f"task{t}" != own)
        world.apply(ready=others)
        asked = {world.bed.ask(world.client, LAN[1], 8080)[0] for _ in range(4)}
        assert asked == {f"task{t}" for t in others}
        held.sendall(b"?")
        assert held.recv(200).decode().split() == [own, CLIENT]


def test_who_only_waits_at_a_port_hears_that_its_task_is_gone(world):
    # A way that is new takes its first SYN late. One that is sent again is answered twice, the
    # second answer is a challenge to the client, and for 500 ms it answers no other
    # (tcp_invalid_ratelimit in ip-sysctl.rst).
    world.bed.ask(world.client, LAN[1], 8080)
    with world.bed.socket(world.client, LAN[1], 8080) as held:
        held.sendall(b"?")
        gone = int(held.recv(200).decode().split()[0].removeprefix("task"))
        world.bed.run(f"ip -n {world.task[gone]} link set eth0 down")

        def without(seen):
            left = {task: each for task, each in seen.endpoints.items() if task != TASK[gone]}
            boxes = {task: each for task, each in seen.sandboxes.items() if task != TASK[gone]}
            return replace(seen, endpoints=left, sandboxes=boxes)

        world.apply(without)
        with pytest.raises(ConnectionResetError):
            held.recv(200)


def test_a_udp_sender_that_is_older_than_the_port_is_led_to_a_task(world):
    world.apply(lambda seen: replace(seen, services={}))
    with world.bed.socket(world.client, LAN[1], 8080, udp=True) as held:
        for _ in range(3):
            with suppress(OSError):  # refused
                held.sendall(b"?")
        world.apply()
        for _ in range(2):
            with suppress(OSError):
                held.sendall(b"?")
        assert held.recv(200).decode().split()[1] == CLIENT


def test_a_udp_sender_of_one_family_is_not_led_elsewhere_for_the_other_s_sake(world):
    with (
        world.bed.socket(world.client, LAN[1], 8080, udp=True) as six,
        world.bed.socket(world.client, LAN[2], 8080, udp=True) as other,
    ):
        own = []
        for each in (six, other):
            each.sendall(b"?")
            own.append(each.recv(200))
        world.apply(lambda seen: replace(seen, taken=frozenset({("udp", 8080)})))
        for each, had in zip((six, other), own, strict=True):
            each.sendall(b"?")
            assert each.recv(200) == had


@pytest.mark.parametrize("narrow", ["mn-ingress", "u"])
def test_long_streams_pass_where_a_way_is_narrow(world, narrow):
    """Packets that are too big are answered for (ICMPv6), to the client and to the task."""
    if narrow == "u":  # behind the node, towards the client
        world.bed.run(f"ip -n {world.host[1]} route replace {CLIENT}/128 dev u mtu 1280")
        world.bed.run(f"ip -n {world.lan} link set br0 mtu 1500")
    for node in HOSTS:
        with world.bed.socket(world.client, LAN[node], 8080) as asking:
            asking.sendall(b"?" * 200_000)
            asking.shutdown(socket.SHUT_WR)
            answered = b""
            while part := asking.recv(65536):
                answered += part
            assert answered.count(CLIENT.encode()) >= 200_000 // 65536


def test_a_datagram_longer_than_the_overlays_packets_arrives_once_its_sender_heard_so(world):
    """Of IPv6 nobody but the sender cuts: the first is lost, and its socket says why."""
    with world.bed.socket(world.client, LAN[1], 8080, udp=True) as asking:
        asking.sendall(b"?" * 4000)
        with pytest.raises(OSError, match="Message too long"):
            asking.recv(200)
        for _ in TASKS:
            asking.sendall(b"?" * 4000)
            assert asking.recv(200).decode().split()[1] == CLIENT


@BOTH
def test_a_port_that_a_process_of_a_host_had_is_the_process_s_of_that_family_alone(world, udp):
    taken = frozenset({("udp" if udp else "tcp", 8080)})
    world.bed.server(world.host[1], 8080, "process", address="::")
    world.apply(lambda seen: replace(seen, taken6=taken if seen.self_id == NODE[1] else ()))
    assert world.bed.ask(world.client, LAN[1], 8080, udp=udp) == ("process", CLIENT)
    assert world.bed.ask(world.host[1], "::1", 8080, udp=udp)[0] == "process"
    assert world.bed.ask(world.client, LAN[2], 8080, udp=udp)[0].startswith("task")
    assert world.bed.ask(world.client, LAN4[1], 8080)[0].startswith("task")
    assert world.bed.ask(world.client, LAN[1], 8080, udp=not udp)[0].startswith("task")


def test_only_target_ports_are_reachable_from_the_ingress_network(world):
    world.bed.server(world.task[2], 9001, "hidden", address="::")
    for where in (world.task[1], world.host[1]):
        with pytest.raises(ConnectionRefusedError):
            world.bed.ask(where, "fd00::12", 9001)
    assert world.bed.ask(world.task[1], "fd00::12", 9000)[0] == "task2"


def test_a_task_has_no_way_out_and_hears_so_at_once(world):
    began = time.monotonic()
    for udp in (False, True):
        with pytest.raises(OSError, match="unreachable"):
            world.bed.ask(world.task[1], CLIENT, 9100, udp=udp)
    assert time.monotonic() - began < 1


DAMAGE = {
    "address": "ip -n {h1} addr del fd00::201/64 dev mn-ingress",
    "forwarding": "ip netns exec {h1} sysctl -qw net.ipv6.conf.all.forwarding=0",
    "loopback": "ip -n {h1} -6 route del local ::1 dev mn-ingress table local",
    "table": "ip netns exec {h1} nft delete table ip6 meshnet",
    "task's table": "ip netns exec {t1} nft delete table ip6 meshnet",
    "rule": "ip -n {t1} -6 rule del fwmark 0x10000000/0x10000000 lookup 100",
    "answers": "ip -n {t1} -6 rule del ipproto udp sport 9000 lookup 100",
    "main": "ip -n {t1} -6 rule del lookup main",
    "route": "ip -n {t1} -6 route del default table 100",
    "next hop": "ip -n {t1} -6 neigh del fe80::77:1 dev eth0",
    "reflect": "ip netns exec {t1} sysctl -qw net.ipv6.fwmark_reflect=0",
    "gateway's row": "nsenter --net={net} ip -6 neigh del fd00::202 dev vx0",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_what_is_damaged_is_repaired(world, damage):
    net = world.places[1] / netns_name(INGRESS)
    world.bed.run(damage.format(h1=world.host[1], t1=world.task[1], net=net))
    wanted = world.snapshot(1)
    assert settle(world.overlays[1], wanted) + settle(world.tables[1], wanted) > 0
    for udp in (False, True):
        for where, address in (
            (world.client, LAN[1]), (world.client, LAN[2]), (world.host[1], "::1"),
            (world.host[2], LAN[1]),
        ):  # fmt: skip
            says = {world.bed.ask(where, address, 8080, udp=udp)[0] for _ in TASKS}
            assert says == {f"task{t}" for t in TASKS}


def test_a_firewall_that_forwards_nothing_lets_the_mesh_pass(world):
    """As engines set it that see to IPv6."""
    at, dropped = f"ip netns exec {world.host[1]} ip6tables", TimeoutError
    world.bed.run(f"{at} -P FORWARD DROP")
    operations = GwbridgeOperations(world.bed.path(world.host[1]))
    try:
        for damage in ("true", f"{at} -F", f"{at} -D FORWARD 1", f"{at} -I FORWARD -j DROP"):
            world.bed.run(damage)
            with pytest.raises(dropped):
                world.bed.ask(world.client, LAN[1], 8080)
            assert settle(operations, world.snapshot(1)) == 1
            asked = {world.bed.ask(world.client, LAN[1], 8080)[0] for _ in TASKS}
            assert asked == {f"task{t}" for t in TASKS}
        plain = world.snapshot(1, mesh=replace(MESH, subnets6=()))
        assert settle(operations, plain) == 1
        assert "meshnet" not in world.bed.run(f"{at} -S")
    finally:
        operations.close()


def test_without_ipv6_nothing_of_it_is_left(world):
    another = NetworkId("another".ljust(25, "0"))
    world.apply(mesh=replace(MESH, id=another, subnets6=()))
    for name in (world.host[1], world.task[1]):
        assert "ip6" not in world.bed.run(f"ip netns exec {name} nft list tables")
    assert "fd00:" not in world.bed.run(f"ip -n {world.host[1]} -6 addr show dev mn-ingress")
    assert world.bed.ask(world.client, LAN4[1], 8080)[0].startswith("task")
    with pytest.raises(ConnectionRefusedError):
        world.bed.ask(world.client, LAN[1], 8080)


def test_a_host_that_hears_routers_goes_on_hearing_them(bed, tmp_path):
    made = World(bed, tmp_path)
    try:
        host = made.host[1]
        bed.run(f"ip -n {host} -6 route add default via fe80::1 dev u proto ra")
        made.apply()
        sysctl = f"ip netns exec {host} sysctl -n net.ipv6.conf"
        assert bed.run(f"{sysctl}.all.forwarding").strip() == "1"
        assert bed.run(f"{sysctl}.u.accept_ra").strip() == "2"
        assert bed.run(f"{sysctl}.mn-ingress.accept_ra").strip() == "0"
        other = f"ip netns exec {made.host[2]} sysctl -n net.ipv6.conf"
        assert bed.run(f"{other}.u.accept_ra").strip() == "1", "that of a link without is left"
    finally:
        made.close()
