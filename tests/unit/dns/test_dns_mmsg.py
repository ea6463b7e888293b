"""Batches on a real socket of the loopback: whose reply goes to whom, whatever is mixed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_dns.mmsg import COUNT, RECEIVE_SIZE, SEND_SIZE, Batch, lying

FIXED = {b"fixed": b"..a reply that never changes", b"empty": b".."}
WHERE = {key: lying(reply) for key, reply in FIXED.items()}
KINDS = st.sampled_from(["fixed", "empty", "turns", "turns-not", "made", "dropped", "later"])


class Clients:
    """A server's socket and one for each client."""

    def __init__(self, number: int) -> None:
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.server.bind(("127.0.0.1", 0))
        self.each = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(number)]
        for each in self.each:
            each.connect(self.server.getsockname())
            each.settimeout(0)

    def ask(self, packets: list[bytes]) -> None:
        for each, packet in zip(self.each, packets, strict=False):
            each.send(packet)

    def heard(self, at: int) -> bytes:
        """Loopback delivers before sendmmsg returns."""
        try:
            return self.each[at].recv(4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        for each in (*self.each, self.server):
            each.close()


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    """
    Name: clients; Scope: module; Depends: nothing.
    """
    made = Clients(COUNT + 1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def batch() -> Batch:
    """
    Name: batch; Scope: module; Depends: nothing.
    """
    return Batch()


class Answers:
    """Says what each kind of query is to hear."""

    def __init__(self) -> None:
        self.missed: list[int] = []
        self._turn = 0

    def turning(self, key: bytes) -> Callable[[], bytes] | None:
        return {b"turns": self._next, b"turns-not": lambda: b""}.get(key)

    def _next(self) -> bytes:
        self._turn += 1
        return b"..turn %d" % self._turn

    def miss(self, packet: bytes, index: int) -> bytes | None:
        self.missed.append(index)
        return b"..made of " + packet if packet[2:] in {b"made", b"turns-not"} else None


@given(st.lists(KINDS, min_size=1, max_size=COUNT))
def test_each_hears_its_own_with_its_own_number(clients, batch, kinds):
    asked = [at.to_bytes(2) + kind.encode() for at, kind in enumerate(kinds)]
    clients.ask(asked)
    said = Answers()
    result = batch.serve(clients.server.fileno(), WHERE.get, said.turning, said.miss)
    hits = sum(kind in {"fixed", "empty", "turns"} for kind in kinds)
    assert result == (len(kinds), hits, 0)
    turn = 0
    for at, kind in enumerate(kinds):
        turn += kind == "turns"
        wanted = {
            "fixed": FIXED[b"fixed"][2:],
            "empty": b"",
            "turns": b"turn %d" % turn,
            "turns-not": b"made of " + asked[at],
            "made": b"made of " + asked[at],
        }.get(kind)
        heard = clients.heard(at)
        assert heard == (b"" if wanted is None else at.to_bytes(2) + wanted)
    missed = [at for at, kind in enumerate(kinds) if kind not in {"fixed", "empty", "turns"}]
    assert said.missed == missed
    for at in missed:
        assert batch.sender(at) == clients.each[at].getsockname()


def test_what_is_kept_may_go_when_a_miss_is_asked_for(clients, batch):
    """Fixed replies are on their way by then."""
    held = [b"..%d" % number + bytes(300) for number in range(3)]
    replies = [b"id" + reply[2:] for reply in held]
    where = {b"%d" % at: lying(reply) for at, reply in enumerate(held)}
    clients.ask([b"id0", b"idx", b"id1", b"id2"])

    def miss(packet: bytes, _index: int) -> bytes:
        held.clear()
        return b"..late"

    assert batch.serve(clients.server.fileno(), where.get, lambda _: None, miss)[:2] == (4, 3)
    heard = [clients.heard(at) for at in range(4)]
    assert heard == [replies[0], b"idlate", *replies[1:]]


def test_more_than_a_batch_and_the_longest_of_both_ways(clients, batch):
    long, reply = b"id" + b"q" * (RECEIVE_SIZE + 9), b".." + b"r" * (SEND_SIZE - 2)
    clients.ask([long] * (COUNT + 1))
    heard: list[bytes] = []

    def miss(packet: bytes, _index: int) -> bytes:
        heard.append(packet)
        return reply

    for number in (COUNT, 1, 0):
        served = batch.serve(clients.server.fileno(), WHERE.get, lambda _: None, miss)
        assert served == (number, 0, 0)
    assert set(heard) == {long[:RECEIVE_SIZE]}
    assert {clients.heard(at) for at in range(COUNT + 1)} == {b"id" + reply[2:]}


def test_one_that_cannot_be_sent_is_counted_and_keeps_no_other(clients, batch):
    clients.ask([b"idfixed", b"idfixed", b"idmade"])
    huge = b".." + bytes(70_000)
    turn = iter((lying(huge), WHERE[b"fixed"]))
    served = batch.serve(
        clients.server.fileno(),
        lambda key: next(turn) if key == b"fixed" else None,
        lambda _: None,
        lambda packet, _: b"..made",
    )
    assert served == (3, 2, 1)
    assert [clients.heard(at) for at in range(3)] == [b"", b"id" + FIXED[b"fixed"][2:], b"idmade"]
