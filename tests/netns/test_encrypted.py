"""Encrypted overlays in the real kernel: nothing of them is ever in clear, in or out.

Where the kernel has no ESP what is tested is that: what should have been encrypted goes nowhere,
and nothing of such an overlay is made. The rest runs where it can, in the machines of tests/vm too.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal

import pytest
from overlay_bed import (
    GWBRIDGE,
    NET,
    NODES,
    PREFIX,
    VNI,
    OverlayBed,
    settle,
    sh,
    snapshot,
    two_hosts,
)

from meshnet.errors import single
from meshnet.kernel import netns
from meshnet.kernel.nft import NftOperations
from meshnet.kernel.xfrm import XfrmClient, can_encrypt
from meshnet.model.snapshot import Snapshot
from meshnet.netstate.esp import AddPolicy, DelPolicy, EspState, NoEspError, Policy
from meshnet.netstate.esp_plan import policies
from meshnet.overlay.desired import Overlays, netns_name
from meshnet.overlay.operations import OverlayOperations
from meshnet_lb.rules import Rules

pytestmark = pytest.mark.netns

ESP_PORT, CLEAR_PORT = 4790, 4789
SECRET = b"nobody else may read this"
TASKS = {11: 1, 21: 2}
RING = (b"a" * 16,)
needs_esp = pytest.mark.skipif(not can_encrypt(), reason="this kernel has no ESP")
lacks_esp = pytest.mark.skipif(can_encrypt(), reason="this kernel has ESP")


def policy(direction: Literal["in", "out"], number: int) -> Policy:
    return Policy(direction, IPv4Address(f"10.99.0.{number}"), ESP_PORT)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[OverlayBed]:
    with two_hosts(tmp_path) as made:
        yield made


class Hosts:
    """Both hosts' overlays, and what gossip tells of them."""

    def __init__(self, bed: OverlayBed) -> None:
        self.bed = bed
        self.salts: dict[int, bytes] = {}
        self.ring = RING
        self.operations = {n: self._operations(n) for n in NODES}

    def _operations(self, number: int) -> OverlayOperations:
        def tell(salt: bytes) -> None:
            self.salts[number] = salt

        bed = self.bed
        return OverlayOperations(bed.host(number), bed.netns_dir(number), on_life=tell)

    def restart(self, number: int) -> None:
        self.operations[number].close()
        self.operations[number] = self._operations(number)

    def wanted(self, number: int) -> Snapshot:
        made = snapshot(self.bed, number, TASKS)
        nodes = {
            NODES[n]: replace(made.nodes[NODES[n]], salt=self.salts.get(n, b"")) for n in NODES
        }
        networks = {**made.networks, NET: replace(made.networks[NET], encrypted=True)}
        return replace(made, nodes=nodes, networks=networks, esp_keys=self.ring)

    def settle(self, *numbers: int) -> None:
        """Each host makes what it knows of, tells its salt, and makes what follows."""
        for _ in range(2):
            for number in numbers or NODES:
                settle(self.operations[number], self.wanted(number))

    def associations(self, number: int) -> EspState:
        client = XfrmClient(self.bed.host(number))
        try:
            return client.observe()
        finally:
            client.close()

    def close(self) -> None:
        for each in self.operations.values():
            each.close()


@pytest.fixture
def hosts(bed: OverlayBed) -> Iterator[Hosts]:
    made = Hosts(bed)
    yield made
    made.close()


@contextmanager
def captured(bed: OverlayBed, number: int) -> Iterator[list[bytes]]:
    """What passes the wire of a host meanwhile, as frames."""
    found: list[bytes] = []
    with netns.inside(bed.host(number)):
        capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    with capture:
        capture.bind(("u", 0))
        capture.settimeout(0.3)
        yield found
        try:
            while True:
                found.append(capture.recv(65535))
        except TimeoutError:
            pass


def protocols(frames: list[bytes]) -> set[tuple[int, int]]:
    """(protocol, destination port) of packets of IPv4; of ESP the port is 0."""
    found = set()
    for frame in frames:
        if frame[12:14] == b"\x08\x00":
            protocol = frame[23]
            port = int.from_bytes(frame[36:38], "big") if protocol == socket.IPPROTO_UDP else 0
            found.add((protocol, port))
    return found


