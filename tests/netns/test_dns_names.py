"""What dig, kdig and a C library hear of services, stacks and others' names, in real namespaces."""

from __future__ import annotations

import threading
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from dnslib import DNSRecord
from resolver_bed import FRONT, GOOD, HOSTS, INSIDE, SILENT, WEB, World, picture, until

from meshnet.model.ids import NodeId, ServiceId, TaskId
from meshnet.model.snapshot import PublishedPort, Service

pytestmark = pytest.mark.netns

ELSEWHERE = NodeId("n2")


@pytest.fixture
def world(bed, tmp_path):
    """
    Name: world; Scope: function; Depends: bed, tmp_path.
    """
    made = World(bed, tmp_path)
    try:
        yield made
    finally:
        made.close()


def served(world, container, *, stack="", upstreams=()):
    """``web`` publishes a port, one of its tasks is here; two stacks have a ``db``."""
    base = picture(world.bed, {container: (FRONT, upstreams)})
    here = TaskId("t0")
    ports = (PublishedPort("tcp", 80, 8080, name="http"),)
    stacks = {
        ServiceId(name): Service(
            ServiceId(name), name, vips={FRONT: IPv4Address(at)}, aliases={FRONT: ("db",)}
        )
        for name, at in (("shop_db", "10.0.1.200"), ("blog_db", "10.0.1.201"))
    }
    box = replace(base.sandboxes[TaskId(container)], stack=stack)
    return replace(
        base,
        services={**base.services, WEB: replace(base.services[WEB], ports=ports), **stacks},
        endpoints={
            task: each if task == here else replace(each, node=ELSEWHERE)
            for task, each in base.endpoints.items()
        },
        sandboxes={box.task: box},
    )


def dig(world, container, *words):
    return world.bed.run(
        f"ip netns exec {container} dig @127.0.0.11 +tries=1 +nocookie {' '.join(words)}"
    )


def kdig(world, container, *words):
    return world.bed.run(f"ip netns exec {container} kdig @127.0.0.11 +retry=0 {' '.join(words)}")


@pytest.mark.parametrize("more", ["", "+tcp", "+noedns"])
def test_where_a_service_is_served_as_dig_hears_it(world, more):
    c1 = world.container("c1")
    world.tell(served(world, c1))
    places = {f"0 1 80 web.{at}.t{at}.Front." for at in range(3)}
    assert set(dig(world, c1, "+short", more, "_http._tcp.web SRV").splitlines()) == places
    whole = dig(world, c1, more, "_80._tcp.web SRV")
    assert all(f"web.{at}.t{at}.Front." in whole for at in range(3))
    assert whole.count("IN\tA\t10.0.1.1") == 3, "their addresses come with them"
    assert world.addresses(c1, "web.1.t1.Front") == ["10.0.1.11"], "the target is a name"
    assert "status: NXDOMAIN" in dig(world, c1, more, "_81._tcp.web SRV")
    assert "status: NOERROR" in dig(world, c1, more, "_80._tcp.web A")
    assert set(kdig(world, c1, "+short", "_80._tcp.web SRV").splitlines()) == places


def test_the_nearest_is_here_until_it_is_not_ready(world):
    c1 = world.container("c1")
    snapshot = served(world, c1)
    world.tell(snapshot)
    assert world.addresses(c1, "nearest.web") == ["10.0.1.10"]
    first = dig(world, c1, "+short", "_80._tcp.nearest.web SRV").splitlines()
    assert min(first) == "0 1 80 web.0.t0.Front."
    assert sorted(line[0] for line in first) == ["0", "1", "1"]
    here = TaskId("t0")
    away = replace(snapshot.endpoints[here], ready=False)
    world.tell(replace(snapshot, revision=2, endpoints={**snapshot.endpoints, here: away}))
    assert set(world.addresses(c1, "nearest.web")) == {"10.0.1.11", "10.0.1.12"}


def test_a_short_name_is_the_own_stacks(world):
    c1 = world.container("c1")
    for stack, wanted in (("Shop", ["10.0.1.200"]), ("blog", ["10.0.1.201"]), ("", None)):
        world.tell(served(world, c1, stack=stack))
        found = world.addresses(c1, "db")
        assert found == wanted or (wanted is None and len(found) == 2)


def test_no_data_and_no_name_are_told_apart(world):
    c1, inside = world.container("c1"), world.container("c2", out=False)
    world.tell(picture(world.bed, {c1: (FRONT, (GOOD,)), inside: (INSIDE, ())}))
    for kind in ("AAAA", "MX", "HTTPS"):
        said = dig(world, c1, "web", kind)
        assert "status: NOERROR" in said
        assert "ANSWER: 0" in said
    assert "status: NXDOMAIN" in dig(world, inside, "example.org AAAA")
    assert "status: NXDOMAIN" in dig(world, c1, "-x 10.0.1.77")
    asked = f"ip netns exec {c1} getent -s hosts:dns ahostsv4 web.front"
    assert world.etc.exists()
    resolv = world.etc.parent / c1
    resolv.mkdir()
    try:
        (resolv / "resolv.conf").write_text("nameserver 127.0.0.11\noptions ndots:0\n")
        assert world.bed.run(asked).split()[0] == "10.0.1.2", "a C library"
    finally:
        (resolv / "resolv.conf").unlink()
        resolv.rmdir()


