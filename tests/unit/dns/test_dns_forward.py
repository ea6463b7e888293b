"""A container whose names nobody answers uses up its own questions and nobody else's."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from dnslib import DNSRecord

from meshnet.model.ids import NodeId, TaskId
from meshnet.model.snapshot import Sandbox, Snapshot
from meshnet.model.wellknown import RESOLVER_ADDRESS
from meshnet_dns import forward, redirect
from meshnet_dns.answer import REFUSED, SERVFAIL
from meshnet_dns.bounds import Share
from meshnet_dns.counters import Counters
from meshnet_dns.forward import Forwarder
from meshnet_dns.loop import Loop
from meshnet_dns.ports import PAST_US
from meshnet_dns.upstreams import HostUpstreams
from meshnet_dns.wire import rcode_of

QUERY = bytes(DNSRecord.question("example.org").pack())
SILENT, GOOD = "127.0.0.2", "127.0.0.3"
TIMEOUT_S = 0.2
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