def device(bed: OverlayBed, number: int, port: int, address: str) -> None:
    """A VXLAN device on a host, as an overlay has one, without anything that would encrypt."""
    other, name = 3 - number, f"x{port}"
    sh(
        f"ip -n {PREFIX}-h{number} link add {name} type vxlan id {VNI[NET]} dstport {port} "
        f"local 10.99.0.{number} remote 10.99.0.{other};"
        f"ip -n {PREFIX}-h{number} link set {name} addrgenmode none;"
        f"ip -n {PREFIX}-h{number} addr add {address} dev {name};"
        f"ip -n {PREFIX}-h{number} link set {name} up"
    )


def send(bed: OverlayBed, number: int, to: str) -> None:
    """A datagram; nobody waits there."""
    with netns.inside(bed.host(number)):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        for _ in range(3):
            try:
                sender.sendto(SECRET, (to, 9))
            except OSError:
                continue


def neighbour(bed: OverlayBed, number: int, port: int, address: str) -> None:
    """Ask nobody by ARP: the datagram itself is what goes out."""
    sh(
        f"ip -n {PREFIX}-h{number} neigh replace {address} lladdr 02:42:0a:4d:00:09 "
        f"nud permanent dev x{port}"
    )


def in_clear(frames: list[bytes]) -> bool:
    return any(SECRET in frame for frame in frames)


def test_what_has_a_policy_and_no_association_goes_nowhere(bed):
    device(bed, 1, ESP_PORT, "10.77.0.1/24")
    neighbour(bed, 1, ESP_PORT, "10.77.0.2")
    device(bed, 1, CLEAR_PORT, "10.78.0.1/24")
    neighbour(bed, 1, CLEAR_PORT, "10.78.0.2")
    with captured(bed, 1) as frames:
        send(bed, 1, "10.77.0.2")
    assert in_clear(frames), "there is something to see"
    client = XfrmClient(bed.host(1))
    client.apply([AddPolicy(policy("out", 1)), AddPolicy(policy("in", 1))])
    with captured(bed, 1) as frames:
        send(bed, 1, "10.77.0.2")
    assert not in_clear(frames)
    assert (socket.IPPROTO_UDP, ESP_PORT) not in protocols(frames)
    with captured(bed, 1) as frames:
        send(bed, 1, "10.78.0.2")
    assert in_clear(frames), "what is not encrypted goes on"
    client.close()


def counted(bed: OverlayBed, number: int, name: str) -> int:
    """Packets that a device received."""
    path = f"/sys/class/net/{name}/statistics/rx_packets"
    return int(sh(f"ip netns exec {PREFIX}-h{number} cat {path}"))


def test_what_comes_in_clear_does_not_enter(bed):
    for number in (1, 2):
        device(bed, number, ESP_PORT, f"10.77.0.{number}/24")
        device(bed, number, CLEAR_PORT, f"10.78.0.{number}/24")
    neighbour(bed, 1, ESP_PORT, "10.77.0.2")
    neighbour(bed, 1, CLEAR_PORT, "10.78.0.2")
    send(bed, 1, "10.77.0.2")
    assert counted(bed, 2, f"x{ESP_PORT}"), "without the policy it does"
    client = XfrmClient(bed.host(2))
    client.apply([AddPolicy(policy("in", 2))])
    before = counted(bed, 2, f"x{ESP_PORT}"), counted(bed, 2, f"x{CLEAR_PORT}")
    send(bed, 1, "10.77.0.2")
    send(bed, 1, "10.78.0.2")
    after = counted(bed, 2, f"x{ESP_PORT}"), counted(bed, 2, f"x{CLEAR_PORT}")
    assert after[0] == before[0]
    assert after[1] > before[1], "what is not encrypted does"
    client.close()


