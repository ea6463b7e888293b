"""Where packets to a published port go: three hosts, a LAN, a client outside."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from scapy.layers.inet import IP
from scapy.layers.sctp import SCTP, SCTPChunkCookieEcho, SCTPChunkInit, SCTPChunkInitAck

from meshnet.kernel import flow_reader, netns
from meshnet.kernel.nft import NftOperations
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni, mac_of
from meshnet.model.snapshot import (
    Endpoint,
    Gwbridge,
    Network,
    Node,
    PublishedPort,
    Sandbox,
    Service,
    Snapshot,
)
from meshnet_control.dataplane import connections
from meshnet_lb.rules import rulesets

pytestmark = pytest.mark.netns

INGRESS = NetworkId("ingress".ljust(25, "0"))
WEB = ServiceId("web".ljust(25, "0"))
DEAD = ServiceId("dead".ljust(25, "0"))
HOSTS = (1, 2, 3)
CLIENT = "10.99.0.100"
NODE = {i: NodeId(f"node{i}".ljust(25, "0")) for i in HOSTS}
TASK = {i: TaskId(f"task{i}".ljust(25, "0")) for i in HOSTS}
LAN = {i: f"10.99.0.{i}" for i in HOSTS}
PLACE = {i: IPv4Address(f"10.255.1.{i}") for i in HOSTS}
GATEWAY = {i: IPv4Address(f"10.255.0.{i}") for i in HOSTS}
ON_BRIDGE = IPv4Interface("172.18.0.2/16")
GWBRIDGE = Gwbridge("docker_gwbridge", IPv4Network("172.18.0.0/16"), IPv4Address("172.18.0.1"))
PORTS = tuple(PublishedPort(protocol, 9000, 8080) for protocol in ("tcp", "udp"))
HOST_PORT = PublishedPort("tcp", 9000, 7070, "host")
TCP_INFO = 11
"""linux/tcp.h: ``tcpi_total_retrans`` is the 32 bits at 100."""
BOTH = pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])


class Cluster:
    """Three hosts with one task each, wired as the overlay reconciler wires them."""

    def __init__(self, bed):
        self.bed = bed
        self.lan = bed.namespace("lan")
        bed.bridge(self.lan)
        self.client = self._on_lan("x", CLIENT)
        self.host: dict[int, str] = {}
        self.task: dict[int, str] = {}
        self.server = {}
        for i in HOSTS:
            self._host(i)
        self.operations = {
            i: NftOperations([rulesets], host_netns=bed.path(self.host[i])) for i in HOSTS
        }

    def _on_lan(self, label, address):
        name = self.bed.namespace(label)
        self.bed.veth(name, "u", self.lan, f"l{label}")
        self.bed.run(
            f"ip -n {self.lan} link set l{label} master br0\n"
            f"ip -n {name} addr add {address}/24 dev u"
        )
        return name

    def _host(self, i):
        bed = self.bed
        host = self.host[i] = self._on_lan(f"h{i}", LAN[i])
        overlay = bed.namespace(f"o{i}")
        task = self.task[i] = bed.namespace(f"t{i}")
        bed.sysctl(host, "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")
        bed.sysctl(host, "net.ipv4.conf.all.route_localnet=1", "net.ipv4.conf.u.rp_filter=0")
        bed.bridge(overlay)
        bed.run(
            f"ip -n {host} link add vx0 type vxlan id 4096 dstport 4789 nolearning\n"
            f"ip -n {host} link set vx0 netns {overlay}\n"
            f"ip -n {overlay} link set vx0 mtu 1450 master br0 up"
        )
        self._plug(host, "mn-ingress", overlay, "vgw", GATEWAY[i])
        self._plug(task, "eth0", overlay, "vtask", PLACE[i])
        bed.sysctl(host, "net.ipv4.conf.mn-ingress.rp_filter=0")
        for j in HOSTS:
            for address in (PLACE[j], GATEWAY[j]):
                if j != i:
                    bed.run(
                        f"bridge -n {overlay} fdb add {mac_of(address)} dev vx0"
                        f" dst {LAN[j]} self permanent\n"
                        f"bridge -n {overlay} fdb replace {mac_of(address)} dev vx0 master static"
                    )
        bed.bridge(host, GWBRIDGE.name)
        bed.run(f"ip -n {host} addr add {GWBRIDGE.gateway}/16 dev {GWBRIDGE.name}")
        bed.veth(task, "eth1", host, "gtask")
        bed.run(
            f"ip -n {host} link set gtask master {GWBRIDGE.name}\n"
            f"ip -n {task} addr add {ON_BRIDGE} dev eth1\n"
            f"ip -n {task} route add default via {GWBRIDGE.gateway}\n"
            f"ip -n {task} rule add fwmark 0x10000000/0x10000000 lookup 100\n"
            f"ip -n {task} route add default via 169.254.77.1 dev eth0 onlink table 100\n"
            f"ip -n {task} neigh replace 169.254.77.1 lladdr 02:42:a9:fe:4d:01 dev eth0"
            " nud permanent"
        )
        bed.sysctl(task, "net.ipv4.tcp_fwmark_accept=1", "net.ipv4.conf.all.rp_filter=0")
        bed.sysctl(task, "net.ipv4.conf.eth0.rp_filter=0", "net.ipv4.conf.eth1.rp_filter=0")
        self.server[i] = bed.server(task, 9000, f"task{i}")

    def _plug(self, name, interface, overlay, peer, address):
        self.bed.veth(name, interface, overlay, peer, mac=mac_of(address), mtu=1450)
        self.bed.run(
            f"ip -n {overlay} link set {peer} master br0\n"
            f"ip -n {name} addr add {address}/16 dev {interface}"
        )
        for other in (*PLACE.values(), *GATEWAY.values()):
            if other != address:
                self.bed.run(
                    f"ip -n {name} neigh replace {other} lladdr {mac_of(other)}"
                    f" dev {interface} nud permanent"
                )

    def snapshot(self, i, ready=HOSTS, joined=HOSTS):
        """What node ``i`` knows."""
        nodes = {
            NODE[j]: Node(
                NODE[j],
                f"h{j}",
                IPv4Address(LAN[j]),
                ingress_address=GATEWAY[j],
            )
            for j in joined
        }
        subnet, gateway = IPv4Network("10.255.0.0/16"), IPv4Address("10.255.255.254")
        ingress = Network(INGRESS, "ingress", Vni(4096), subnet, gateway, ingress=True)
        dead = PublishedPort("tcp", 9000, 8081), PublishedPort("udp", 9000, 8081)
        services = {
            WEB: Service(WEB, "web", ports=(*PORTS, HOST_PORT)),
            DEAD: Service(DEAD, "dead", ports=dead),
        }
        endpoints = {
            TASK[j]: Endpoint(
                TASK[j], f"web.{j}", NODE[j], WEB, {INGRESS: PLACE[j]}, ready=j in ready
            )
            for j in HOSTS
        }
        sandbox = Sandbox(
            TASK[i],
            self.bed.path(self.task[i]),
            ((INGRESS, IPv4Interface(f"{PLACE[i]}/16")),),
            ON_BRIDGE,
            (*PORTS, HOST_PORT),
        )
        return Snapshot(
            1,
            NODE[i],
            nodes,
            {INGRESS: ingress},
            services,
            endpoints,
            {TASK[i]: sandbox},
            GWBRIDGE,
        )

    def apply(self, change=lambda snapshot: snapshot, **known):
        for i, operations in self.operations.items():
            desired = operations.desired(change(self.snapshot(i, **known)))
            operations.apply(operations.plan(desired, operations.observe(desired), prune=True))

    def close(self):
        for operations in self.operations.values():
            operations.close()


@pytest.fixture
def cluster(bed):
    made = Cluster(bed)
    try:
        made.apply()
        yield made
    finally:
        made.close()


@BOTH
def test_a_client_reaches_every_task_in_turn_through_any_node_and_is_seen(cluster, udp):
    for node in HOSTS:
        asked = [cluster.bed.ask(cluster.client, LAN[node], 8080, udp=udp) for _ in range(6)]
        assert Counter(says for says, _ in asked) == {f"task{i}": 2 for i in HOSTS}
        assert {seen for _, seen in asked} == {CLIENT}


@BOTH
def test_one_node_reaches_another_and_is_seen(cluster, udp):
    asked = [cluster.bed.ask(cluster.host[2], LAN[1], 8080, udp=udp) for _ in range(3)]
    assert {says for says, _ in asked} == {"task1", "task2", "task3"}
    assert {seen for _, seen in asked} == {LAN[2]}


@BOTH
@pytest.mark.parametrize("address", ["127.0.0.1", LAN[1]])
def test_a_node_reaches_its_own_port_at_localhost_and_at_its_address(cluster, address, udp):
    asked = [cluster.bed.ask(cluster.host[1], address, 8080, udp=udp) for _ in range(3)]
    assert {says for says, _ in asked} == {"task1", "task2", "task3"}
    assert {seen for _, seen in asked} == {str(GATEWAY[1])}


@BOTH
@pytest.mark.parametrize("address", [LAN[1], LAN[2], "172.18.0.1"])
def test_a_task_reaches_published_ports_of_its_own_node_and_of_others(cluster, address, udp):
    asked = [cluster.bed.ask(cluster.task[1], address, 8080, udp=udp) for _ in range(3)]
    assert {says for says, _ in asked} == {"task1", "task2", "task3"}
    wanted = LAN[1] if address == LAN[2] else str(GATEWAY[1])
    assert {seen for _, seen in asked} == {wanted}


@BOTH
@pytest.mark.parametrize("source", ["client", "itself", "task"])
def test_a_port_without_tasks_refuses_at_once(cluster, source, udp):
    where = {"client": cluster.client, "itself": cluster.host[1], "task": cluster.task[1]}[source]
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        cluster.bed.ask(where, LAN[1], 8081, udp=udp)
    assert time.monotonic() - began < 1


def test_a_port_of_one_host_is_answered_there_and_the_client_is_seen(cluster):
    for node in HOSTS:
        assert cluster.bed.ask(cluster.client, LAN[node], 7070) == (f"task{node}", CLIENT)
    assert cluster.bed.ask(cluster.host[1], "127.0.0.1", 7070)[0] == "task1"
    assert cluster.bed.ask(cluster.task[1], LAN[1], 7070)[0] == "task1"


def test_a_held_connection_outlives_its_tasks_withdrawal_and_a_node_leaving(cluster):
    with cluster.bed.socket(cluster.client, LAN[1], 8080) as held:
        held.sendall(b"?")
        own = held.recv(200).decode().split()[0]
        leaving = 2 if own == "task3" else 3
        stays = tuple(i for i in HOSTS if i != leaving)
        others = tuple(i for i in stays if f"task{i}" != own)
        cluster.apply(ready=others, joined=stays)
        asked = {cluster.bed.ask(cluster.client, LAN[1], 8080)[0] for _ in range(4)}
        assert asked == {f"task{i}" for i in others}
        held.sendall(b"?")
        assert held.recv(200).decode().split() == [own, CLIENT]


def test_a_connection_through_another_node_is_counted_where_it_arrives(cluster):
    def counted(i):
        sandbox = cluster.snapshot(i).sandboxes[TASK[i]]
        found, errors = flow_reader.flows([sandbox.netns])
        assert not errors
        return connections.open_to(sandbox, found[sandbox.netns])

    with ExitStack() as stack:
        held = [
            stack.enter_context(cluster.bed.socket(cluster.client, LAN[2], 8080)) for _ in HOSTS
        ]
        for each in held:
            each.sendall(b"?")
            each.recv(200)
        assert [counted(i) for i in HOSTS] == [1, 1, 1]
        cluster.apply(ready=())
        for each in held:
            each.sendall(b"?")
            each.recv(200)
        assert [counted(i) for i in HOSTS] == [1, 1, 1], "withdrawn, and as open as before"
        # What a task asks another is counted there, and no datagrams anywhere.
        cluster.apply(ready=(1,))
        inside = stack.enter_context(cluster.bed.socket(cluster.task[2], str(PLACE[1]), 9000))
        inside.sendall(b"?")
        inside.recv(200)
        cluster.bed.ask(cluster.client, LAN[2], 8080, udp=True)
        assert [counted(i) for i in HOSTS] == [2, 1, 1]
    until = time.monotonic() + 10
    while any(counted(i) for i in HOSTS):
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("who", ["client", "itself", "task"])
def test_who_only_waits_at_a_port_hears_that_its_task_is_gone(cluster, who):
    where = {"client": cluster.client, "itself": cluster.host[1], "task": cluster.task[1]}[who]
    with cluster.bed.socket(where, LAN[1], 8080) as held:
        held.sendall(b"?")
        own = held.recv(200).decode().split()[0]
        gone = TASK[int(own.removeprefix("task"))]
        cluster.bed.run(f"ip -n {cluster.task[int(own[-1])]} link set eth0 down")

        def without(snapshot):
            left = {task: each for task, each in snapshot.endpoints.items() if task != gone}
            return replace(snapshot, endpoints=left)

        cluster.apply(without)
        with pytest.raises(ConnectionResetError):
            held.recv(200)


def test_a_datagram_longer_than_the_overlays_packets_arrives(cluster):
    for _ in HOSTS:
        with cluster.bed.socket(cluster.client, LAN[1], 8080, udp=True) as asking:
            asking.sendall(b"?" * 4000)
            assert asking.recv(200).decode().split()[1] == CLIENT


def test_a_long_stream_to_a_published_port_arrives(cluster):
    """The client's packets are larger than the overlay's: nothing hangs on path MTU."""
    with cluster.bed.socket(cluster.client, LAN[1], 8080) as asking:
        asking.sendall(b"?" * 200_000)
        asking.shutdown(socket.SHUT_WR)
        answered = b""
        while part := asking.recv(65536):
            answered += part
        assert answered.count(CLIENT.encode()) >= 200_000 // 65536


@BOTH
def test_one_connection_or_flow_is_kept_by_one_task(cluster, udp):
    with cluster.bed.socket(cluster.client, LAN[1], 8080, udp=udp) as held:
        said = set()
        for _ in range(5):
            held.sendall(b"?")
            said.add(held.recv(200))
        assert len(said) == 1


def test_only_target_ports_are_reachable_from_the_ingress_network(cluster):
    cluster.bed.server(cluster.task[2], 9001, "hidden")
    with pytest.raises(ConnectionRefusedError):
        cluster.bed.ask(cluster.task[1], str(PLACE[2]), 9001)
    with pytest.raises(ConnectionRefusedError):
        cluster.bed.ask(cluster.host[1], str(PLACE[2]), 9001)
    assert cluster.bed.ask(cluster.task[1], str(PLACE[2]), 9000)[0] == "task2"


def test_the_tasks_own_connections_leave_by_the_bridge_as_the_node(cluster):
    cluster.bed.server(cluster.client, 9100, "outside")
    assert cluster.bed.ask(cluster.task[1], CLIENT, 9100) == ("outside", LAN[1])


def test_a_udp_sender_that_is_older_than_the_port_is_led_to_a_task(cluster):
    cluster.apply(lambda snapshot: replace(snapshot, services={}))
    with cluster.bed.socket(cluster.client, LAN[1], 8080, udp=True) as held:
        for _ in range(3):
            with suppress(OSError):  # refused
                held.sendall(b"?")
        cluster.apply()
        for _ in range(2):
            with suppress(OSError):
                held.sendall(b"?")
        assert held.recv(200).decode().split()[1] == CLIENT


def test_a_udp_sender_follows_a_port_that_another_service_takes(cluster):
    only = {1: 2, 2: 3}

    def served_by(number):
        def change(snapshot):
            one = {t: e for t, e in snapshot.endpoints.items() if t == TASK[only[number]]}
            rest = {
                t: replace(e, service=DEAD) for t, e in snapshot.endpoints.items() if t not in one
            }
            return replace(snapshot, endpoints={**rest, **one})

        return change

    cluster.apply(served_by(1))
    with cluster.bed.socket(cluster.client, LAN[1], 8080, udp=True) as held:
        for number in (1, 2, 1):
            cluster.apply(served_by(number))
            held.sendall(b"?")
            assert held.recv(200).decode().split()[0] == f"task{only[number]}"


SCTP_PORT = PublishedPort("sctp", 9000, 8080)


def publishing_sctp(snapshot):
    ports = {WEB: replace(snapshot.services[WEB], ports=(*PORTS, SCTP_PORT))}
    boxes = {
        task: replace(box, ports=(*PORTS, SCTP_PORT)) for task, box in snapshot.sandboxes.items()
    }
    return replace(snapshot, services={**snapshot.services, **ports}, sandboxes=boxes)


def sctp_socket(stack, cluster, name, address):
    """Raw: a kernel without SCTP of its own forwards it, and its checksums are ours to make."""
    with netns.inside(cluster.bed.path(name)):
        made = stack.enter_context(
            socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
        )
    made.settimeout(5)
    made.bind((address, 0))
    return made


def heard(packets):
    """Who sent the next packet to whom, and the packet, its checksum as it is to be."""
    packet = IP(packets.recv(2000))
    sctp = packet[SCTP]
    there, sctp.chksum = sctp.chksum, None
    assert SCTP(bytes(sctp)).chksum == there
    return (packet.src, sctp.sport, packet.dst, sctp.dport), sctp


def test_an_association_is_set_up_through_a_published_port_of_sctp(cluster):
    cluster.apply(publishing_sctp)
    with ExitStack() as stack:
        client = sctp_socket(stack, cluster, cluster.client, CLIENT)
        tasks = {i: sctp_socket(stack, cluster, cluster.task[i], str(PLACE[i])) for i in HOSTS}
        answered = set()
        for own, port in enumerate((40001, 40002, 40003), start=1):
            begins = SCTP(sport=port, dport=8080, tag=0) / SCTPChunkInit(init_tag=own)
            client.sendto(bytes(begins), (LAN[2], 0))
            (ready,), _, _ = select.select(list(tasks.values()), [], [], 5) or ([None], 0, 0)
            (i,) = [number for number, each in tasks.items() if each is ready]
            way, first = heard(ready)
            assert way == (CLIENT, port, str(PLACE[i]), 9000)
            assert first[SCTPChunkInit].init_tag == own
            agrees = SCTP(sport=9000, dport=port, tag=own) / SCTPChunkInitAck(init_tag=70 + own)
            ready.sendto(bytes(agrees), (CLIENT, 0))
            way, second = heard(client)
            assert way == (LAN[2], 8080, CLIENT, port), "from the port that was asked"
            assert second[SCTPChunkInitAck].init_tag == 70 + own
            goes_on = SCTP(sport=port, dport=8080, tag=70 + own) / SCTPChunkCookieEcho(cookie=b"x")
            client.sendto(bytes(goes_on), (LAN[2], 0))
            assert heard(ready)[0] == (CLIENT, port, str(PLACE[i]), 9000), "the same task"
            answered.add(i)
        assert answered == set(HOSTS), "one after the other"


def from_port(stack, cluster, node, port, *, udp=False):
    """A socket of the client's with that source port, connected to the published port there."""
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    with netns.inside(cluster.bed.path(cluster.client)):
        made = stack.enter_context(socket.socket(socket.AF_INET, kind))
    made.settimeout(5)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((CLIENT, port))
    made.connect((LAN[node], 8080))
    return made


