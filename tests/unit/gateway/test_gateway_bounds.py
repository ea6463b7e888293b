"""What one client may take of the gateway: connections, time, bytes; and who may connect at all."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from meshnet import drops
from meshnet_control.gateway.engine_http import FALLBACK, EngineVersion
from meshnet_control.gateway.listener import Listener
from meshnet_control.gateway.proxy import _SEND_BYTES, Bounds, Proxy, _widen, bind, listen
from meshnet_control.gateway.request import SPEC_BYTES

MANY = 64 * 1024 * 1024


async def fallback() -> EngineVersion:
    return FALLBACK


@pytest.fixture
def anybody():
    """Name: anybody. Scope: function. A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_the_socket_is_for_root_and_its_group_before_anybody_can_connect(tmp_path, mask):
    path = tmp_path / "docker.sock"
    before = os.umask(mask)
    try:
        with bind(path, os.getgid()):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert path.stat().st_gid == os.getgid()
            with socket.socket(socket.AF_UNIX) as early, pytest.raises(ConnectionRefusedError):
                early.connect(str(path))
    finally:
        os.umask(before)


def test_the_file_never_had_a_wider_mode(tmp_path, anybody, monkeypatch):
    seen = []

    def look(path, *_: int) -> None:
        seen.append(stat.S_IMODE(Path(path).stat().st_mode))

    monkeypatch.setattr(os, "chown", look)
    bind(tmp_path / "docker.sock", 0).close()
    assert seen == [0o660]