def test_the_rules_alone_keep_it_in_and_out_when_the_policies_were_taken(bed, hosts):
    for number in (1, 2):
        device(bed, number, ESP_PORT, f"10.77.0.{number}/24")
        device(bed, number, CLEAR_PORT, f"10.78.0.{number}/24")
    neighbour(bed, 1, ESP_PORT, "10.77.0.2")
    neighbour(bed, 1, CLEAR_PORT, "10.78.0.2")
    send(bed, 1, "10.77.0.2")
    before = counted(bed, 2, f"x{ESP_PORT}")
    assert before, "without the rules it comes through"
    for at in (2, 1):  # first who receives, then who sends
        operations = NftOperations([Rules().rulesets], host_netns=bed.host(at))
        wanted = replace(hosts.wanted(at), sandboxes={}, gwbridge=GWBRIDGE)
        desired = operations.desired(wanted)
        operations.apply(operations.plan(desired, operations.observe(desired), prune=True))
        operations.close()
        with captured(bed, 1) as frames:
            send(bed, 1, "10.77.0.2")
        assert in_clear(frames) is (at == 2), "it leaves as long as only the receiver has rules"
        assert counted(bed, 2, f"x{ESP_PORT}") == before
    clear = counted(bed, 2, f"x{CLEAR_PORT}")
    send(bed, 1, "10.78.0.2")
    assert counted(bed, 2, f"x{CLEAR_PORT}") > clear, "what is not encrypted goes on"


def test_policies_are_read_back_repaired_and_others_are_left_alone(bed):
    client = XfrmClient(bed.host(1))
    ours = {policy("out", 1), policy("in", 1)}
    for each in ours:
        client.apply([AddPolicy(each)])
    at = f"ip -n {PREFIX}-h1 xfrm policy"
    tmpl = "tmpl src 10.99.0.1 dst 10.99.0.2 proto esp reqid 7 mode tunnel"
    sh(f"{at} add dir out src 10.1.0.0/16 dst 10.2.0.0/16 {tmpl}")
    assert client.observe().policies == ours
    sh(f"{at} update dir out src 10.99.0.1 proto udp dport {ESP_PORT} action block")
    assert client.observe().policies == {policy("in", 1)}, "it was made another"
    client.apply([AddPolicy(policy("out", 1))])
    assert client.observe().policies == ours
    for each in ours:
        client.apply([DelPolicy(each), DelPolicy(each)])
    assert client.observe().policies == frozenset()
    assert "10.2.0.0/16" in sh(at)
    client.close()


@lacks_esp
def test_a_kernel_without_esp_has_nothing_of_an_encrypted_overlay_and_everything_of_others(
    bed, hosts
):
    operations, wanted = hosts.operations[1], hosts.wanted(1)
    desired = operations.desired(wanted)
    with pytest.raises(ExceptionGroup) as caught:
        operations.apply(operations.plan(desired, operations.observe(desired), prune=True))
    errors = list(single(caught.value))
    path = str(bed.netns_dir(1) / netns_name(NET))
    assert not netns.is_netns(Path(path))
    assert [type(each) for each in errors] == [NoEspError], "and nothing that follows from it"
    assert [each.about for each in errors] == [{(path, "vx0")}]
    assert "kernel without ESP" in str(errors[0])
    clear = snapshot(bed, 1, TASKS)
    settle(operations, clear)
    assert netns.is_netns(Path(path)), "it is there once it is not encrypted"
    assert hosts.associations(1) == EspState(), "and nothing of what was tried is left"


@needs_esp
def test_containers_reach_each_other_and_the_wire_has_esp_alone(bed, hosts):
    hosts.settle()
    with captured(bed, 1) as frames:
        assert bed.pings("c11", "10.0.1.21")
        bed.inside(
            "c11", f"for i in 1 2 3; do echo '{SECRET.decode()}' >/dev/udp/10.0.1.21/9; done"
        )
    assert {protocol for protocol, _ in protocols(frames)} == {socket.IPPROTO_ESP}
    assert not in_clear(frames)
    assert len(hosts.associations(1).associations) == 2
    assert bed.pings("c11", "10.0.0.21"), "what is not encrypted goes beside it"


@needs_esp
def test_a_large_packet_fits_the_wire(bed, hosts):
    hosts.settle()
    with captured(bed, 1) as frames:
        done = bed.inside("c11", "ping -c3 -W2 -M do -s 1388 10.0.1.21")
    assert done.returncode == 0, done.stdout + done.stderr
    assert max(map(len, frames)) <= 1514
    assert all(frame[20:22] in {b"\0\0", b"\x40\0"} for frame in frames if frame[23] == 50)
    assert bed.inside("c11", "ping -c1 -W2 -M do -s 1392 10.0.1.21").returncode != 0