def repeated(connected):
    """How many segments the kernel sent again."""
    (again,) = struct.unpack_from("I", connected.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 104), 100)
    return again


@BOTH
def test_one_port_of_a_client_reaches_one_task_through_every_node_at_once(cluster, udp):
    cluster.apply(ready=(3,))
    with ExitStack() as stack:
        held = [from_port(stack, cluster, node, 41000, udp=udp) for node in HOSTS]
        for _ in range(3):
            for each in held:
                each.sendall(b"?")
            assert {each.recv(200).decode() for each in held} == {f"task3 {CLIENT}"}


@pytest.mark.parametrize("way", [(1, 2), (2, 1)], ids=["1-2", "2-1"])
def test_a_port_that_a_client_used_through_another_node_is_not_waited_for(cluster, way):
    """The task closed first and remembers the connection; of two nodes the timestamps differ."""
    cluster.apply(ready=(3,))
    cluster.server[3].close()
    with ExitStack() as stack:
        with netns.inside(cluster.bed.path(cluster.task[3])):
            listening = stack.enter_context(socket.create_server((str(PLACE[3]), 9000)))
        listening.settimeout(5)
        for port in range(42000, 42008):
            for node in way:
                asking = from_port(stack, cluster, node, port)
                answering, seen = listening.accept()
                assert seen[0] == CLIENT
                answering.close()
                assert asking.recv(1) == b""
                assert repeated(asking) == 0
                asking.close()


@BOTH
def test_a_port_that_a_process_of_a_host_had_is_the_process_s_there_and_only_there(cluster, udp):
    cluster.bed.server(cluster.host[1], 8080, "process")
    taken = frozenset({("udp" if udp else "tcp", 8080)})
    cluster.apply(lambda seen: replace(seen, taken=taken if seen.self_id == NODE[1] else ()))
    assert cluster.bed.ask(cluster.client, LAN[1], 8080, udp=udp) == ("process", CLIENT)
    assert cluster.bed.ask(cluster.host[1], "127.0.0.1", 8080, udp=udp)[0] == "process"
    assert cluster.bed.ask(cluster.client, LAN[2], 8080, udp=udp)[0] in {"task1", "task2", "task3"}
    assert cluster.bed.ask(cluster.client, LAN[1], 8080, udp=not udp)[0].startswith("task")


def test_removing_the_service_closes_the_port(cluster):
    cluster.apply(lambda snapshot: replace(snapshot, services={}))
    with pytest.raises(ConnectionRefusedError):
        cluster.bed.ask(cluster.client, LAN[1], 8080)
