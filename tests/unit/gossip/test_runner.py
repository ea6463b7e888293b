"""Sockets on the loopback: what strangers and peers may do to the process that listens."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import msgpack
import pytest
from lone_node import hand

from meshnet import drops, measures
from meshnet.gossip import wire
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.engine import GossipEngine
from meshnet.gossip.events import Changes
from meshnet.gossip.members import Address, State
from meshnet.gossip.runner import GossipRunner
from meshnet.gossip.wire import KeyRing
from meshnet.model.ids import NodeId

KEY = b"0123456789abcdef"
LOOPBACK = "127.0.0.1"


def _free_port() -> int:
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        return int(held.getsockname()[1])


@dataclass
class Here:
    """A listening runner."""

    name: str
    config: GossipConfig = field(default_factory=GossipConfig.lan)
    engine_type: type[GossipEngine] = GossipEngine
    port: int = field(default_factory=_free_port)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    told: list[Changes] = field(default_factory=list)

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.engine = self.engine_type(
            self.config,
            NodeId(self.name),
            (LOOPBACK, self.port),
            1,
            random.Random(self.name),
            loop.time(),
            hand(NodeId(self.name)),
        )
        names = [NodeId("here"), NodeId("there"), NodeId("x"), NodeId(self.name)]
        self.engine.expect({name: hand(name).public for name in names}, loop.time())
        self.runner = GossipRunner(self.engine, LOOPBACK, self.port, self._changed)

    def _changed(self, changes: Changes) -> None:
        self.told.append(changes)
        self.changed.set()

    async def until(self, holds) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    async def dropped(self, why: str, times: int = 1) -> None:
        async with asyncio.timeout(20):
            while self.engine.dropped[why] < times:  # noqa: ASYNC110 - drops tell nobody
                await asyncio.sleep(0)


Listen = Callable[..., Awaitable[Here]]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Starts runners, and closes them in the end."""
    running: list[Here] = []

    async def start(name: str, **how) -> Here:
        here = Here(name, **how)
        running.append(here)
        await here.runner.start()
        here.runner.set_keys([KEY])
        return here

    yield start
    for each in running:
        await each.runner.close()


@pytest.fixture
async def pair(listen: Listen) -> tuple[Here, Here]:
    return await listen("here"), await listen("there")


async def _joined(here: Here, there: Here) -> None:
    there.runner.join([(LOOPBACK, here.port)])
    await there.until(lambda: NodeId("here") in there.runner.members())
    await here.until(lambda: NodeId("there") in here.runner.members())


async def test_two_find_each_other_and_pass_records_of_any_size_on(pair):
    here, there = pair
    here.runner.set_record("big", b"x" * 30_000)
    await _joined(here, there)
    here.runner.set_record("small", b"y")
    await there.until(lambda: (NodeId("here"), "small") in there.runner.records())
    await there.until(lambda: (NodeId("here"), "big") in there.runner.records())
    assert there.runner.synced
    changed = {place for changes in there.told for place in changes.records}
    assert changed == {(NodeId("here"), "big"), (NodeId("here"), "small")}
    assert there.runner.record(NodeId("here"), "small") == b"y"
    assert there.runner.told("small") == {NodeId("here"): b"y"}
    assert NodeId("here") in {member for changes in there.told for member in changes.members}


async def test_a_pause_is_told(pair):
    here, there = pair
    await _joined(here, there)
    here.runner.pause()
    await there.until(lambda: there.runner.members()[NodeId("here")].state is State.RESTARTING)


async def test_a_bad_datagram_is_dropped_and_gossip_goes_on(pair):
    here, there = pair
    before = drops.snapshot().get("gossip: malformed port", 0)
    bad = KeyRing((KEY,)).seal([msgpack.packb([5, "x", LOOPBACK, 99999, 1, b"s" * 64])], b"n" * 12)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for _ in range(3):
            peer.sendto(bad, (LOOPBACK, here.port))
    await here.dropped("malformed port", 3)
    await _joined(here, there)
    assert drops.snapshot()["gossip: malformed port"] == before + 3


async def test_what_cannot_be_sent_is_counted(pair):
    here, _ = pair
    far = KeyRing((KEY,)).seal([msgpack.packb([2, 7, "x", "192.0.2.1", 9])], b"n" * 12)
    here.engine.receive_datagram(far, (LOOPBACK, 9), asyncio.get_running_loop().time())
    here.runner.set_keys([KEY])  # from a loopback address nothing leaves the host
    assert any(why.startswith("datagram not sent: ") for why in here.engine.dropped)
    assert not here.runner._failure.done()


class Faulty(GossipEngine):
    """Has a fault of its own."""

    def receive_datagram(self, data: bytes, peer: Address, now: float) -> None:
        raise KeyError("ours")