@needs_esp
def test_a_restart_changes_nothing_and_a_flush_is_a_new_life(bed, hosts):
    hosts.settle()
    before, salt = hosts.associations(1), hosts.salts[1]
    hosts.restart(1)
    hosts.settle(1)
    assert (hosts.associations(1), hosts.salts[1]) == (before, salt)
    sh(f"ip -n {PREFIX}-h1 xfrm state flush")
    assert not bed.pings("c11", "10.0.1.21")
    hosts.settle()
    after = hosts.associations(1)
    assert hosts.salts[1] != salt
    assert len(after.associations) == 2
    assert not after.associations & before.associations, "no key counts from 1 again"
    assert hosts.associations(2).associations == after.associations
    assert bed.pings("c11", "10.0.1.21")


@needs_esp
def test_one_association_that_was_taken_is_a_new_life_too(bed, hosts):
    hosts.settle()
    before, salt = hosts.associations(1), hosts.salts[1]
    one = min(before.associations)
    sh(
        f"ip -n {PREFIX}-h1 xfrm state delete src {one.source} dst {one.destination} "
        f"proto esp spi {one.spi}"
    )
    hosts.restart(1)
    hosts.settle()
    assert hosts.salts[1] != salt
    assert not hosts.associations(1).associations & before.associations
    assert bed.pings("c11", "10.0.1.21")


@needs_esp
def test_a_rotation_loses_nothing(bed, hosts):
    hosts.settle()
    old, new = RING[0], b"b" * 16
    flood = "ping -q -i 0.01 -c 400 -W 1 10.0.1.21"
    pinging = subprocess.Popen(
        ["ip", "netns", "exec", f"{PREFIX}-c11", *flood.split()], stdout=subprocess.PIPE, text=True
    )
    for ring in ((old, new), (new, old), (new,)):
        for number in (1, 2):  # one is always ahead of the other
            hosts.ring = ring
            hosts.settle(number)
    said = pinging.communicate()[0]
    assert "400 received" in said, said
    assert len(hosts.associations(1).associations) == 2


@needs_esp
def test_packets_of_a_life_are_taken_once(bed, hosts):
    """What was captured and is played again is not, also when the receiver has begun anew."""
    hosts.settle()
    with captured(bed, 2) as frames:
        assert bed.pings("c11", "10.0.1.21")
    played = [frame for frame in frames if frame[23] == 50 and frame[26:30] == b"\x0a\x63\0\1"]
    for again in (lambda: None, lambda: sh(f"ip -n {PREFIX}-h2 xfrm state flush")):
        again()
        hosts.settle()
        with captured(bed, 2) as seen, netns.inside(bed.host(1)):
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            wire.bind(("u", 0))
            for frame in played:
                wire.send(frame)
            wire.close()
        answers = [f for f in seen if f[23] == 50 and f[26:30] == b"\x0a\x63\0\2"]
        assert not answers


@needs_esp
def test_nothing_stays_when_no_encrypted_overlay_is_here(bed, hosts):
    hosts.settle()
    at = f"ip -n {PREFIX}-h1 xfrm state"
    sh(
        f"{at} add src 10.99.0.1 dst 10.99.0.9 proto esp spi 77 reqid 7 mode transport "
        f"aead 'rfc4106(gcm(aes))' 0x{'11' * 20} 128"
    )
    hosts.settle()
    settle(hosts.operations[1], snapshot(bed, 1, TASKS))
    assert hosts.associations(1) == EspState()
    assert hosts.salts[1] == b""
    assert "0x0000004d" in sh(at), "somebody else's stays"


def test_policies_come_before_the_links_and_go_after_them(bed, hosts):
    """Whatever happens between two changes, no link is there without its policy."""
    wanted = Overlays(bed.netns_dir(1)).of(hosts.wanted(1))
    assert wanted.esp is not None
    assert policies(wanted.esp) == {policy("in", 1), policy("out", 1)}
    assert wanted.esp.vtep == IPv4Address("10.99.0.1")
