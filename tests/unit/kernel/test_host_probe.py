"""A host whose daemon is gone answers; one that is not there does not."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from ipaddress import IPv4Address

import pytest

from meshnet.kernel.host_probe import OFF, HostProbe, answers
from meshnet.model.ids import NodeId

LOOPBACK = IPv4Address("127.0.0.1")
NODE = NodeId("n")


@pytest.fixture
def closed_port():
    with socket.socket() as held:
        held.bind((str(LOOPBACK), 0))
        yield held.getsockname()[1]


async def test_a_port_that_refuses_is_a_host_that_is_there(closed_port):
    assert await answers(LOOPBACK, closed_port) is True


async def test_a_daemon_that_hangs_leaves_a_host_that_is_there():
    with socket.create_server((str(LOOPBACK), 0)) as nobody_accepts:
        assert await answers(LOOPBACK, nobody_accepts.getsockname()[1]) is True


async def test_an_answer_that_we_were_too_late_to_take_is_one(closed_port):
    with socket.create_server((str(LOOPBACK), 0)) as open_:
        assert await answers(LOOPBACK, open_.getsockname()[1], 0.0) is True
    assert await answers(LOOPBACK, closed_port, 0.0) is True


async def test_no_answer_in_time_is_no_host():
    with socket.socket() as full:  # a backlog that is full drops what comes
        full.bind((str(LOOPBACK), 0))
        full.listen(0)
        port = full.getsockname()[1]
        held = [socket.socket() for _ in range(4)]
        for one in held:
            one.settimeout(0)
            one.connect_ex((str(LOOPBACK), port))
        assert await answers(LOOPBACK, port, 0.05) is False
        for one in held:
            one.close()


async def test_running_out_of_descriptors_says_nothing_of_the_host(closed_port):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert await answers(LOOPBACK, closed_port) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EPERM, None), (errno.EADDRNOTAVAIL, None), (errno.EHOSTUNREACH, False)],
)
async def test_what_fails_here_says_nothing_of_the_host(monkeypatch, number, said):
    async def fails(*_: object) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", fails)
    assert await answers(LOOPBACK, 1) is said


async def _told(probe: HostProbe, changed: asyncio.Event) -> bool | None:
    async with asyncio.timeout(5):
        await changed.wait()
    changed.clear()
    return probe.answering.get(NODE)


async def test_it_tells_when_a_host_goes_and_comes_and_forgets_whom_it_need_not_ask():
    said: list[bool | None] = [True, False, None, True, False, False, False, True]
    asked = 0

    async def scripted(*_: object) -> bool | None:
        nonlocal asked
        asked += 1
        return said.pop(0) if said else True

    changed = asyncio.Event()
    probe = HostProbe(1, changed.set, ask=scripted, interval_s=0.0)
    probe.watch({NODE: LOOPBACK})
    try:
        assert await _told(probe, changed) is True
        assert await _told(probe, changed) is False
        assert asked >= 6, "one question that is lost is no silence"
        assert await _told(probe, changed) is True
    finally:
        probe.watch({})
        assert probe.answering == {}
        await probe.close()


async def test_a_host_that_was_off_is_not_there_again_until_it_need_not_be_asked():
    said: list[bool] = [True, *[False] * OFF, True]
    asked = asyncio.Semaphore(0)

    async def scripted(*_: object) -> bool:
        asked.release()
        return said.pop(0) if said else True

    async def questions(count: int) -> None:
        async with asyncio.timeout(5):
            for _ in range(count):
                await asked.acquire()

    probe = HostProbe(1, lambda: None, ask=scripted, interval_s=0.0)
    probe.watch({NODE: LOOPBACK})
    try:
        await questions(OFF + 5)
        assert probe.answering == {NODE: False}
        probe.watch({})
        probe.watch({NODE: LOOPBACK})
        await questions(2)
        assert probe.answering == {NODE: True}
    finally:
        await probe.close()
