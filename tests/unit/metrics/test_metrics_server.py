"""Where metrics are served: where it is wanted, from when it can be, and nowhere else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from aiohttp import ClientConnectorError, ClientSession

from meshnet import drops
from meshnet_control.metrics import families, server
from meshnet_control.metrics.facts import Facts
from meshnet_control.metrics.server import MetricsServer

FACTS = Facts("0.1.0", "none", {}, hostname="h1")


async def here() -> Facts:
    return FACTS


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """Name: taken. Scope: function. A socket that has a port of its own, and listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


async def scraped(address: str) -> tuple[int, str, str]:
    async with ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_it_serves_where_it_is_wanted_moves_and_ends(taken):
    free = taken.getsockname()[1]
    taken.close()
    wanted = [f"127.0.0.1:{free}"]
    serving = MetricsServer(here, lambda: wanted[0])
    await serving.follow()
    try:
        status, kind, text = await scraped(wanted[0])
        assert (status, kind) == (200, families.CONTENT_TYPE)
        assert 'meshnet_node_info{hostname="h1"' in text or 'hostname="h1"' in text
        before, wanted[0] = wanted[0], ""
        await serving.follow()
        with pytest.raises(ClientConnectorError):
            await scraped(before)
    finally:
        await serving.end()


async def test_a_port_that_is_taken_is_served_when_it_is_free(taken, caplog):
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    serving = MetricsServer(here, lambda: address)
    await serving.follow()
    await serving.follow()
    assert len([each for each in caplog.records if "not served: metrics" in each.message]) == 1
    taken.close()
    await serving.follow()
    try:
        assert (await scraped(address))[0] == 200
    finally:
        await serving.end()


async def test_what_is_no_address_is_said_and_ends_nothing(caplog):
    serving = MetricsServer(here, lambda: "everywhere")
    await serving.follow()
    assert "'everywhere' is no place to serve metrics at" in caplog.text


async def test_a_node_that_cannot_be_read_in_time_answers_that(taken, monkeypatch):
    free = taken.getsockname()[1]
    taken.close()
    monkeypatch.setattr(server, "READS_S", 0.0)

    async def never() -> Facts:
        await asyncio.Event().wait()
        raise AssertionError

    address = f"127.0.0.1:{free}"
    serving = MetricsServer(never, lambda: address)
    await serving.follow()
    try:
        status, _, text = await scraped(address)
        assert (status, text) == (503, server.SILENT)
    finally:
        await serving.end()


async def test_many_who_ask_are_answered_one_after_the_other(taken):
    free = taken.getsockname()[1]
    taken.close()
    at_once, most = [0], [0]

    async def counted() -> Facts:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        await asyncio.sleep(0)
        at_once[0] -= 1
        return FACTS

    address = f"127.0.0.1:{free}"
    serving = MetricsServer(counted, lambda: address)
    await serving.follow()
    try:
        answers = await asyncio.gather(*(scraped(address) for _ in range(8)))
        assert [status for status, _, _ in answers] == [200] * 8
        assert most == [1]
    finally:
        await serving.end()


async def test_what_is_malformed_is_counted_and_fills_no_log(taken, caplog):
    free = taken.getsockname()[1]
    taken.close()
    before = drops.snapshot().get("metrics: malformed request", 0)
    serving = MetricsServer(here, lambda: f"127.0.0.1:{free}")
    await serving.follow()
    caplog.clear()
    try:
        for head in (b"no such thing\r\n\r\n", b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", free)
            writer.write(head)
            assert b" 400 Bad Request" in await reader.readline()
            await reader.read()
            writer.close()
            await writer.wait_closed()
    finally:
        await serving.end()
    assert drops.snapshot()["metrics: malformed request"] == before + 2
    assert caplog.records == []


ASKED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the end; a reset is one, too, as the kernel likes."""
    async with asyncio.timeout(20):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def test_one_connection_too_many_is_cut_and_the_others_are_served(taken):
    free = taken.getsockname()[1]
    taken.close()
    asked, readable = asyncio.Event(), asyncio.Event()

    async def held() -> Facts:
        asked.set()
        await readable.wait()
        return FACTS

    serving = MetricsServer(held, lambda: f"127.0.0.1:{free}", most=1)
    await serving.follow()
    try:
        first, asking = await asyncio.open_connection("127.0.0.1", free)
        asking.write(ASKED)
        await asked.wait()
        second, late = await asyncio.open_connection("127.0.0.1", free)
        assert await ended(second) == b""
        readable.set()
        assert (await ended(first)).startswith(b"HTTP/1.1 200 OK\r\n")
        for writer in (asking, late):
            writer.close()
    finally:
        await serving.end()


async def test_who_sends_half_a_head_makes_room_for_who_asks(taken):
    free = taken.getsockname()[1]
    taken.close()
    serving = MetricsServer(here, lambda: f"127.0.0.1:{free}", most=2)
    await serving.follow()
    slow = []
    try:
        for _ in range(4):
            slow.append(await asyncio.open_connection("127.0.0.1", free))
            slow[-1][1].write(b"GET /met")
        assert (await scraped(f"127.0.0.1:{free}"))[0] == 200
        assert await ended(slow[0][0]) == b""
    finally:
        for _, writer in slow:
            writer.close()
        await serving.end()


async def test_a_connection_has_a_bounded_life_and_one_answer(taken):
    free = taken.getsockname()[1]
    taken.close()
    serving = MetricsServer(here, lambda: f"127.0.0.1:{free}", life_s=0.05)
    await serving.follow()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", free)
        writer.write(b"GET /met")
        assert await ended(reader) == b""
        writer.close()
        await serving.end()
        serving = MetricsServer(here, lambda: f"127.0.0.1:{free}")
        await serving.follow()
        for path, status in ((b"/metrics", b"200"), (b"/", b"404")):
            reader, writer = await asyncio.open_connection("127.0.0.1", free)
            writer.write(ASKED.replace(b"/metrics", path))
            assert (await ended(reader)).split()[1] == status
            writer.close()
    finally:
        await serving.end()
