"""Which backend gets a connection, by the service's policy: VIPs and published ports alike."""

from __future__ import annotations

import json
import socket
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import count

import pytest

from meshnet.kernel import netns
from meshnet.kernel.nft import NftOperations
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.policy import ROUND_ROBIN, Policy
from meshnet.model.snapshot import (
    Endpoint,
    Network,
    Node,
    PublishedPort,
    Sandbox,
    Service,
    Snapshot,
)
from meshnet_dns import redirect
from meshnet_lb.jhash import slot_of
from meshnet_lb.policies import memory_map, seed_of
from meshnet_lb.rules import rulesets
from meshnet_lb.tables import rendezvous

pytestmark = pytest.mark.netns

NEAR, FAR = (NodeId(name.ljust(25, "0")) for name in ("near", "far"))
NET, MESH = (NetworkId(name.ljust(25, "0")) for name in ("net", "mesh"))
WEB, OTHER = (ServiceId(name.ljust(25, "0")) for name in ("web", "other"))
VIP, SECOND_VIP = IPv4Address("10.0.1.200"), IPv4Address("10.0.1.201")
HOST_ON_LAN = "10.99.0.1"
BACKENDS = {"b1": NEAR, "b2": NEAR, "b3": FAR, "b4": FAR}
CLIENTS = 40
POLICIES = [
    ROUND_ROBIN,
    Policy("random"),
    Policy("source-hash"),
    Policy("sticky", sticky_s=600),
    Policy("weighted", weights=(("near", 3),)),
    Policy("nearest"),
]


def task(label):
    return TaskId(label.ljust(25, "0"))


def address(network, label):
    return IPv4Address(f"10.0.{1 if network == NET else 2}.{1 + int(label[1:])}")