async def test_an_error_of_our_own_ends_run_and_is_not_theirs(listen):
    here = await listen("here", engine_type=Faulty)
    running = asyncio.create_task(here.runner.run())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"x", (LOOPBACK, here.port))
    with pytest.raises(KeyError, match="ours"):
        async with asyncio.timeout(20):
            await running
    assert not here.engine.dropped


async def _end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_a_stranger_on_tcp_is_held_to_one_frame(pair):
    here, _ = pair
    reader, writer = await asyncio.open_connection(LOOPBACK, here.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(20):
        assert await _end(reader) == b""
    writer.close()
    await here.dropped("frame too long")
    reader, writer = await asyncio.open_connection(LOOPBACK, here.port)
    writer.write(struct.pack(">I", 64 << 10) + bytes([wire.VERSION]) * (64 << 10))
    async with asyncio.timeout(20):
        assert await _end(reader) == b""
    writer.close()
    await here.dropped("sealed with a key we do not have")


async def test_a_stranger_that_says_nothing_is_sent_away_in_time(listen):
    bounds = replace(GossipConfig.lan(), first_frame_s=0.05, exchange_s=3600.0)
    here = await listen("here", config=bounds)
    reader, writer = await asyncio.open_connection(LOOPBACK, here.port)
    async with asyncio.timeout(10):
        assert await _end(reader) == b""
    writer.close()
    assert here.engine.dropped["stream too slow"] == 1


async def test_a_hung_process_s_host_answers_for_a_minute(listen):
    here = await listen("here")
    for _ in range(300):  # the loop does not run meanwhile: nobody accepts
        socket.create_connection((LOOPBACK, here.port), timeout=5).close()


async def test_one_peer_has_few_streams(pair):
    here, _ = pair
    held = [await asyncio.open_connection(LOOPBACK, here.port) for _ in range(6)]
    await here.dropped("too many streams of one peer", 2)
    assert len(here.runner._streams._guests) == here.config.streams_per_peer
    for _, writer in held:
        writer.close()


async def test_who_asked_and_went_while_we_were_slow_takes_no_place(pair):
    here, there = pair
    for _ in range(3 * here.config.streams_per_peer):  # nothing here is accepted meanwhile
        socket.create_connection((LOOPBACK, here.port)).close()
    await _joined(here, there)
    assert here.engine.dropped["too many streams of one peer"] == 0


async def test_a_newcomer_takes_the_place_of_a_stranger(listen):
    """With every place taken by strangers of many addresses, a peer still gets in."""
    few = replace(GossipConfig.lan(), streams_max=3, first_frame_s=60.0)
    here, there = await listen("here", config=few), await listen("there")
    held = [
        await asyncio.open_connection(LOOPBACK, here.port, local_addr=(f"127.0.0.{n}", 0))
        for n in (2, 3, 4)
    ]
    await _joined(here, there)
    await there.until(lambda: there.runner.synced)
    assert here.engine.dropped["too many streams"] > 0
    for _, writer in held:
        writer.close()


class Recorder(GossipEngine):
    """Notes in which order it is called."""

    calls: ClassVar[list[str]] = []

    def receive_datagram(self, data: bytes, peer: Address, now: float) -> None:
        self.calls.append("datagram")

    def handle_timer(self, now: float) -> None:
        self.calls.append("timer")
        super().handle_timer(now)


async def test_the_socket_is_read_empty_before_a_timer_judges(listen):
    here = await listen("here", engine_type=Recorder)
    Recorder.calls.clear()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for _ in range(50):
            peer.sendto(b"late", (LOOPBACK, here.port))
    here.runner._tick()  # no turn of the loop since they were sent
    assert Recorder.calls == ["datagram"] * 50 + ["timer"]


async def test_datagrams_and_their_bytes_are_counted_both_ways(pair):
    def counted(what: str, direction: str) -> float:
        name = f"meshnet_gossip_{what}_total"
        return measures.NODE.get_sample_value(name, {"direction": direction}) or 0.0

    here, there = pair
    received, size = counted("datagrams", "received"), counted("bytes", "received")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"nothing that is gossip", (LOOPBACK, here.port))
        async with asyncio.timeout(20):
            while counted("datagrams", "received") == received:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
    assert counted("datagrams", "received") - received == 1
    assert counted("bytes", "received") - size == len(b"nothing that is gossip")
    sent, size = counted("datagrams", "sent"), counted("bytes", "sent")
    await _joined(here, there)
    here.runner.leave()
    there.runner.leave()
    assert counted("bytes", "sent") - size > counted("datagrams", "sent") - sent > 0
