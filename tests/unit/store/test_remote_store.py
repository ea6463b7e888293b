"""The store through meshnet-manager: what becomes of calls when that is away, or begins anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import pytest

from meshnet_control.api import manager_pb2_grpc
from meshnet_control.api.control_pb2 import Service, Task
from meshnet_control.link.manager_link import OPTIONS
from meshnet_control.link.remote_store import ABSENT, UNSURE, RemoteStore
from meshnet_control.manager.store_service import StoreService
from meshnet_control.store.faulty import FaultyStore
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import (
    CompactedError,
    Delete,
    OutOfSequenceError,
    Put,
    Store,
    StoreClosedError,
    StoreError,
    StoreFullError,
)


class Process:
    """A meshnet-manager as far as its store is concerned, that can end and be started again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.socket = f"unix:{path / 's'}"
        self.store: FaultyStore
        self.restarting: asyncio.Future[None] | None = None
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self.store = FaultyStore(self._opened())
        self._server = grpc.aio.server(options=OPTIONS)
        manager_pb2_grpc.add_StoreServicer_to_server(StoreService(self._now), self._server)
        self._server.add_insecure_port(self.socket)
        await self._server.start()

    async def end(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)
            await self.store.close()

    async def alone(self, writes: Sequence[Put]) -> None:
        """Started, written to and ended before anybody reached it."""
        store = self._opened()
        await store.commit(writes)
        await store.close()

    async def again(self) -> None:
        await self.end()
        await self.start()

    def _opened(self) -> SqliteStore:
        return SqliteStore.open(self._path / "store.db", self._path / "key")

    def _now(self) -> Store:
        return self.store


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    """Name: process. Scope: function. A meshnet-manager's store, served."""
    made = Process(tmp_path)
    await made.start()
    yield made
    if made.restarting is not None:  # else what it starts outlives the test
        await made.restarting
    await made.end()


@pytest.fixture
async def remote(process: Process) -> AsyncIterator[RemoteStore]:
    """Name: remote. Scope: function. Depends: process. The store as meshnetd has it."""
    async with AsyncExitStack() as stack:
        channel = grpc.aio.insecure_channel(process.socket, options=OPTIONS)
        stack.push_async_callback(channel.close, None)
        made = RemoteStore(channel, patience_s=5.0)
        stack.push_async_callback(made.close)
        following = asyncio.ensure_future(made.follow())
        stack.callback(following.cancel)
        yield made


async def test_calls_wait_for_one_that_is_started_again(process: Process, remote: RemoteStore):
    await remote.commit([Put(Task(id="a"))])
    await process.end()
    reading = asyncio.ensure_future(remote.get(Task, "a"))
    writing = asyncio.ensure_future(remote.commit([Put(Task(id="b"))], {(Task, "b"): 0}))
    await asyncio.sleep(0)
    await process.start()
    assert (await reading) == await process.store.get(Task, "a")
    assert await writing == 2


async def test_calls_do_not_wait_for_ever(process: Process):
    await process.end()
    channel = grpc.aio.insecure_channel(process.socket, options=OPTIONS)
    remote = RemoteStore(channel, patience_s=0.05)
    for call in (remote.list(Task), remote.commit([Put(Task(id="a"))])):
        with pytest.raises(StoreError, match=f"^{ABSENT}$"):
            await call
    assert remote.trouble == f"store: {ABSENT}"
    await channel.close(None)


async def test_errors_keep_their_class(process: Process, remote: RemoteStore):
    process.store.fault = StoreFullError("no room")
    with pytest.raises(StoreFullError, match=r"^no room$"):
        await remote.commit([Put(Task(id="a"))])
    assert remote.trouble == "store: no room"
    process.store.fault = None
    await remote.commit([Put(Task(id="a"))])
    assert remote.trouble == ""


async def test_a_revision_that_others_made_is_heard_of(process: Process, remote: RemoteStore):
    await remote.list(Task)
    heard = asyncio.Event()

    async def hear() -> None:
        async for _ in remote.watch(0):
            heard.set()

    hearing = asyncio.ensure_future(hear())
    await process.store.commit([Put(Task(id="a"))])
    await heard.wait()
    async with asyncio.timeout(5):
        while remote.revision != 1:  # noqa: ASYNC110 - a property is what is tested
            await asyncio.sleep(0.001)
    hearing.cancel()


async def test_a_watch_goes_on_after_a_restart(process: Process, remote: RemoteStore):
    watch = remote.watch(0)
    await remote.commit([Put(Task(id="a"))])
    assert [change.id for change in await anext(watch)] == ["a"]
    await process.again()
    await remote.commit([Put(Task(id="b"))], {(Task, "b"): 0})
    assert [(change.id, change.revision) for change in await anext(watch)] == [("b", 2)]


async def test_a_watch_that_missed_commits_says_so(process: Process, remote: RemoteStore):
    watch = remote.watch(0)
    await process.end()
    await process.alone([Put(Task(id="a"))])
    await process.start()
    with pytest.raises(CompactedError):
        await anext(watch)


def lose_the_answer(process: Process, instead: Sequence[Put] = ()) -> None:
    """The next commit is written (or ``instead``), and meshnet-manager ends before it answers."""
    behind = process.store._behind
    commit = behind.commit

    async def written(writes, expect=None):
        await (commit(instead) if instead else commit(writes, expect))
        process.restarting = asyncio.ensure_future(process.again())
        await asyncio.Event().wait()

    behind.commit = written  # type: ignore[method-assign]


async def test_a_commit_whose_answer_was_lost_is_written_once(
    process: Process, remote: RemoteStore
):
    await remote.commit([Put(Task(id="old"))])
    lose_the_answer(process)
    writes: list[Put | Delete] = [
        Put(Task(id="a", slot=1)),
        Put(Task(id="old", slot=2)),
        Delete(Service, "s"),
    ]
    assert await remote.commit(writes, {(Task, "a"): 0, (Task, "old"): 1}) == 2
    assert process.store.revision == 2
    assert {task.slot for task in await remote.list(Task)} == {1, 2}


async def test_another_write_is_not_taken_for_ours(process: Process, remote: RemoteStore):
    await remote.commit([Put(Task(id="old"))])
    lose_the_answer(process, [Put(Task(id="old", slot=9))])
    with pytest.raises(OutOfSequenceError):
        await remote.commit([Put(Task(id="old", slot=2))], {(Task, "old"): 1})


async def test_a_commit_without_compare_is_not_sent_again(process: Process, remote: RemoteStore):
    await remote.commit([Put(Task(id="old"))])
    lose_the_answer(process)
    with pytest.raises(StoreError, match=f"^{UNSURE}$"):
        await remote.commit([Put(Task(id="a"))])


async def test_its_own_end(remote: RemoteStore):
    watch = remote.watch(0)
    await remote.commit([Put(Task(id="a"))])
    await anext(watch)
    await remote.close()
    assert [batch async for batch in watch] == []
    with pytest.raises(StoreClosedError):
        await remote.get(Task, "a")