class Square:
    """A container and a client outside, each with many addresses, a host and four backends.

    ``entry`` is where connections begin: ``vip`` in the container, ``mesh`` outside.
    """

    def __init__(self, bed, entry):
        self.bed, self.entry, self._ports = bed, entry, count(20_000)
        switch = bed.namespace("sw")
        bed.bridge(switch)
        self.host, self.lan = bed.namespace("host"), bed.namespace("lan")
        self.caller = bed.namespace("caller")
        names = {label: bed.namespace(label) for label in BACKENDS}
        plugs = {"caller": (self.caller, "eth0"), "host": (self.host, "mn-ingress")}
        plugs |= {label: (name, "eth0") for label, name in names.items()}
        for label, (name, interface) in plugs.items():
            bed.veth(name, interface, switch, f"v{label}")
            bed.run(f"ip -n {switch} link set v{label} master br0")
        bed.veth(self.host, "u", self.lan, "u")
        lines = [f"-n {self.host} addr add {HOST_ON_LAN}/16 dev u"]
        lines += [f"-n {self.host} addr add 10.0.{net}.254/24 dev mn-ingress" for net in (1, 2)]
        for at in range(CLIENTS):
            lines.append(f"-n {self.lan} addr add 10.99.1.{at + 1}/16 dev u")
            lines.append(f"-n {self.caller} addr add 10.0.1.{at + 100}/24 dev eth0")
        for label, name in names.items():
            lines += [f"-n {name} addr add {address(n, label)}/24 dev eth0" for n in (NET, MESH)]
            lines.append(f"-n {name} route add default via 10.0.2.254")
        bed.run("\n".join(f"ip {line}" for line in lines))
        bed.sysctl(self.host, "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")
        for label, name in names.items():
            bed.server(name, 9000, label)
        networks = {
            NET: Network(NET, "net", Vni(4097), IPv4Network("10.0.1.0/24"), VIP),
            MESH: Network(MESH, "m", Vni(4096), IPv4Network("10.0.2.0/24"), VIP, ingress=True),
        }
        here = IPv4Address("10.0.2.254")
        nodes = {
            NEAR: Node(NEAR, "near", IPv4Address("192.0.2.1"), ingress_address=here),
            FAR: Node(FAR, "far", IPv4Address("192.0.2.2")),
        }
        on = ((NET, IPv4Interface("10.0.1.100/24")),)
        self.box = Sandbox(task("caller"), bed.path(self.caller), on, None)
        endpoints = {
            task(label): Endpoint(
                task(label), label, node, WEB, {net: address(net, label) for net in networks}
            )
            for label, node in BACKENDS.items()
        }
        ports = (PublishedPort("tcp", 9000, 8080), PublishedPort("udp", 9000, 8080))
        services = {WEB: Service(WEB, "web", vips={NET: VIP}, ports=ports)}
        boxes = {task("caller"): self.box}
        self.snapshot = Snapshot(1, NEAR, nodes, networks, services, endpoints, boxes)
        self.operations = self.open()

    def open(self):
        return NftOperations([rulesets, redirect.rulesets], host_netns=self.bed.path(self.host))

    def clients(self):
        subnet = "10.99.1.{}" if self.entry == "mesh" else "10.0.1.{}"
        first = 1 if self.entry == "mesh" else 100
        return [subnet.format(first + at) for at in range(CLIENTS)]

    def with_policy(self, policy, ready=tuple(BACKENDS)):
        services = {WEB: replace(self.snapshot.services[WEB], policy=policy)}
        endpoints = {
            of: replace(each, ready=each.name in ready)
            for of, each in self.snapshot.endpoints.items()
        }
        return replace(self.snapshot, services=services, endpoints=endpoints)

    def apply(self, policy, ready=tuple(BACKENDS), operations=None):
        operations = operations or self.operations
        desired = operations.desired(self.with_policy(policy, ready))
        changes = operations.plan(desired, operations.observe(desired), prune=True)
        operations.apply(changes)
        return changes

    @property
    def place(self):
        """Where the choice is made."""
        return self.host if self.entry == "mesh" else self.caller

    def connect(self, client, *, udp=False):
        mesh = self.entry == "mesh"
        with netns.inside(self.bed.path(self.lan if mesh else self.caller)):
            kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
            asking = socket.socket(socket.AF_INET, kind)
        asking.settimeout(3)
        try:
            asking.bind((client, next(self._ports)))  # conntrack knows no earlier one
            asking.connect((HOST_ON_LAN, 8080) if mesh else (str(VIP), 9000))
        except OSError:
            asking.close()
            raise
        return asking

    def ask(self, client=None, *, udp=False):
        """Who answers this client; that it is seen as itself is looked at, too."""
        client = client or self.clients()[0]
        with self.connect(client, udp=udp) as asking:
            asking.sendall(b"?")
            says, seen = asking.recv(200).decode().split()
        assert seen == client
        return says

    def hashed(self, client, ready=tuple(BACKENDS)):
        """Whom a client's address leads to."""
        network = MESH if self.entry == "mesh" else NET
        names = {str(address(network, label)): label for label in ready}
        owners = rendezvous(WEB, names).owners
        return names[owners[slot_of(IPv4Address(client), len(owners), seed_of(WEB))]]

    def remembered(self, policy):
        """Client -> seconds that it is remembered for, seconds that are left."""
        network = MESH if self.entry == "mesh" else NET
        listed = self.bed.run(
            f"ip netns exec {self.place} nft -j list map ip meshnet"
            f" {memory_map(WEB, network, policy)}"
        )
        body = next(each["map"] for each in json.loads(listed)["nftables"] if "map" in each)
        found = {}
        for key, _ in body.get("elem", ()):
            found[key["elem"]["val"]] = body["timeout"], key["elem"]["expires"]
        return found

    def forget(self, policy):
        """As time would."""
        network = MESH if self.entry == "mesh" else NET
        self.bed.run(
            f"ip netns exec {self.place} nft flush map ip meshnet"
            f" {memory_map(WEB, network, policy)}"
        )


@pytest.fixture(params=["vip", "mesh"])
def square(bed, request):
    made = Square(bed, request.param)
    try:
        yield made
    finally:
        made.operations.close()


def test_a_new_process_finds_nothing_to_do_and_a_change_leaves_connections_where_they_are(square):
    square.apply(ROUND_ROBIN)
    client = square.clients()[0]
    with square.connect(client) as held:
        held.sendall(b"?")
        own = held.recv(200)
        for policy in [*POLICIES, *reversed(POLICIES)]:
            square.apply(policy)
            again = square.open()
            try:
                assert square.apply(policy, operations=again) == [], policy
            finally:
                again.close()
            assert square.ask(client) in BACKENDS
            assert square.ask(client, udp=True) in BACKENDS
            held.sendall(b"?")
            assert held.recv(200) == own, policy


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_random_reaches_everybody_and_keeps_no_turn(square, udp):
    square.apply(Policy("random"))
    order = [square.ask(udp=udp) for _ in range(64)]
    assert set(order) == set(BACKENDS)
    assert order != order[:4] * 16


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_weights_are_exact_shares_whoever_went_and_came(square, udp):
    policy = Policy("weighted", weights=(("near", 3),))
    for ready in (tuple(BACKENDS), ("b1", "b3", "b4"), tuple(BACKENDS)):
        square.apply(policy, ready)
        shares = {label: 3 if BACKENDS[label] == NEAR else 1 for label in ready}
        for _ in range(2):
            got = Counter(square.ask(udp=udp) for _ in range(sum(shares.values())))
            assert got == shares
    square.apply(Policy("weighted", weights=(("far", 0),)))
    assert Counter(square.ask(udp=udp) for _ in range(4)) == {"b1": 2, "b2": 2}