def test_letters_bits_and_options_as_clients_send_them(world):
    c1 = world.container("c1")
    world.tell(served(world, c1, upstreams=(GOOD,)))
    for name in ("wEb.FroNT", "wHo.TeSt"):
        assert f"{name}.\t" in dig(world, c1, name)
    assert "flags: do" in dig(world, c1, "+dnssec web")
    assert "udp: 1232" in dig(world, c1, "+bufsize=4096 web")
    for more in ("+ednsopt=65001:beef", "+subnet=192.0.2.0/24", "+cookie=0011223344556677"):
        assert world.bed.run(
            f"ip netns exec {c1} dig @127.0.0.11 +tries=1 +short {more} web"
        ).split() == ["10.0.1.2"]
    assert "BADVERS" in kdig(world, c1, "+edns=1 web")


def test_what_upstreams_say_is_kept_with_its_time(world):
    c1, c2 = world.container("c1"), world.container("c2")
    world.tell(picture(world.bed, {c1: (FRONT, (GOOD,)), c2: (FRONT, ())}))
    asked = world.upstreams.knows[GOOD].asked
    for _ in range(3):
        assert world.addresses(c1, "who.test") == [GOOD]
    assert len(asked) == 1
    assert world.addresses(c2, "who.test") == [HOSTS], "other servers, another answer"
    ages = set()

    def aged() -> bool:
        [record] = world.ask(c1, "WHO.test").rr
        assert str(record.rname) == "WHO.test."
        ages.add(record.ttl)
        return len(ages) > 1

    until("it is older", 10, aged)
    (world.etc / "resolv.conf").write_text(f"nameserver {HOSTS}\n# moved\n")
    before = len(world.upstreams.knows[HOSTS].asked)
    assert world.addresses(c2, "who.test") == [HOSTS]
    assert len(world.upstreams.knows[HOSTS].asked) == before + 1, "the host's file is another"


def test_questions_on_one_connection_are_answered_as_they_are_known(world):
    """RFC 7766 section 6.2.1.1: what waits for an upstream keeps nothing behind it waiting."""
    c1 = world.container("c1")
    world.tell(picture(world.bed, {c1: (FRONT, (SILENT,))}))
    packets = [bytes(DNSRecord.question(name).pack()) for name in ("slow.test", "web", "rr")]
    with world.bed.socket(c1, "127.0.0.11", 53) as asking:
        asking.settimeout(8)
        asking.sendall(b"".join(len(packet).to_bytes(2) + packet for packet in packets))
        stream = asking.makefile("rb")
        heard = [stream.read(int.from_bytes(stream.read(2))) for _ in packets]
    assert [str(DNSRecord.parse(each).q.qname) for each in heard] == ["web.", "rr.", "slow.test."]
    assert {each[:2] for each in heard} == {packet[:2] for packet in packets}


def test_one_who_floods_with_guesses_is_not_believed(world):
    """Datagrams from the upstream's own address and port, with other IDs than the one asked."""
    c1 = world.container("c1")
    world.tell(picture(world.bed, {c1: (FRONT, (SILENT, GOOD))}))
    silent, ended = world.upstreams.silent, threading.Event()

    def flood() -> None:
        silent.settimeout(5)
        packet, asker = silent.recvfrom(512)
        forged = bytearray(packet)
        forged[2] |= 0x80
        for at in range(64):
            forged[0:2] = ((int.from_bytes(packet[:2]) + at + 1) % 65536).to_bytes(2)
            silent.sendto(forged, asker)
        ended.set()

    flooding = threading.Thread(target=flood)
    flooding.start()
    assert world.addresses(c1, "who.test") == [GOOD]
    flooding.join(10)
    assert ended.is_set()
    assert world.addresses(c1, "web") == ["10.0.1.2"]


def test_a_name_of_ours_is_never_one_that_was_kept(world):
    c1 = world.container("c1")
    world.tell(picture(world.bed, {c1: (FRONT, (GOOD,))}))
    assert world.addresses(c1, "late") == [GOOD]
    snapshot = served(world, c1, upstreams=(GOOD,))
    late = Service(ServiceId("s9"), "late", vips={FRONT: IPv4Address("10.0.1.99")})
    world.tell(replace(snapshot, revision=2, services={**snapshot.services, late.id: late}))
    assert world.addresses(c1, "late") == ["10.0.1.99"]
