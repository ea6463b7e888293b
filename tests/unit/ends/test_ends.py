"""Nothing that hangs at an end keeps the steps after it from being done."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import pytest

from meshnet import ends

SHORT_S = 0.02
LONG_S = 2.0
"""Far more than any bound here takes."""


class Deaf:
    """A task that does not heed a cancel until it is let go."""

    def __init__(self) -> None:
        self._go = asyncio.Event()
        self.heard = 0

    async def run(self) -> None:
        while not self._go.is_set():
            try:
                await self._go.wait()
            except asyncio.CancelledError:
                self.heard += 1

    def let_go(self) -> None:
        self._go.set()


@pytest.fixture
async def deaf():
    """Name: deaf; Scope: function. What hangs, until the test is over."""
    made = Deaf()
    yield made
    made.let_go()
    await asyncio.sleep(0)


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """Name: stuck; Scope: function. What a thread hangs at, until the test is over."""
    made = threading.Event()
    yield made
    made.set()


async def test_a_task_that_does_not_heed_its_end_is_left(deaf: Deaf, caplog):
    async with asyncio.timeout(LONG_S):
        hangs = asyncio.create_task(deaf.run(), name="the deaf")
        ends_well = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        assert not await ends.ended(hangs, ends_well, seconds=SHORT_S)
    assert ends_well.cancelled()
    assert "the deaf does not end" in caplog.text


async def test_a_step_that_hangs_is_given_up_and_told(deaf: Deaf, caplog):
    async with asyncio.timeout(LONG_S):
        assert not await ends.within(SHORT_S, deaf.run(), "the deaf are not done")
    assert "the deaf are not done: gave up" in caplog.text


async def test_a_step_that_fails_is_told_and_the_next_one_follows(caplog):
    async def full() -> None:
        raise OSError(28, "No space left on device")

    assert not await ends.closed(full)
    assert "No space left on device" in caplog.text


async def test_a_mistake_of_ours_comes_out_when_what_comes_after_it_is_done():
    async def wrong() -> None:
        raise KeyError

    done: list[str] = []
    stack = AsyncExitStack()
    stack.callback(done.append, "the next step")
    stack.push_async_callback(ends.closed, wrong)
    with pytest.raises(KeyError):
        await stack.aclose()
    assert done == ["the next step"]


async def test_a_step_that_somebody_else_cancels_is_told_and_the_next_one_follows(caplog):
    work = asyncio.create_task(asyncio.sleep(3600))
    asyncio.get_running_loop().call_soon(work.cancel)
    assert not await ends.within(LONG_S, work, "the sleeper is not done")
    assert "the sleeper is not done: it was cancelled" in caplog.text


async def test_how_tasks_ended_is_their_own(caplog):
    async def fails() -> None:
        raise ValueError

    task = asyncio.create_task(fails())
    await asyncio.wait({task})
    assert await ends.ended(task)
    assert await ends.ended()
    assert caplog.records == []


@pytest.mark.timeout(3 * LONG_S)
async def test_a_thread_that_hangs_is_left_and_does_not_begin_what_waits(stuck: threading.Event):
    executor = ThreadPoolExecutor(max_workers=1)
    executor.submit(stuck.wait)
    last: list[str] = []
    began = time.monotonic()
    assert not await ends.executed(executor, lambda: last.append("done"), "it hangs", SHORT_S)
    assert time.monotonic() - began < LONG_S
    stuck.set()
    executor.shutdown(wait=True)
    assert last == []


async def test_a_thread_that_works_does_its_last_and_ends():
    executor = ThreadPoolExecutor(max_workers=1)
    last: list[str] = []
    assert await ends.executed(executor, lambda: last.append("done"), "it hangs")
    assert last == ["done"]


async def test_work_that_began_is_finished_when_who_waits_is_cancelled():
    missed, go, done = list[object](), asyncio.Event(), list[str]()
    asyncio.get_running_loop().set_exception_handler(lambda _, what: missed.append(what))

    async def work():
        await go.wait()
        done.append("written")
        raise OSError("too late")

    waiting = asyncio.ensure_future(ends.finishing(work()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    go.set()
    while not done:  # noqa: ASYNC110 - it takes one turn
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waiting.cancelled()
    del waiting  # its traceback knows the work
    gc.collect()
    assert missed == []  # nobody is there whom the failure would concern


async def test_who_waits_hears_how_work_ended():
    async def work(error=None):
        if error is not None:
            raise error
        return 7

    assert await ends.finishing(work()) == 7
    with pytest.raises(OSError, match="full"):
        await ends.finishing(work(OSError("full")))


async def test_a_connection_is_cut_whatever_state_it_is_in():
    """One that was closed with something left to send, and has sent it: neither open nor lost."""
    here, there = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=here)
    reader, other = await asyncio.open_connection(sock=there)
    writer.write(bytes(4_000_000))  # more than a socket takes at once
    assert writer.transport.get_write_buffer_size() > 0
    writer.close()
    assert len(await reader.read()) == 4_000_000
    await writer.wait_closed()
    ends.cut(writer.transport)
    ends.cut(other.transport)
    await other.wait_closed()


async def test_a_connection_whose_peer_reads_nothing_is_cut():
    here, there = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=here)
    with there:
        writer.write(bytes(4_000_000))
        writer.close()  # by itself it would wait for ever
        ends.cut(writer.transport)
        await asyncio.wait_for(writer.wait_closed(), LONG_S)
        ends.cut(writer.transport)
    ends.cut(None)