def test_nearest_takes_turns_on_its_own_node_and_elsewhere_when_that_has_nobody(square):
    for ready, chosen in (
        (tuple(BACKENDS), {"b1", "b2"}),
        (("b2", "b3", "b4"), {"b2"}),
        (("b3", "b4"), {"b3", "b4"}),
        (tuple(BACKENDS), {"b1", "b2"}),
    ):
        square.apply(Policy("nearest"), ready)
        assert Counter(square.ask() for _ in range(2 * len(chosen))) == dict.fromkeys(chosen, 2)


def test_a_client_is_led_by_its_address_and_only_those_of_a_lost_backend_move(square):
    square.apply(Policy("source-hash"))
    before = {client: square.ask(client) for client in square.clients()}
    assert before == {client: square.hashed(client) for client in before}
    assert before == {client: square.ask(client, udp=True) for client in before}
    assert set(before.values()) == set(BACKENDS)
    less = tuple(label for label in BACKENDS if label != "b2")
    (change,) = [
        table
        for each in square.apply(Policy("source-hash"), less)
        for table in each.tables
        if each.netns == (None if square.entry == "mesh" else square.bed.path(square.caller))
    ]
    assert not any("add rule" in command for command in change.commands), "elements alone"
    for client, backend in before.items():
        assert (square.ask(client) == backend) == (backend != "b2")


def test_who_is_remembered_stays_when_backends_come_and_is_chosen_anew_when_forgotten(square):
    policy = Policy("sticky", sticky_s=600)
    square.apply(policy, ("b1",))
    clients = square.clients()[:12]
    assert {square.ask(client) for client in clients} == {"b1"}
    kept = square.remembered(policy)
    assert kept.keys() == set(clients)
    assert all(whole == 600 and 0 < left <= 600 for whole, left in kept.values())
    square.apply(policy)
    assert {square.ask(client) for client in clients} == {"b1"}
    assert {square.ask(client, udp=True) for client in clients} == {"b1"}
    square.forget(policy)
    anew = {client: square.ask(client) for client in clients}
    assert anew == {client: square.hashed(client) for client in clients}
    assert len(set(anew.values())) > 1


def test_who_is_remembered_for_a_backend_that_left_is_led_to_another_and_stays_there(square):
    policy = Policy("sticky", sticky_s=600)
    square.apply(policy)
    clients = square.clients()
    before = {client: square.ask(client) for client in clients}
    less = tuple(label for label in BACKENDS if label != "b2")
    square.apply(policy, less)
    moved = {client: square.ask(client) for client in clients}
    for client, backend in before.items():
        assert moved[client] == (square.hashed(client, less) if backend == "b2" else backend)
    square.apply(policy)
    assert moved == {client: square.ask(client) for client in clients}


def test_a_new_connection_begins_the_time_anew(square):
    policy = Policy("sticky", sticky_s=600)
    square.apply(policy)
    client = square.clients()[0]
    square.ask(client)
    network = MESH if square.entry == "mesh" else NET
    name = memory_map(WEB, network, policy)
    mark = next(
        value
        for each in json.loads(
            square.bed.run(f"ip netns exec {square.place} nft -j list map ip meshnet {name}")
        )["nftables"]
        if "map" in each
        for _, value in each["map"]["elem"]
    )
    square.bed.run(
        f"ip netns exec {square.place} nft 'delete element ip meshnet {name} {{ {client} }};"
        f" add element ip meshnet {name} {{ {client} timeout 600s expires 5s : {mark} }}'"
    )
    assert square.remembered(policy)[client][1] <= 5
    square.ask(client)
    assert square.remembered(policy)[client][1] > 5


def test_nobody_ready_refuses_under_every_policy(square):
    for policy in POLICIES:
        square.apply(policy, ())
        with pytest.raises(ConnectionRefusedError):
            square.ask()
        square.apply(policy)
        assert square.ask() in BACKENDS