async def never(_: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError("no request is complete")


async def endless(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(MANY // 65536):
        await response.write(b"x" * 65536)
    return response


class Start:
    """Starts proxies before a handler, with bounds."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.proxies: list[Proxy] = []
        self.started: list[tuple[asyncio.Server, web.ServerRunner]] = []

    async def __call__(self, handler: Callable, bounds: Bounds) -> Path:
        runner = web.ServerRunner(web.Server(handler))
        await runner.setup()
        assert runner.server is not None
        proxy = Proxy(runner.server, self.directory / "engine.sock", fallback, bounds)
        path = self.directory / "docker.sock"
        self.started.append((await listen(proxy, Listener().open(path, None)), runner))
        self.proxies.append(proxy)
        return path


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Name: start. Scope: function. Starts a proxy; returns its socket."""
    begin = Start(tmp_path)
    yield begin
    for served, _ in begin.started:
        served.close()
    for proxy in begin.proxies:
        await proxy.close()
    for _, runner in begin.started:
        await runner.cleanup()


def counted(reason: str) -> int:
    return drops.snapshot().get(f"gateway: {reason}", 0)


async def test_a_head_that_trickles_in_is_given_up(start: Start):
    before = counted("request head took too long")
    path = await start(never, Bounds(head_s=0.05))
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /nodes HTTP/1.1\r\nHost: ")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    assert counted("request head took too long") == before + 1


async def test_a_head_without_end_is_refused(start: Start):
    before = counted("malformed request head")
    path = await start(never, Bounds())
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /nodes HTTP/1.1\r\nX: " + b"x" * 256 * 1024)
    async with asyncio.timeout(10):
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert counted("malformed request head") == before + 1


async def test_connections_are_bounded_and_one_that_ends_makes_room(start: Start):
    before = counted("more connections than served at once")
    path = await start(endless, Bounds(connections=2))
    idle = [await asyncio.open_unix_connection(path) for _ in range(2)]
    for _, writer in idle:
        writer.write(b"GET ")
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_unix_connection(path)
        assert b"503" in await reader.readline()
        writer.close()
        idle[0][1].close()
        while True:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET /nodes HTTP/1.1\r\nHost: x\r\n\r\n")
            line = await reader.readline()
            writer.close()
            if line.startswith(b"HTTP/1.1 200"):
                break
    idle[1][1].close()
    assert counted("more connections than served at once") > before


async def test_a_burst_of_clients_waits_for_its_turn(start: Start):
    path = await start(never, Bounds())
    with contextlib.ExitStack() as stack:
        for _ in range(400):  # before the loop has accepted one
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(0)
            client.connect(str(path))


async def test_a_client_that_does_not_read_is_dropped(start: Start):
    before = counted("client does not read")
    path = await start(endless, Bounds(unread_s=0.05))
    proxy = start.proxies[-1]
    reader, writer = await asyncio.open_unix_connection(path, limit=1024)
    writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(10):
        await reader.read(1)
        await asyncio.wait(proxy._connections)
        left = 0
        while data := await reader.read(1 << 20):
            left += len(data)
    writer.close()
    assert counted("client does not read") == before + 1
    assert left < MANY / 8, "the connection ended; what it had not read was not kept"


@pytest.fixture
async def numbered(tmp_path: Path) -> AsyncIterator[list[int]]:
    """
    Name: numbered; Scope: function; Depends: tmp_path.

    An engine that answers with MANY bytes, numbered by 8; what it has got rid of, a number each.
    """
    sent: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for begin in range(0, MANY // 8, 8192):
                writer.write(numbers(begin, 8192))
                await writer.drain()
                sent.append(8192 * 8)
            writer.write_eof()
            await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(answer, str(tmp_path / "engine.sock"))
    yield sent
    server.close()


def numbers(begin: int, count: int) -> bytes:
    return b"".join(each.to_bytes(8, "big") for each in range(begin, begin + count))


async def ask_engine(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path, limit=1024)
    writer.write(b"GET /containers/x/archive HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_the_engines_answer_waits_for_its_client_and_is_whole_in_the_end(
    start: Start, numbered: list[int]
):
    reader, writer = await ask_engine(await start(never, Bounds()))
    async with asyncio.timeout(30):
        before = -1
        while sum(numbered) > before:  # until every buffer on the way is full
            before = sum(numbered)
            for _ in range(500):
                await asyncio.sleep(0)
        assert before < MANY / 4, "kept here instead"
        got = bytearray()
        while data := await reader.read(1 << 20):
            got += data
    assert bytes(got) == numbers(0, MANY // 8)
    writer.close()


async def test_a_client_without_more_to_say_gets_all(start: Start, numbered: list[int]):
    reader, writer = await ask_engine(await start(never, Bounds()))
    writer.write_eof()
    async with asyncio.timeout(30):
        assert len(await reader.read()) == MANY
    writer.close()


async def test_a_client_that_goes_ends_the_engines_answer(start: Start, numbered: list[int]):
    path = await start(never, Bounds())
    _, writer = await ask_engine(path)
    writer.transport.abort()
    async with asyncio.timeout(10):
        while start.proxies[-1]._connections:
            await asyncio.wait(start.proxies[-1]._connections)
    assert sum(numbered) < MANY


@pytest.fixture
async def silent(tmp_path: Path) -> AsyncIterator[asyncio.Queue[asyncio.StreamWriter]]:
    """
    Name: silent; Scope: function; Depends: tmp_path.

    An engine that attaches whom it is asked by to a program without a word, and hears it out.
    """
    attached: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 UPGRADED\r\n\r\n")
        await reader.read()
        await attached.put(writer)

    server = await asyncio.start_unix_server(answer, str(tmp_path / "engine.sock"))
    yield attached
    server.close()


ATTACH = b"POST /exec/x/start HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


async def attach(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(ATTACH)
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_a_client_that_is_gone_is_kept_for_no_program_without_a_word(start: Start, silent):
    path = await start(never, Bounds(connections=2))
    async with asyncio.timeout(10):
        for _ in range(5):
            _, writer = await attach(path)
            writer.transport.abort()
            served = set(start.proxies[-1]._connections)
            await asyncio.wait(served)
            (await silent.get()).close()


async def test_a_client_that_has_only_said_all_is_not_gone(start: Start, silent):
    path = await start(never, Bounds())
    async with asyncio.timeout(10):
        reader, writer = await attach(path)
        writer.write_eof()
        engine = await silent.get()
        for _ in range(500):
            await asyncio.sleep(0)
        engine.write(b"late")
        engine.close()
        assert await reader.read() == b"late"
        writer.close()


class Taker:
    """An engine that takes what it is sent once it may, and answers then."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.got = b""
        self.refuses = False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if not self.refuses:
            await self.may.wait()
            self.got = await reader.read()
        writer.write(b"HTTP/1.1 507 full\r\n\r\n" if self.refuses else b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()


@pytest.fixture
async def taker(tmp_path: Path) -> AsyncIterator[Taker]:
    """Name: taker; Scope: function; Depends: tmp_path. An engine that is sent much."""
    made = Taker()
    server = await asyncio.start_unix_server(made, str(tmp_path / "engine.sock"))
    yield made
    made.may.set()
    server.close()


PUT = b"PUT /containers/x/archive HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_what_a_client_sends_waits_for_the_engine_and_is_whole(start: Start, taker: Taker):
    reader, writer = await asyncio.open_unix_connection(await start(never, Bounds()))
    sent = numbers(0, MANY // 8)
    writer.write(PUT + sent)  # the head and what follows it come together
    writer.write_eof()
    async with asyncio.timeout(30):
        left = len(sent) + 1
        while writer.transport.get_write_buffer_size() < left:  # until every buffer is full
            left = writer.transport.get_write_buffer_size()
            for _ in range(500):
                await asyncio.sleep(0)
        assert left > MANY * 3 / 4, "kept here instead"
        taker.may.set()
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    assert taker.got == sent
    writer.close()


async def test_a_client_that_is_refused_while_it_sends_reads_why(start: Start, taker: Taker):
    taker.refuses = True
    reader, writer = await asyncio.open_unix_connection(await start(never, Bounds()))
    async with asyncio.timeout(10):
        for _ in range(64):
            writer.write(PUT)
            await asyncio.sleep(0)
        assert await reader.readline() == b"HTTP/1.1 507 full\r\n"
    writer.close()


async def test_closing_down_waits_for_no_client(start: Start):
    written: list[int] = []

    async def counting(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
            written.append(65536)

    path = await start(counting, Bounds())
    reader, writer = await asyncio.open_unix_connection(path, limit=1024)
    writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(10):
        await reader.read(1)
        before = 0
        while len(written) > before:  # until every buffer on the way is full
            before = len(written)
            for _ in range(500):
                await asyncio.sleep(0)
        served = set(start.proxies[-1]._connections)
        await start.proxies[-1].close()
    assert len(served) == 1
    assert all(connection.done() for connection in served), "none is left behind, either"
    writer.close()


@pytest.mark.parametrize(
    "path", ["/services/create", "/networks/create", "/swarm/update?version=1", "/nodes/x/update"]
)
async def test_a_body_has_a_bound(manager: TestClient, path: str):
    answer = await manager.post(path, data=io.BytesIO(b'{"Name": "' + b"x" * SPEC_BYTES + b'"}'))
    assert answer.status == 400
    assert (await answer.json())["message"] == "http: request body too large"


async def test_a_stream_of_the_engine_may_run_ahead_of_its_reader():
    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_unix_connection(sock=ours)
    try:
        before = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        _widen(writer)
        wanted = _SEND_BYTES if os.geteuid() == 0 else before
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= wanted
    finally:
        writer.close()
        theirs.close()
