"""What one client may take of the gateway: connections, time, bytes; and who may connect at all."""

from __future__ import annotations

import asyncio
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
from meshnet_control.gateway.proxy import Bounds, Proxy, bind, listen
from meshnet_control.gateway.request import SPEC_BYTES

MANY = 64 * 1024 * 1024


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
        proxy = Proxy(runner.server, self.directory / "engine.sock", bounds)
        path = self.directory / "docker.sock"
        self.started.append((await listen(proxy, path, group=None), runner))
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
