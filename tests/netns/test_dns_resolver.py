"""A real meshnet-resolver in namespaces: what a container hears at 127.0.0.11, come what may."""

from __future__ import annotations

import random
import signal
import socket
import time
from ipaddress import IPv4Address

import msgpack
import pytest
from dnslib import DNSRecord
from dnslib.server import DNSLogger, DNSServer
from resolver_bed import (
    FRONT,
    GOOD,
    HOSTS,
    INSIDE,
    NOBODY,
    NXDOMAIN,
    REFUSES,
    SERVFAIL,
    SILENT,
    Knows,
    World,
    picture,
    until,
)

from meshnet.kernel import netns
from meshnet.model.ids import TaskId
from meshnet_dns import client
from meshnet_dns.answer import Question, Why
from meshnet_dns.explained import Explained
from meshnet_dns.operations import ResolverError, ResolverOperations, explained, held_zones

pytestmark = pytest.mark.netns


@pytest.fixture
def world(bed, tmp_path):
    made = World(bed, tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_a_container_finds_services_tasks_and_reverse_names(world, tcp):
    c1 = world.container("c1")
    world.tell(picture(world.bed, {c1: (FRONT, ())}))
    tasks = {"10.0.1.10", "10.0.1.11", "10.0.1.12"}
    for name in ("web", "WEB", "web.front"):
        assert world.addresses(c1, name, tcp=tcp) == ["10.0.1.2"]
    assert world.addresses(c1, "web", "AAAA", tcp=tcp) == [], "NOERROR, and no answer"
    assert set(world.addresses(c1, "tasks.web", tcp=tcp)) == tasks
    assert world.addresses(c1, "web.0.t0", tcp=tcp) == ["10.0.1.10"]
    assert world.addresses(c1, "10.1.0.10.in-addr.arpa", "PTR", tcp=tcp) == ["web.0.t0.Front."]
    assert world.addresses(c1, "2.1.0.10.in-addr.arpa", "PTR", tcp=tcp) == ["web.Front."]
    firsts = {world.addresses(c1, "rr", tcp=tcp)[0] for _ in range(4)}
    assert firsts == {f"10.0.1.{i}" for i in range(13, 17)}, "each first in turn"
    assert all(not knows.asked for knows in world.upstreams.knows.values())


def test_the_resolver_says_why_it_answers_so_and_the_container_hears_it(world):
    c1, inside = world.container("c1"), world.container("c2", out=False)
    world.tell(picture(world.bed, {c1: (FRONT, (GOOD,)), inside: (INSIDE, ())}))
    path = world.run_dir / "resolver.sock"

    def why(name, question, kind=1):
        return explained(path, TaskId(name), Question(question, kind))

    assert why(c1, "web") == Explained(Why.NAME, "front", ("10.0.1.2",), own=True, upstreams=())
    assert why(c1, "who.test") == Explained(Why.FORWARDED, "", (), own=True, upstreams=(GOOD,))
    assert why(inside, "web") == Explained(Why.FORWARDED, "", (), own=False, upstreams=())
    assert client.ask(world.bed.path(c1), "web", "A").records == ("10.0.1.2",)
    assert client.ask(world.bed.path(c1), "who.test", "A").records == (GOOD,)
    assert client.ask(world.bed.path(inside), "web", "A").result == "NXDOMAIN"
    assert held_zones(path)[FRONT].names["web"] == (IPv4Address("10.0.1.2"),)
    with pytest.raises(ResolverError, match="nobody told of task t9"):
        why("t9", "web")
    strange = world.bed.namespace("s")  # no rule of ours leads its questions anywhere
    world.bed.run(f"ip -n {strange} link set lo up")
    assert client.ask(world.bed.path(strange), "web", "A").result == ""


def test_dig_by_search_and_port_53_like_any_program(world):
    c1 = world.container("c1")
    world.tell(picture(world.bed, {c1: (FRONT, ())}))
    for more in ("", "+tcp", "+noedns", "+dnssec"):
        said = world.bed.run(f"ip netns exec {c1} dig @127.0.0.11 +short +tries=1 {more} web A")
        assert said.split() == ["10.0.1.2"]


def test_a_change_is_answered_at_once(world):
    c1 = world.container("c1")
    world.tell(picture(world.bed, {c1: (FRONT, ())}))
    assert world.addresses(c1, "web") == ["10.0.1.2"]
    world.tell(picture(world.bed, {c1: (FRONT, ())}, revision=2, web="10.0.1.3"))
    assert world.addresses(c1, "web") == ["10.0.1.3"], "not the one from the cache"


def test_other_names_go_to_the_containers_servers_and_else_to_the_hosts(world):
    own, none = world.container("c1"), world.container("c2")
    world.tell(picture(world.bed, {own: (FRONT, (GOOD,)), none: (FRONT, ())}))
    assert world.addresses(own, "who.test") == [GOOD]
    assert world.addresses(own, "single-label") == [GOOD]
    assert world.addresses(own, "who.test", tcp=True) == [GOOD]
    assert world.addresses(none, "who.test") == [HOSTS]
    (world.etc / "resolv.conf").write_text(f"nameserver {GOOD}\nsearch x\n")
    assert world.addresses(none, "who.test") == [GOOD], "the file became another"
    (world.etc / "resolv.conf").write_text("")
    assert world.ask(none, "who.test").header.rcode == NXDOMAIN, "nobody is left to ask"


def test_a_big_answer_is_cut_by_udp_and_whole_by_tcp(world):
    c1 = world.container("c1")
    world.tell(picture(world.bed, {c1: (FRONT, (GOOD,))}))
    cut = world.ask(c1, "big.test")
    assert cut.header.tc == 1
    assert len(world.addresses(c1, "big.test", tcp=True)) == 60
    said = world.bed.run(f"ip netns exec {c1} dig @127.0.0.11 +noedns +short big.test A")
    assert len(said.split()) == 60, "dig asks again by TCP"


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_a_dead_a_silent_and_a_refusing_upstream_are_passed_over(world, tcp):
    c1, c2, c3 = (world.container(label) for label in ("c1", "c2", "c3"))
    containers = {
        c1: (FRONT, (NOBODY, REFUSES, GOOD)),
        c2: (FRONT, (SILENT, GOOD)),
        c3: (FRONT, (NOBODY, NOBODY)),
    }
    world.tell(picture(world.bed, containers))
    began = time.monotonic()
    assert world.addresses(c1, "who.test", tcp=tcp) == [GOOD]
    assert world.ask(c3, "who.test", tcp=tcp).header.rcode == SERVFAIL
    assert time.monotonic() - began < 1, "the kernel says at once that nobody is there"
    assert world.addresses(c2, "who.test", tcp=tcp) == [GOOD]
    assert time.monotonic() - began < 4
    assert world.addresses(c1, "web") == ["10.0.1.2"]


def test_one_that_waits_for_an_upstream_keeps_nobody_waiting(world):
    c1 = world.container("c1")
    world.tell(picture(world.bed, {c1: (FRONT, (SILENT, GOOD))}))
    with world.bed.socket(c1, "127.0.0.11", 53, udp=True) as asking:
        for _ in range(200):
            asking.send(DNSRecord.question("slow.test").pack())
        began = time.monotonic()
        assert world.addresses(c1, "web") == ["10.0.1.2"]
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_an_internal_network_asks_nobody_outside(world, tcp):
    hosts, own = world.container("c1", out=False), world.container("c2", out=False)
    world.tell(picture(world.bed, {hosts: (INSIDE, ()), own: (INSIDE, (GOOD,))}))
    assert world.ask(hosts, "secret.test", tcp=tcp).header.rcode == NXDOMAIN
    assert world.ask(own, "secret.test", tcp=tcp).header.rcode == SERVFAIL, "no way there"
    assert world.ask(hosts, "web", tcp=tcp).header.rcode == NXDOMAIN, "of another network"
    assert all(not knows.asked for knows in world.upstreams.knows.values())


def test_its_own_server_may_run_where_only_the_container_can_reach_it(world):
    c1 = world.container("c1")
    world.bed.run(f"ip -n {world.up} address add 10.79.0.1/32 dev lo")
    world.bed.run(f"ip -n {c1} route add 10.79.0.1 via 10.78.1.1")
    world.tell(picture(world.bed, {c1: (FRONT, ("10.79.0.1",))}))
    with netns.inside(world.bed.path(world.up)):
        server = DNSServer(Knows("192.0.2.1"), "10.79.0.1", 53, logger=DNSLogger("-request,-reply"))
    server.start_thread()
    try:
        assert world.addresses(c1, "who.test") == ["192.0.2.1"]
    finally:
        server.stop()
        server.server.server_close()


def test_killed_it_goes_on_from_its_memory_before_anybody_speaks_to_it(world):
    c1 = world.container("c1")
    world.tell(picture(world.bed, {c1: (FRONT, (GOOD,))}))
    until("the state is written", 5, (world.run_dir / "resolver.state").exists)
    world.process.send_signal(signal.SIGKILL)
    world.process.wait()
    with pytest.raises((OSError, TimeoutError)):
        world.ask(c1, "web", timeout=0.3)
    world.process = world.start()
    for tcp in (False, True):
        assert world.addresses(c1, "web", tcp=tcp) == ["10.0.1.2"]
        assert world.addresses(c1, "who.test", tcp=tcp) == [GOOD]
    desired = ResolverOperations(world.run_dir).desired(picture(world.bed, {c1: (FRONT, (GOOD,))}))
    told = ResolverOperations(world.run_dir)
    assert told.plan(desired, told.observe(desired), prune=True) == []


def test_descriptors_come_and_go_with_containers(world):
    c1, c2 = world.container("c1"), world.container("c2")
    world.tell(picture(world.bed, {c1: (FRONT, ())}))
    level = world.fds()
    both = picture(world.bed, {c1: (FRONT, ()), c2: (FRONT, (GOOD,))})
    for _ in range(50):
        world.tell(both, nft=_ == 0)
        with world.bed.socket(c2, "127.0.0.11", 53) as idle:
            assert world.addresses(c2, "web", tcp=True) == ["10.0.1.2"]
            assert world.addresses(c2, "who.test") == [GOOD]
            world.tell(picture(world.bed, {c1: (FRONT, ())}), nft=False)
            assert idle.recv(1) == b"", "its connections are closed"
    until("all closed", 5, lambda: world.fds() == level)
    open_there = world.bed.run(f"ip netns exec {c2} ss -Hlntu")
    assert "127.0.0.11" not in open_there
    assert world.addresses(c1, "web") == ["10.0.1.2"]


def test_a_namespace_that_went_away_is_let_go(world):
    c1, c2 = world.container("c1"), world.container("c2")
    world.tell(picture(world.bed, {c1: (FRONT, ())}))
    level = world.fds()
    world.tell(picture(world.bed, {c1: (FRONT, ()), c2: (FRONT, ())}))
    assert world.fds() == level + 2
    world.bed.run(f"ip netns del {c2}")
    until("its sockets are closed", 15, lambda: world.fds() == level)
    assert world.bed.path(c2) in world.status().errors[c2]
    assert world.addresses(c1, "web") == ["10.0.1.2"]


def test_a_thousand_malformed_datagrams_and_streams_stop_nothing(world):
    c1 = world.container("c1")
    world.tell(picture(world.bed, {c1: (FRONT, (GOOD,))}))
    dice = random.Random(11)
    good = DNSRecord.question("web").pack()
    with world.bed.socket(c1, "127.0.0.11", 53, udp=True) as asking:
        for i in range(1000):
            packet = bytearray(good if i % 3 else dice.randbytes(dice.randrange(0, 1500)))
            for _ in range(dice.randrange(1, 6) if packet else 0):
                packet[dice.randrange(len(packet))] = dice.randrange(256)
            asking.send(packet)
            if i % 100 == 0:
                assert world.addresses(c1, "web") == ["10.0.1.2"]
    level = world.fds()
    for _ in range(50):
        with world.bed.socket(c1, "127.0.0.11", 53) as asking:
            asking.sendall(dice.randbytes(dice.randrange(1, 3000)))
    until("streams of garbage are closed", 5, lambda: world.fds() <= level)
    assert world.process.poll() is None
    assert world.addresses(c1, "web", tcp=True) == ["10.0.1.2"]


def test_half_a_stream_keeps_its_turn_and_many_questions_share_one(world):
    c1 = world.container("c1")
    world.tell(picture(world.bed, {c1: (FRONT, (GOOD,))}))
    packets = [DNSRecord.question(name).pack() for name in ("who.test", "web", "rr")]
    stream = b"".join(len(packet).to_bytes(2) + packet for packet in packets)
    with world.bed.socket(c1, "127.0.0.11", 53) as asking:
        asking.sendall(stream[:5])
        assert world.addresses(c1, "web", tcp=True) == ["10.0.1.2"]
        asking.sendall(stream[5:])
        seen: set[str] = set()
        held = b""
        while len(seen) < 3:
            held += asking.recv(65535)
            while len(held) >= 2 and len(held) >= 2 + int.from_bytes(held[:2]):
                end = 2 + int.from_bytes(held[:2])
                seen.add(str(DNSRecord.parse(held[2:end]).q.qname))
                held = held[end:]
    assert seen == {"who.test.", "web.", "rr."}


def test_nonsense_on_the_control_socket_changes_nothing(world):
    c1 = world.container("c1")
    world.tell(picture(world.bed, {c1: (FRONT, ())}))
    before = world.status()
    netns_of = {"netns": "a\0b", "networks": [], "upstreams": [], "forwards": True}
    wrong = [
        {"op": "drop-zone", "id": [1]},
        {"op": "put-zone", "id": "x", "zone": {"names": 7}},
        {"op": "put-sandbox", "id": "x", "sandbox": {"netns": 7}},
        {"op": "put-sandbox", "id": "x", "sandbox": netns_of},
    ]
    for nonsense in (
        *(msgpack.packb(message) for message in wrong),
        b"\xff" * 100,
        b"\x93\1\2\3",
        b"\x81\xa2op\xa4what",
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talking:
            talking.settimeout(5)
            talking.connect(str(world.run_dir / "resolver.sock"))
            talking.sendall(nonsense)
            talking.shutdown(socket.SHUT_WR)
            talking.recv(4096)
    now = world.status()
    assert (now.zones, now.sandboxes, now.errors) == (before.zones, before.sandboxes, {})
    assert world.addresses(c1, "web") == ["10.0.1.2"]
