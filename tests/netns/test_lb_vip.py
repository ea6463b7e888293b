"""Where a container's packets to a VIP go."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface

import pytest

from meshnet.kernel import netns
from meshnet.kernel.nft import NftOperations
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.policy import Policy
from meshnet.model.snapshot import Endpoint, Network, Node, Sandbox, Service, Snapshot
from meshnet_dns import redirect
from meshnet_dns.ports import RESOLVER_PORT
from meshnet_lb.guard import SILENCE_S
from meshnet_lb.rules import rulesets
from meshnet_lb.service import chain_name

pytestmark = pytest.mark.netns

NODE = NodeId("n".ljust(25, "0"))
NET = NetworkId("net".ljust(25, "0"))
WEB = ServiceId("web".ljust(25, "0"))
NOBODY = ServiceId("nobody".ljust(25, "0"))
VIP, EMPTY = IPv4Address("10.0.1.200"), IPv4Address("10.0.1.201")
CALLER = IPv4Address("10.0.1.10")
BACKENDS = {f"b{i}": IPv4Address(f"10.0.1.{i + 1}") for i in range(1, 5)}


def task(label):
    return TaskId(label.ljust(25, "0"))


def second(address):
    return IPv6Address(f"fd00:1::{str(address).rpartition('.')[2]}")


class Town:
    """A caller and four backends on one network, each in its namespace.

    With ``ip6`` the network is dual stack, and what is asked is asked by IPv6.
    """

    def __init__(self, bed, table):
        self.bed, self.table = bed, table
        self.dual = table == "ip6"
        of = second if self.dual else (lambda address: address)
        self.vip, self.empty, self.caller = of(VIP), of(EMPTY), of(CALLER)
        self.backends = {label: of(address) for label, address in BACKENDS.items()}
        self.family = socket.AF_INET6 if self.dual else socket.AF_INET
        self.icmp = socket.IPPROTO_ICMPV6 if self.dual else socket.IPPROTO_ICMP
        self.loopback, self.anywhere = ("::1", "::") if self.dual else ("127.0.0.1", "")
        switch = bed.namespace("sw")
        bed.bridge(switch)
        self.host = bed.namespace("host")
        self.names = {}
        for label, address in {"caller": CALLER, **BACKENDS}.items():
            name = self.names[label] = bed.namespace(label)
            bed.veth(name, "eth0", switch, f"v{label}")
            bed.run(f"ip -n {switch} link set v{label} master br0")
            bed.run(f"ip -n {name} addr add {address}/24 dev eth0")
            if self.dual:
                bed.run(f"ip -n {name} addr add {second(address)}/64 dev eth0 nodad")
        self.servers = {
            label: bed.server(self.names[label], 9000, label, address=self.anywhere)
            for label in BACKENDS
        }
        self.snapshot = Snapshot(
            1,
            NODE,
            {NODE: Node(NODE, "n", IPv4Address("192.0.2.1"))},
            {NET: Network(NET, "net", Vni(4097), IPv4Network("10.0.1.0/24"), BACKENDS["b1"])},
            {
                WEB: Service(WEB, "web", vips={NET: VIP}, vips6=self.seconds(VIP)),
                NOBODY: Service(NOBODY, "nobody", vips={NET: EMPTY}, vips6=self.seconds(EMPTY)),
            },
            {
                task(label): Endpoint(
                    task(label), label, NODE, WEB, {NET: address}, addresses6=self.seconds(address)
                )
                for label, address in BACKENDS.items()
            },
            {task(label): self.sandbox(label) for label in self.names},
        )
        self.operations = self.open()

    def seconds(self, address):
        return {NET: second(address)} if self.dual else {}

    def open(self):
        sources = [rulesets, redirect.rulesets]
        return NftOperations(sources, host_netns=self.bed.path(self.host))

    def sandbox(self, label):
        address = {"caller": CALLER, **BACKENDS}[label]
        networks = ((NET, IPv4Interface(f"{address}/24")),)
        both = ((NET, IPv6Interface((second(address), 64))),) if self.dual else ()
        path = self.bed.path(self.names[label])
        return Sandbox(task(label), path, networks, None, networks6=both)

    def apply(self, snapshot=None, operations=None):
        operations = operations or self.operations
        desired = operations.desired(snapshot or self.snapshot)
        complete = snapshot is None or snapshot.complete
        changes = operations.plan(desired, operations.observe(desired), prune=complete)
        operations.apply(changes)
        return changes

    def without(self, *labels):
        gone = {t: replace(self.snapshot.endpoints[t], ready=False) for t in map(task, labels)}
        return replace(self.snapshot, endpoints={**self.snapshot.endpoints, **gone})

    def ask(self, *, udp=False, source="caller", vip=None):
        return self.bed.ask(self.names[source], str(vip or self.vip), 9000, udp=udp)


@pytest.fixture(params=["ip", "ip6"])
def town(bed, request):
    made = Town(bed, request.param)
    try:
        made.apply()
        yield made
    finally:
        made.operations.close()


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_four_backends_take_strict_turns_and_see_the_caller(town, udp):
    asked = [town.ask(udp=udp) for _ in range(12)]
    order = [says for says, _ in asked]
    assert {seen for _, seen in asked} == {str(town.caller)}
    assert set(order[:4]) == set(BACKENDS)
    assert order == order[:4] * 3


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_a_backend_reaches_its_own_service_and_itself_through_it(town, udp):
    asked = [town.ask(udp=udp, source="b1") for _ in range(4)]
    assert Counter(says for says, _ in asked) == dict.fromkeys(BACKENDS, 1)
    assert {seen for _, seen in asked} == {str(town.backends["b1"])}


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_a_service_without_backends_refuses_at_once(town, udp):
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        town.ask(udp=udp, vip=town.empty)
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_a_task_that_asks_its_own_service_is_refused_while_nobody_is_ready(town, udp):
    town.apply(town.without(*BACKENDS))
    with pytest.raises(ConnectionRefusedError):
        town.ask(udp=udp, source="b1")


def test_a_udp_sender_that_was_refused_is_led_to_the_first_backend(town):
    town.apply(town.without(*BACKENDS))
    with netns.inside(town.bed.path(town.names["caller"])):
        sender = socket.socket(town.family, socket.SOCK_DGRAM)
    with sender:
        sender.settimeout(3)
        sender.connect((str(town.vip), 9000))
        sender.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            sender.recv(200)
        town.apply(town.without("b2", "b3", "b4"))
        sender.send(b"?")
        assert sender.recv(200).decode().split()[0] == "b1"


def test_ping_of_a_vip_answers(town):
    with netns.inside(town.bed.path(town.names["caller"])):
        ping = socket.socket(town.family, socket.SOCK_RAW, town.icmp)
    request, header, answer = (128, 0, 129) if town.table == "ip6" else (8, 20, 0)
    with ping:
        ping.settimeout(3)
        ping.connect((str(town.vip), 0))
        ping.sendall(bytes([request]) + bytes.fromhex("00f7fd00010001"))
        while (heard := ping.recv(200)[header]) != answer:  # a raw socket hears of neighbours, too
            assert heard


def test_a_connection_outlives_its_backends_withdrawal_and_a_new_one_goes_elsewhere(town):
    with town.bed.socket(town.names["caller"], str(town.vip), 9000) as held:
        held.sendall(b"?")
        own = held.recv(200).decode().split()[0]
        changes = town.apply(town.without(own))
        assert all("balance" not in c for ch in changes for t in ch.tables for c in t.commands)
        assert own not in {town.ask()[0] for _ in range(6)}
        held.sendall(b"?")
        assert held.recv(200).decode().split()[0] == own


def test_a_udp_flow_leaves_a_withdrawn_backend(town):
    with town.bed.socket(town.names["caller"], str(town.vip), 9000, udp=True) as held:
        held.sendall(b"?")
        own = held.recv(200).decode().split()[0]
        held.sendall(b"?")
        assert held.recv(200).decode().split()[0] == own
        town.apply(town.without(own))
        held.sendall(b"?")
        assert held.recv(200).decode().split()[0] != own


def test_who_only_waits_on_a_connection_to_a_backend_that_is_gone_hears_of_it(town):
    with town.bed.socket(town.names["caller"], str(town.vip), 9000) as held:
        held.sendall(b"?")
        own = held.recv(200).decode().split()[0]
        town.bed.run(f"ip -n {town.names[own]} link set eth0 down")  # its host is off
        left = {t: e for t, e in town.snapshot.endpoints.items() if e.name != own}
        town.apply(replace(town.snapshot, endpoints=left))
        with pytest.raises(ConnectionResetError):
            held.recv(200)


def test_who_only_waits_hears_of_the_last_backends_end_too(town):
    with town.bed.socket(town.names["caller"], str(town.vip), 9000) as held:
        held.sendall(b"?")
        held.recv(200)
        town.apply(replace(town.snapshot, endpoints={}))
        with pytest.raises(ConnectionResetError):
            held.recv(200)


def test_a_udp_sender_that_is_older_than_the_service_is_led_to_it(town):
    later = replace(town.snapshot, services={})
    town.apply(later)
    with town.bed.socket(town.names["caller"], str(town.vip), 9000, udp=True) as held:
        for _ in range(3):
            with suppress(OSError):  # nobody there
                held.sendall(b"?")
        town.apply()
        for _ in range(2):
            with suppress(OSError):  # what the kernel had to say of those before
                held.sendall(b"?")
        assert held.recv(200).decode().split()[0] in BACKENDS


def test_a_connection_to_a_backend_that_is_gone_is_reset_and_one_that_drains_stays(town):
    with town.bed.socket(town.names["caller"], str(town.vip), 9000) as held:
        held.sendall(b"?")
        own = held.recv(200).decode().split()[0]
        town.apply(town.without(own))
        held.sendall(b"?")
        assert held.recv(200).decode().split()[0] == own
        town.bed.run(f"ip -n {town.names[own]} link set eth0 down")  # its host is off
        left = {t: e for t, e in town.snapshot.endpoints.items() if e.name != own}
        town.apply(replace(town.snapshot, endpoints=left))
        with pytest.raises(ConnectionResetError):
            held.sendall(b"?")


def test_the_last_backends_end_refuses_and_its_return_serves(town):
    town.apply(town.without(*BACKENDS))
    with pytest.raises(ConnectionRefusedError):
        town.ask()
    town.apply()
    assert town.ask()[0] in BACKENDS


def test_turns_are_strict_whoever_went_and_came_and_a_new_process_finds_nothing_to_do(town):
    caller = town.bed.path(town.names["caller"])
    for snapshot, left in ((town.without("b2"), {"b1", "b3", "b4"}), (town.snapshot, {*BACKENDS})):
        (change,) = (each for each in town.apply(snapshot) if each.netns == caller)
        assert all(len(each.text) < 400 for each in change.tables), "who stayed is written again"
        answers = [town.ask()[0] for _ in range(2 * len(left))]
        assert set(answers[: len(left)]) == left
        assert answers[: len(left)] == answers[len(left) :]
    other = town.open()
    try:
        assert town.apply(operations=other) == []
        chain = chain_name(WEB, NET)
        town.bed.run(
            f"nsenter --net={caller} nft delete element {town.table} meshnet {chain} {{ 1 }}"
        )
        assert [each.netns for each in town.apply(operations=other)] == [caller]
    finally:
        other.close()
    assert {town.ask()[0] for _ in BACKENDS} == {*BACKENDS}


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
@pytest.mark.parametrize("kind", ["random", "source-hash", "sticky", "nearest", "weighted"])
def test_every_policy_leads_by_either_family(town, kind, udp):
    policy = Policy(kind, sticky_s=600 if kind == "sticky" else 0, weights=(("n", 2),))
    services = {WEB: replace(town.snapshot.services[WEB], policy=policy)}
    town.snapshot = replace(town.snapshot, services=services)
    town.apply()
    again = town.open()
    try:
        assert town.apply(operations=again) == []
    finally:
        again.close()
    asked = Counter(town.ask(udp=udp)[0] for _ in range(16))
    if kind == "random":
        assert len(asked) > 1
    elif kind in {"nearest", "weighted"}:
        assert asked == dict.fromkeys(BACKENDS, 4)
    else:
        [own] = asked
        town.apply(town.without(own))
        [other] = {town.ask(udp=udp)[0] for _ in range(4)}
        assert other != own
        town.apply()
        [now] = {town.ask(udp=udp)[0] for _ in range(4)}
        assert now == (other if kind == "sticky" else own), "who is remembered stays"


def test_another_services_change_keeps_the_turn(town):
    first = [town.ask()[0] for _ in range(2)]
    services = {sid: s for sid, s in town.snapshot.services.items() if sid != NOBODY}
    assert town.apply(replace(town.snapshot, services=services))
    assert len({*first, *(town.ask()[0] for _ in range(2))}) == 4


def test_a_restart_changes_nothing_and_a_flush_is_repaired(town):
    again = town.open()
    try:
        assert town.apply(operations=again) == []
        town.bed.run(f"ip netns exec {town.names['caller']} nft flush ruleset")
        assert town.apply(operations=again)
        assert {town.ask()[0] for _ in range(4)} == set(BACKENDS)
    finally:
        again.close()


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_questions_to_port_53_reach_the_resolvers_port(town, udp):
    caller = town.names["caller"]
    town.bed.server(caller, RESOLVER_PORT, "resolver", address="127.0.0.11")
    assert town.bed.ask(caller, "127.0.0.11", 53, udp=udp)[0] == "resolver"


@pytest.mark.parametrize("known", [set(), {"b1"}, {"b2", "b4"}], ids=len)
def test_a_restarted_daemon_that_knows_little_yet_loses_and_moves_nothing(town, known):
    caller = town.names["caller"]
    flows = [town.bed.socket(caller, str(town.vip), 9000, udp=True) for _ in range(4)]
    began = []
    for flow in flows:
        flow.sendall(b"?")
        began.append(flow.recv(200).decode().split()[0])
    some = {t: e for t, e in town.snapshot.endpoints.items() if e.name in known}
    again = town.open()
    try:
        town.apply(replace(town.snapshot, endpoints=some, complete=False), again)
        assert Counter(town.ask()[0] for _ in range(8)) == dict.fromkeys(BACKENDS, 2)
        town.apply(operations=again)
        assert Counter(town.ask()[0] for _ in range(8)) == dict.fromkeys(BACKENDS, 2)
        for flow, backend in zip(flows, began, strict=True):
            flow.sendall(b"?")
            assert flow.recv(200).decode().split()[0] == backend
    finally:
        again.close()
        for flow in flows:
            flow.close()


def test_a_connection_that_a_dead_backend_never_answered_is_led_to_another(town):
    town.bed.run(
        f"ip netns exec {town.names['b1']} nft 'add table inet t;"
        " add chain inet t i { type filter hook input priority 0; };"
        " add rule inet t i meta l4proto tcp drop'"
    )
    town.apply(town.without("b2", "b3", "b4"))
    with netns.inside(town.bed.path(town.names["caller"])):
        asking = socket.socket(town.family, socket.SOCK_STREAM)
    with asking:
        asking.settimeout(0)
        assert asking.connect_ex((str(town.vip), 9000)) != 0
        town.apply(town.without("b1", "b3", "b4"))
        assert select.select([], [asking], [], 5)[1], "at the next packet, after a second"
        asking.settimeout(5)
        asking.sendall(b"?")
        assert asking.recv(200).decode().split()[0] == "b2"


def connecting(town, address, port):
    """A connection that was begun and not waited for."""
    with netns.inside(town.bed.path(town.names["caller"])):
        made = socket.socket(town.family, socket.SOCK_STREAM)
    made.settimeout(0)
    made.connect_ex((str(address), port))
    return made


def outcome(asking, within_s):
    """0, or why not (errno); None: nothing was heard yet."""
    if not select.select([], [asking], [], within_s)[1]:
        return None
    return asking.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def grow_up(town):
    """Let the first seconds of every sandbox be over."""
    for name in town.names.values():
        town.bed.run(f"ip netns exec {name} nft flush set {town.table} meshnet young")


def test_a_call_to_a_program_that_just_died_is_led_to_another(town):
    grow_up(town)
    town.apply(town.without("b2", "b3", "b4"))
    assert town.ask()[0] == "b1"
    town.servers["b1"].close()
    with connecting(town, town.vip, 9000) as asking:
        assert outcome(asking, 0.5) is None, "refused before anybody knew"
        town.apply(town.without("b1", "b3", "b4"))
        assert outcome(asking, 3) == 0
        asking.settimeout(5)
        asking.sendall(b"?")
        assert asking.recv(200).decode().split()[0] == "b2"


def test_a_call_to_the_last_program_that_just_died_is_refused_when_that_is_known(town):
    grow_up(town)
    town.apply(town.without("b2", "b3", "b4"))
    town.ask()
    town.servers["b1"].close()
    with connecting(town, town.vip, 9000) as asking:
        town.apply(town.without(*BACKENDS))
        assert outcome(asking, 3) == errno.ECONNREFUSED


def test_a_program_that_stays_away_is_refused_after_some_seconds(town):
    grow_up(town)
    backend = town.backends["b1"]
    town.bed.ask(town.names["caller"], str(backend), 9000)
    town.servers["b1"].close()
    began = time.monotonic()
    with connecting(town, backend, 9000) as asking:
        assert outcome(asking, SILENCE_S + 8) == errno.ECONNREFUSED
    assert time.monotonic() - began > SILENCE_S - 1
    with connecting(town, backend, 9000) as asking:
        assert outcome(asking, 0.5) == errno.ECONNREFUSED


def test_a_port_that_never_served_is_refused_at_once_and_another_one_served_on(town):
    grow_up(town)
    with connecting(town, town.backends["b1"], 9001) as asking:
        assert outcome(asking, 0.5) == errno.ECONNREFUSED
    town.ask()
    with connecting(town, town.backends["b1"], 9001) as asking:
        assert outcome(asking, 0.5) == errno.ECONNREFUSED


def test_in_its_first_seconds_a_sandbox_waits_for_its_program(town):
    with connecting(town, town.backends["b1"], 9001) as asking:
        assert outcome(asking, 0.5) is None, "refused before the program could listen"
        town.bed.server(town.names["b1"], 9001, "late", address=town.anywhere)
        assert outcome(asking, 3) == 0


def test_a_restart_does_not_begin_the_first_seconds_again(town):
    grow_up(town)
    again = town.open()
    try:
        assert town.apply(operations=again) == []
        with connecting(town, town.backends["b1"], 9001) as asking:
            assert outcome(asking, 0.5) == errno.ECONNREFUSED
    finally:
        again.close()


def test_a_health_check_inside_is_refused_at_once(town):
    backend = town.names["b1"]
    town.bed.ask(backend, town.loopback, 9000)
    town.servers["b1"].close()
    with pytest.raises(ConnectionRefusedError):
        town.bed.ask(backend, town.loopback, 9000)
