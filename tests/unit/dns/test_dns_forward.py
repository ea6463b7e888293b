"""A container whose names nobody answers uses up its own questions and nobody else's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dnslib import RR, A, DNSRecord

from meshnet.model.ids import NodeId, TaskId
from meshnet.model.snapshot import Sandbox, Snapshot
from meshnet.model.wellknown import RESOLVER_ADDRESS
from meshnet_dns import forward, redirect
from meshnet_dns.answer import REFUSED, SERVFAIL
from meshnet_dns.bounds import Share
from meshnet_dns.counters import Counters
from meshnet_dns.exchange import HEDGE_S, NEAR_MISS, NEAR_MISSES
from meshnet_dns.forward import Forwarder
from meshnet_dns.loop import Loop
from meshnet_dns.ports import PAST_US
from meshnet_dns.upstreams import HostUpstreams
from meshnet_dns.wire import rcode_of

QUERY = bytes(DNSRecord.question("example.org").pack())
SILENT, GOOD = "127.0.0.2", "127.0.0.3"
TIMEOUT_S = 0.2
Address = tuple[str, int]
BOX = Sandbox(TaskId("t"), "/netns/t", (), None)


class Upstreams:
    """One server that never answers and one that does, at the same port."""

    def __init__(self, loop: Loop) -> None:
        self.silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.good = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.silent.bind((SILENT, 0))
        self.port: int = self.silent.getsockname()[1]
        self.good.bind((GOOD, self.port))
        self.good.settimeout(0)
        loop.watch(self.good.fileno(), 1, self._answer)

    def _answer(self, _events: int) -> None:
        packet, client = self.good.recvfrom(512)
        self.good.sendto(packet[:2] + b"\x81\x80" + packet[4:], client)

    def close(self) -> None:
        self.silent.close()
        self.good.close()


class Clock:
    """Stands still but for what a test adds."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    """
    Name: clock; Scope: function; Depends: nothing.
    """
    return Clock()


@pytest.fixture
def loop(clock: Clock) -> Loop:
    """
    Name: loop; Scope: function; Depends: clock.
    """
    return Loop(clock)


@pytest.fixture
def upstreams(loop: Loop) -> Iterator[Upstreams]:
    """
    Name: upstreams; Scope: function; Depends: loop.
    """
    made = Upstreams(loop)
    try:
        yield made
    finally:
        made.close()


def test_a_black_holed_name_takes_only_its_containers_share(loop, clock, upstreams):
    counters = Counters()
    forwarder = Forwarder(loop, counters, HostUpstreams(), timeout_s=TIMEOUT_S, port=upstreams.port)
    greedy, modest = Share(forwarder.bound), Share(forwarder.bound)
    replies: list[bytes] = []
    for _ in range(forward.EACH + 10):
        forwarder.ask(QUERY, [SILENT], greedy, tcp=False, done=replies.append)
    assert greedy.own == forwarder.bound.used == forward.EACH
    assert [rcode_of(reply) for reply in replies] == [REFUSED] * 10
    assert counters.dropped == {forward.TOO_MANY: 10}
    answered: list[bytes] = []

    def done(reply: bytes) -> None:
        answered.append(reply)
        loop.stop()

    forwarder.ask(QUERY, [GOOD], modest, tcp=False, done=done)
    loop.run()
    assert rcode_of(answered[0]) == 0
    assert answered[0][:2] == QUERY[:2]
    assert (modest.own, greedy.own) == (0, forward.EACH)
    clock.seconds += TIMEOUT_S
    loop.after(0, loop.stop)
    loop.run()
    assert greedy.own == forwarder.bound.used == 0, "all have ended"
    assert [rcode_of(reply) for reply in replies[10:]] == [SERVFAIL] * forward.EACH


def test_a_share_is_given_back_however_a_question_ends(loop, clock, upstreams):
    forwarder = Forwarder(
        loop, Counters(), HostUpstreams(), timeout_s=TIMEOUT_S, port=upstreams.port
    )
    share = Share(forwarder.bound)
    ends: list[bytes] = []

    def done(reply: bytes) -> None:
        ends.append(reply)
        if len(ends) >= 3:
            loop.stop()

    for asked in ([], ["255.255.255.255"], [GOOD], [SILENT, GOOD]):
        forwarder.ask(QUERY, asked, share, tcp=False, done=done)
    loop.run()
    assert len(ends) == 3
    clock.seconds += TIMEOUT_S
    loop.run()
    assert len(ends) == 4
    assert share.own == forwarder.bound.used == 0


def test_the_engines_resolver_is_asked_past_us(loop):
    """Whoever asks 127.0.0.11 from any other address is led to ourselves (``redirect``)."""
    engines = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    engines.bind((RESOLVER_ADDRESS, 0))
    engines.settimeout(5)
    forwarder = Forwarder(loop, Counters(), HostUpstreams(), port=engines.getsockname()[1])
    share = Share(forwarder.bound)
    forwarder.ask(QUERY, [RESOLVER_ADDRESS], share, tcp=False, done=lambda _: loop.stop())
    packet, asker = engines.recvfrom(512)
    assert asker[0] == PAST_US
    engines.sendto(packet[:2] + b"\x81\x80" + packet[4:], asker)
    loop.run()
    engines.close()
    [rulesets] = redirect.rulesets(Snapshot(1, NodeId("n"), sandboxes={BOX.task: BOX})).values()
    rules = [rule for chain in rulesets[0].chains for rule in chain.rules]
    assert all(rule.startswith(f"ip saddr != {PAST_US} ") for rule in rules)


class Scripted:
    """Servers at one port of 127.0.0.x, each answering as it is told, when it is told."""

    def __init__(self, loop: Loop, number: int) -> None:
        self.loop = loop
        self.addresses = [f"127.0.0.{20 + at}" for at in range(number)]
        self.heard: list[list[tuple[bytes, Address]]] = [[] for _ in range(number)]
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(number)]
        self.port = 0
        for at, made in enumerate(self.sockets):
            made.bind((self.addresses[at], self.port))
            self.port = made.getsockname()[1]
            made.settimeout(0)
            loop.watch(made.fileno(), 1, partial(self._hear, at))

    def _hear(self, at: int, _events: int) -> None:
        self.heard[at].append(self.sockets[at].recvfrom(4096))
        self.loop.stop()

    def say(self, at: int, packet: bytes, to: Address) -> None:
        self.sockets[at].sendto(packet, to)

    def answer(self, at: int, rcode: int = 0, ttl: int = 30, question: int = -1) -> None:
        """To the last question it heard, or another one."""
        packet, asker = self.heard[at][question]
        said: Any = DNSRecord.parse(packet).reply()
        said.header.rcode = rcode
        if not rcode:
            said.add_answer(RR(said.q.qname, 1, ttl=ttl, rdata=A(f"192.0.2.{at}")))
        self.say(at, bytes(said.pack()), asker)

    def close(self) -> None:
        for made in self.sockets:
            made.close()


class Asker:
    """A container with a forwarder in front of scripted servers."""

    def __init__(self, loop: Loop, clock: Clock, servers: Scripted, host: HostUpstreams) -> None:
        self.loop, self.clock, self.servers = loop, clock, servers
        self.counters = Counters()
        self.forwarder = Forwarder(loop, self.counters, host, port=servers.port)
        self.share = Share(self.forwarder.bound)
        self.replies: list[bytes] = []

    def ask(self, query: bytes = QUERY, *, tcp: bool = False, of: int = 3) -> None:
        self.forwarder.ask(query, self.servers.addresses[:of], self.share, tcp=tcp, done=self._done)

    def _done(self, reply: bytes) -> None:
        self.replies.append(reply)
        self.loop.stop()

    def later(self, seconds: float) -> None:
        """Let that time pass, and what it sets off begin."""
        self.clock.seconds += seconds
        self.loop.after(0, self.loop.stop)
        self.loop.run()

    def until_over(self) -> None:
        """Nothing answers any more."""
        for _ in range(4):
            self.later(3)
        assert self.share.own == 0

    def said(self) -> list[str]:
        return [str(record.rdata) for record in DNSRecord.parse(self.replies[-1]).rr]


@pytest.fixture
def servers(loop: Loop) -> Iterator[Scripted]:
    """
    Name: servers; Scope: function; Depends: loop.
    """
    made = Scripted(loop, 3)
    yield made
    made.close()


@pytest.fixture
def asker(loop: Loop, clock: Clock, servers: Scripted, tmp_path: Path) -> Iterator[Asker]:
    """
    Name: asker; Scope: function; Depends: loop, clock, servers, tmp_path.
    """
    made = Asker(loop, clock, servers, HostUpstreams(tmp_path / "resolv.conf"))
    yield made
    made.until_over()


def test_the_next_upstream_is_asked_while_the_first_thinks(asker, servers, loop):
    asker.ask()
    loop.run()
    asker.later(HEDGE_S * 0.9)
    assert [len(heard) for heard in servers.heard] == [1, 0, 0]
    asker.clock.seconds += HEDGE_S * 0.2
    loop.run()
    assert [len(heard) for heard in servers.heard] == [1, 1, 0]
    ids = {heard[0][0][:2] for heard in servers.heard[:2]}
    ports = {heard[0][1][1] for heard in servers.heard[:2]}
    assert (len(ids), len(ports)) == (2, 2)
    servers.answer(1)
    loop.run()
    assert asker.said() == ["192.0.2.1"], "the first that answers"
    servers.answer(0)
    asker.later(3)
    assert (len(asker.replies), asker.share.own, asker.counters.upstream_answers) == (1, 0, 1)


def test_the_first_may_still_answer_after_the_second_was_asked(asker, servers, loop):
    asker.ask()
    loop.run()
    asker.clock.seconds += HEDGE_S
    loop.run()
    servers.answer(1, rcode=SERVFAIL)
    loop.run()
    assert [len(heard) for heard in servers.heard] == [1, 1, 1], "a refusal: the next at once"
    servers.answer(2, rcode=REFUSED)
    asker.later(0)
    assert asker.replies == [], "the first may still know it"
    servers.answer(0)
    loop.run()
    assert asker.said() == ["192.0.2.0"]


def test_of_refusals_alone_the_last_is_told_when_all_have_ended(asker, servers, loop):
    asker.ask()
    loop.run()
    for at, rcode in enumerate((REFUSED, SERVFAIL)):
        servers.answer(at, rcode=rcode)
        loop.run()
    assert asker.replies == []
    asker.later(2.5)
    assert [rcode_of(reply) for reply in asker.replies] == [SERVFAIL]
    assert asker.replies[0][:2] == QUERY[:2]


def test_the_same_question_is_asked_once_and_everybody_is_answered(asker, servers, loop):
    asker.ask()
    asker.ask(bytes(DNSRecord.question("EXAMPLE.org").pack()))
    loop.run()
    assert asker.share.own == 2
    servers.answer(0)
    loop.run()
    assert len(servers.heard[0]) == 1
    names = [str(DNSRecord.parse(reply).rr[0].rname) for reply in asker.replies]
    assert names == ["example.org.", "EXAMPLE.org."]
    assert asker.share.own == 0


def test_an_answer_is_kept_until_its_time_is_over(asker, servers, loop):
    asker.ask()
    loop.run()
    servers.answer(0, ttl=10)
    loop.run()
    asker.clock.seconds += 9
    asker.ask()
    assert DNSRecord.parse(asker.replies[-1]).rr[0].ttl == 1
    assert (asker.counters.kept, asker.counters.forwarded) == (1, 1)
    asker.ask(of=2)
    loop.run()
    assert len(servers.heard[0]) == 2, "other servers may say something else"
    asker.clock.seconds += 1
    asker.ask()
    loop.run()
    assert len(servers.heard[0]) == 3


def test_what_was_kept_goes_with_its_container_and_with_the_hosts_file(
    asker, servers, loop, tmp_path
):
    def asked_anew() -> bool:
        before = len(servers.heard[0])
        asker.ask()
        if len(asker.forwarder.kept) == 0:
            loop.run()
            servers.answer(0)
            loop.run()
        return len(servers.heard[0]) > before

    assert asked_anew()
    assert not asked_anew()
    asker.forwarder.forget(asker.share)
    assert asked_anew()
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    asker.forwarder.host.now()
    assert asked_anew()
    other, third = (bytes(DNSRecord.question(name).pack()) for name in ("b.test", "c.test"))
    asker.ask(other)
    loop.run()
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.111\n")
    asker.forwarder.host.now()
    asker.ask(third)
    loop.run()
    servers.answer(0, question=-2)
    loop.run()
    assert str(DNSRecord.parse(asker.replies[-1]).q.qname) == "b.test."
    asker.ask(other)
    assert asker.share.own == 2, "what was on its way came from the old servers"


def test_a_full_share_does_not_keep_from_what_is_kept(asker, servers, loop):
    asker.ask()
    loop.run()
    servers.answer(0, ttl=1000)
    loop.run()
    other = bytes(DNSRecord.question("silent.test").pack())
    for _ in range(forward.EACH + 1):
        asker.ask(other)
    assert rcode_of(asker.replies[-1]) == REFUSED
    asker.ask()
    assert asker.said() == ["192.0.2.0"]


def test_what_the_engine_says_is_not_kept(asker, loop):
    engines = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    engines.bind((RESOLVER_ADDRESS, asker.servers.port))
    engines.settimeout(5)
    for _ in range(2):
        asker.forwarder.ask(
            QUERY, [RESOLVER_ADDRESS], asker.share, tcp=False, done=lambda _: loop.stop()
        )
        packet, to = engines.recvfrom(512)
        said: Any = DNSRecord.parse(packet).reply()
        said.add_answer(RR("example.org", 1, ttl=600, rdata=A("192.0.2.9")))
        engines.sendto(bytes(said.pack()), to)
        loop.run()
    engines.close()


def test_one_who_guesses_is_not_believed_and_the_upstream_is_asked_by_tcp(asker, servers, loop):
    listener = socket.create_server((servers.addresses[0], servers.port))
    listener.settimeout(5)
    asker.ask(of=1)
    loop.run()
    packet, to = servers.heard[0][0]
    wrong = bytes([packet[0] ^ 1])
    for _ in range(NEAR_MISSES):
        servers.say(0, wrong + packet[1:2] + b"\x81\x80" + packet[4:], to)
    while asker.counters.dropped.get(NEAR_MISS, 0) < NEAR_MISSES:
        asker.later(0)
    assert asker.replies == []
    for _ in range(2):  # connected, and sent
        asker.later(0)
    stream, _ = listener.accept()
    stream.settimeout(5)
    asked = stream.recv(4096)[2:]
    said: Any = DNSRecord.parse(asked).reply()
    said.add_answer(*(RR("example.org", 1, ttl=9, rdata=A("192.0.2.1")) for _ in range(60)))
    whole = bytes(said.pack())
    stream.sendall(len(whole).to_bytes(2) + whole)
    loop.run()
    stream.close()
    listener.close()
    assert DNSRecord.parse(asker.replies[0]).header.tc, "too long for a client by UDP"
