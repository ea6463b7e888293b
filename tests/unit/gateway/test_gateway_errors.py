"""Whatever goes wrong on docker.sock, its client reads Docker's JSON; the log tells our faults."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.client import EngineClient
from meshnet_control.gateway.app import Gateway
from meshnet_control.gateway.connection import connections
from meshnet_control.gateway.engine_http import FALLBACK, EngineVersion
from meshnet_control.gateway.listener import Listener
from meshnet_control.gateway.proxy import Proxy, listen

GET = b"GET /nodes HTTP/1.1\r\nHost: d\r\n"
POST = b"POST /services/create HTTP/1.1\r\nHost: d\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


async def fallback() -> EngineVersion:
    return FALLBACK


@pytest.fixture
async def docker_sock(tmp_path: Path, engine, host) -> AsyncIterator[Path]:
    """Name: docker_sock. Scope: function. Depends: engine, host. A manager's gateway, whole."""
    path = tmp_path / "docker.sock"
    client = EngineClient(f"unix://{tmp_path}/engine.sock")
    gateway = Gateway(host, path, client)
    await gateway.start()
    yield path
    await gateway.stop()
    await client.close()


async def answer(path: Path, raw: bytes, *, end: bool = False) -> bytes:
    """All that is said to these bytes; ``end``: that is all that is ever sent."""
    async with asyncio.timeout(15):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(raw)
        if end:
            writer.write_eof()
        said = await reader.readuntil(b"\r\n\r\n")
        length = said.lower().partition(b"content-length:")[2].split()
        said += await (reader.readexactly(int(length[0])) if length else reader.read())
        writer.close()
    return said


def message(said: bytes) -> tuple[int, str]:
    """Status and sentence of an answer, which is Docker's error."""
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    error = json.loads(body)
    assert list(error) == ["message"]
    assert error["message"].strip()
    assert "\n" not in error["message"]
    return int(head.split()[1]), error["message"]


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.exc_info or "Traceback" in r.getMessage()]


CLIENTS = {
    "no header": (GET + b"no colon here\r\n\r\n", 400),
    "a header's name": (GET + b"a b: c\r\n\r\n", 400),
    "a control character": (GET + b"A: \x01\r\n\r\n", 400),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "a length": (POST + b"Content-Length: x\r\n\r\n", 400),
    "an encoding": (POST + b"Transfer-Encoding: rot13\r\n\r\n", 400),
    "a chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
    "no gzip": (POST + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 400),
    "a long header": (GET + b"A: " + b"a" * 270_000 + b"\r\n\r\n", 400),
    "many headers": (GET + b"A: b\r\n" * 500 + b"\r\n", 400),
    "a long path": (b"GET /nodes/" + b"a" * 270_000 + b" HTTP/1.1\r\nHost: d\r\n\r\n", 400),
    "a version": (b"GET /nodes HTTP/1.x\r\nHost: d\r\n\r\n", 400),
    "a method": (b"G@T /nodes HTTP/1.1\r\nHost: d\r\n\r\n", 400),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400),
    "an expectation": (POST + b"Expect: a cake\r\nContent-Length: 2\r\n\r\n{}", 417),
    "another method": (b"PATCH /nodes HTTP/1.1\r\nHost: d\r\n\r\n", 404),
    "no route": (b"GET /services/a/b/c HTTP/1.1\r\nHost: d\r\n\r\n", 404),
    "a long body": (POST + b"Content-Length: 99999999\r\n\r\n{", 400),
    "an upgrade of ours": (b"POST /nodes/x/attach HTTP/1.1\r\nHost: d\r\n" + UPGRADE, 404),
    "a stream that is not": (b"GET /services/x/logs HTTP/1.1\r\nHost: d\r\n" + UPGRADE, 400),
}


@pytest.mark.parametrize("what", CLIENTS)
async def test_what_a_client_did_wrong_is_told_to_it_alone(docker_sock: Path, caplog, what: str):
    raw, status = CLIENTS[what]
    with caplog.at_level(logging.INFO):
        said = await answer(docker_sock, raw)
    assert message(said)[0] == status
    assert tracebacks(caplog) == []


async def test_half_a_head_is_answered(docker_sock: Path, caplog):
    assert message(await answer(docker_sock, GET, end=True))[0] == 400
    assert tracebacks(caplog) == []


HEADERS = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Upgrade: tcp", b"Expect: x"]
    ),
)
TARGETS = st.one_of(st.just(b"/nodes"), st.binary(max_size=20).map(lambda b: b"/nodes/" + b))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers=st.lists(HEADERS, max_size=4), target=TARGETS, body=st.binary(max_size=20))
async def test_no_bytes_bring_out_anything_but_docker_json(
    docker_sock: Path, caplog, headers: list[bytes], target: bytes, body: bytes
):
    lines = [b"POST " + target + b" HTTP/1.1", b"Host: d", *headers]
    said = await answer(docker_sock, b"\r\n".join(lines) + b"\r\n\r\n" + body)
    assert 400 <= message(said)[0] < 500
    assert tracebacks(caplog) == []


class UnexpectedError(Exception):
    """Nobody expects it."""


@pytest.mark.parametrize("error", [UnexpectedError("bad\nthing"), TimeoutError(), OSError(5, "x")])
async def test_our_own_fault_is_told_in_a_sentence_and_logged_with_its_traceback(
    docker_sock: Path, host, caplog, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fail() -> pb.SwarmInfo:
        raise error

    monkeypatch.setattr(host, "swarm_info", fail)
    status, _ = message(await answer(docker_sock, b"GET /info HTTP/1.1\r\nHost: d\r\n\r\n"))
    assert status == 500
    assert len(tracebacks(caplog)) == 1


async def prepared(request: web.BaseRequest) -> web.StreamResponse:
    await web.StreamResponse().prepare(request)
    raise UnexpectedError


async def nothing(_: web.BaseRequest) -> web.StreamResponse | None:
    return None


async def half_said(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"half")
    raise UnexpectedError


async def told(directory: Path, handler: Callable[..., Awaitable]) -> bytes:
    """What a gateway with one such handler says."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    assert runner.server is not None
    proxy = Proxy(connections(runner.server), directory / "engine.sock", fallback)
    server = await listen(proxy, Listener().open(directory / "docker.sock", None))
    try:
        return await answer(directory / "docker.sock", GET + b"\r\n")
    finally:
        server.close()
        await proxy.close()
        await runner.cleanup()


async def test_a_handler_without_an_answer_is_our_fault(tmp_path, caplog):
    assert message(await told(tmp_path, nothing))[0] == 500
    assert any(r.levelname == "ERROR" for r in caplog.records)


@pytest.mark.parametrize("handler", [prepared, half_said])
async def test_a_stream_that_fails_ends_short_and_nothing_is_written_into_it(
    tmp_path, caplog, handler
):
    said = await told(tmp_path, handler)
    assert b"200 OK" in said
    assert not said.endswith(b"0\r\n\r\n"), "no last chunk: the client knows that it is not whole"
    assert b"message" not in said
    assert len(tracebacks(caplog)) == 1


async def test_a_client_that_hangs_up_over_its_body_is_no_fault_of_ours(docker_sock, caplog):
    _, writer = await asyncio.open_unix_connection(docker_sock)
    writer.write(POST + b"Content-Length: 100\r\n\r\n{")
    await writer.drain()
    writer.transport.abort()
    assert (await answer(docker_sock, GET + b"\r\n")).startswith(b"HTTP/1.1 200 ")
    assert tracebacks(caplog) == []
