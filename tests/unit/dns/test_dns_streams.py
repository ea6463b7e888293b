"""Clients by TCP that mean us harm: slow, endless, greedy, garbled. Bounded, counted, no fault."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest
from dnslib import DNSRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshnet.errors import WireError
from meshnet_dns import streams
from meshnet_dns.bounds import Bound, Share
from meshnet_dns.counters import Counters
from meshnet_dns.loop import PAUSE_S, Loop
from meshnet_dns.streams import MOST_QUERY, MOST_UNREAD, TURN, Streams
from meshnet_dns.views import View

QUERY = bytes(DNSRecord.question("web").pack())
FRAMED = len(QUERY).to_bytes(2) + QUERY


class Server:
    """Streams on a loopback port; ``reply`` makes the answers."""

    def __init__(self, reply: Callable[[bytes], bytes], bound: Bound) -> None:
        self.loop, self.counters, self.share = Loop(), Counters(), Share(bound)
        self.asked = 0
        self._reply = reply
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0)
        self.address = listener.getsockname()
        self.streams = Streams(self.loop, listener, self._ask, self.counters, self.share)

    def _ask(self, query: bytes, done: Callable[[bytes], None]) -> None:
        self.asked += 1
        done(self._reply(query))

    def client(self, *, receive: int = 0) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        made.connect(self.address)
        made.settimeout(5)
        return made

    def serve(self, seconds: float = 0.02) -> None:
        """Run the loop for so long."""
        self.loop.after(seconds, self.loop.stop)
        self.loop.run()

    def answer(self, questions: int) -> None:
        """Run the loop until so many questions were asked, however slow the machine is."""
        while self.asked < questions:
            self.serve()


@pytest.fixture
def serving() -> Iterator[Callable[..., Server]]:
    """
    Name: serving; Scope: function; Depends: nothing.

    Makes servers that are closed after the test.
    """
    made: list[Server] = []

    def make(reply: Callable[[bytes], bytes] = lambda query: query, **bounds: int) -> Server:
        made.append(Server(reply, Bound(**{"each": 128, "host": 4096, "few": 8, **bounds})))
        return made[-1]

    yield make
    for server in made:
        server.streams.close()


def closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_a_message_longer_than_any_query_is_not_waited_for(serving):
    server = serving()
    with server.client() as client:
        client.sendall((MOST_QUERY + 1).to_bytes(2) + b"x")
        server.serve()
        assert closed(client)
    assert server.counters.dropped == {"too long": 1}
    assert server.share.own == 0


def test_one_that_sends_a_byte_now_and_then_is_not_kept_for_ever(serving, monkeypatch):
    monkeypatch.setattr(streams, "IDLE_S", 0.1)
    server = serving()
    with server.client() as slow:
        with contextlib.suppress(ConnectionError):
            for byte in FRAMED[:16]:
                slow.sendall(bytes([byte]))
                server.serve(0.02)
        assert closed(slow)
    assert server.counters.dropped == {"half a message": 1}


def test_one_that_asks_again_and_again_is_kept(serving, monkeypatch):
    monkeypatch.setattr(streams, "IDLE_S", 0.1)
    server = serving()
    with server.client() as client:
        for _ in range(10):
            client.sendall(FRAMED)
            server.serve(0.02)
            assert client.recv(len(FRAMED)) == FRAMED
        server.serve(0.25)
        assert closed(client)
    assert server.counters.dropped == {}, "it had said all it wanted to"


def test_more_connections_than_its_share_are_closed_and_counted(serving):
    server = serving(each=3)
    clients = [server.client() for _ in range(5)]
    server.serve(0.1)
    assert server.share.own == 3
    assert server.counters.dropped == {"too many connections": 2}
    assert [closed(client) for client in clients[3:]] == [True, True]
    for client in clients:
        client.close()
    server.serve(0.1)
    assert server.share.own == 0


def test_who_does_not_read_its_answers_is_closed(serving):
    server = serving(lambda _query: bytes(60_000))
    with server.client(receive=4096) as client:
        with contextlib.suppress(ConnectionError):
            for _ in range(4 * MOST_UNREAD // 60_000):
                client.sendall(FRAMED * 4)
                server.serve()
        assert server.counters.dropped == {"answers not read": 1}
    assert server.share.own == 0


def test_many_questions_at_once_keep_nobody_waiting(serving):
    server = serving()
    with server.client() as greedy, server.client() as modest:
        greedy.sendall(FRAMED * (TURN * 8))
        modest.sendall(FRAMED)
        server.answer(TURN * 8 + 1)
        assert modest.recv(len(FRAMED)) == FRAMED
        got = b""
        while len(got) < len(FRAMED) * TURN * 8:
            got += greedy.recv(65536)
    assert got == FRAMED * (TURN * 8), "all are answered, in turns"


def test_the_loop_comes_back_after_a_turn_of_questions(serving):
    server = serving()
    rounds: list[int] = []

    def reply(query: bytes) -> bytes:
        rounds[-1] += 1
        return query

    server._reply = reply
    with server.client() as greedy:
        greedy.sendall(FRAMED * (TURN * 5))
        poll = server.loop._wait_s

        def wait_s():
            rounds.append(0)
            return poll()

        server.loop._wait_s = wait_s
        server.answer(TURN * 5)
    assert sum(rounds) == TURN * 5
    assert max(rounds) <= 2 * TURN, "one as it came, one as its turn came"


def test_no_descriptor_left_is_no_reason_to_spin(serving, monkeypatch):
    server = serving()
    calls = 0

    class Exhausted:
        def __init__(self, real: socket.socket) -> None:
            self._real = real

        def accept(self) -> tuple[socket.socket, object]:
            nonlocal calls
            calls += 1
            raise OSError(24, "Too many open files")

        def fileno(self) -> int:
            return self._real.fileno()

        def close(self) -> None:
            self._real.close()

    real = server.streams._listener
    server.streams._listener = Exhausted(real)
    with server.client() as client:
        server.serve(PAUSE_S * 2.5)
        assert 1 <= calls <= 4
        assert server.counters.dropped == {"no descriptor for a connection": calls}
        server.streams._listener = real
        client.sendall(FRAMED)
        server.serve(PAUSE_S * 2)
        assert client.recv(len(FRAMED)) == FRAMED, "it accepts again"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.one_of(st.binary(max_size=300), st.just(FRAMED), st.just(FRAMED[:7]), st.just(b"\0\0")),
        max_size=12,
    )
)
def test_no_stream_is_a_fault(serving, chunks):
    view = View(())
    server = serving(lambda query: view.message(query) or query[:12])
    with server.client() as client:
        for chunk in chunks:
            try:
                client.sendall(chunk)
            except ConnectionError:
                break
            server.serve(0.002)
    for _ in range(500):  # until it has seen the end of the connection
        if not server.share.own:
            break
        server.serve(0.01)
    assert server.share.own == 0
    assert set(server.counters.dropped) <= {"too long", "short", "response"}


def test_what_is_no_query_closes_and_is_counted(serving):
    def refuse(_query: bytes) -> bytes:
        raise WireError("client", "short")

    server = serving(refuse)
    with server.client() as client:
        client.sendall(b"\0\1x")
        server.serve()
        assert closed(client)
    assert server.counters.dropped == {"short": 1}
