"""The backends that need no other process keep the store's contract, and one behind a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from store_contract import Clock, Opener, StoreContract

from meshnet_control.api import manager_pb2_grpc
from meshnet_control.api.control_pb2 import Task
from meshnet_control.etcd.fake import FakeEtcd
from meshnet_control.link.manager_link import OPTIONS
from meshnet_control.link.remote_store import RemoteStore
from meshnet_control.manager.store_service import StoreService
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.faulty import FaultyStore
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Change, Delete, Expect, Put, Store, Where


class Served:
    """A store of another process, as far as this one can tell; ``close`` closes it there."""

    def __init__(self, behind: Store, remote: RemoteStore) -> None:
        self._behind, self._remote = behind, remote

    @property
    def revision(self) -> int:
        return self._remote.revision

    @property
    def trouble(self) -> str:
        return self._remote.trouble

    async def get(self, kind: type[Any], id: str) -> Any:  # noqa: A002 - the protocol's
        return await self._remote.get(kind, id)

    async def list(self, kind: type[Any], where: Where | None = None) -> list[Any]:
        return await self._remote.list(kind, where)

    async def commit(self, writes: Sequence[Put | Delete], expect: Expect | None = None) -> int:
        return await self._remote.commit(writes, expect)

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        return self._remote.watch(from_revision)

    async def close(self) -> None:
        await self._behind.close()


async def serve(behind: Store, path: Path, stack: AsyncExitStack) -> Served:
    """Until ``stack`` ends."""
    server = grpc.aio.server(options=OPTIONS)
    manager_pb2_grpc.add_StoreServicer_to_server(StoreService(lambda: behind), server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    stack.push_async_callback(server.stop, None)
    channel = grpc.aio.insecure_channel(f"unix:{path}", options=OPTIONS)
    stack.push_async_callback(channel.close, None)
    remote = RemoteStore(channel)
    stack.push_async_callback(remote.close)
    following = asyncio.ensure_future(remote.follow())
    stack.callback(following.cancel)
    await remote.list(Task)
    return Served(behind, remote)


class TestStore(StoreContract):
    @pytest.fixture(params=["sqlite", "faulty", "etcd", "remote"])
    async def reopen(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
        """Name: reopen. Scope: function. Opens the same store of a backend, again and again."""
        clock, etcd, times = Clock(), FakeEtcd(), iter(range(9))

        async def opened() -> Store:
            if request.param == "etcd":
                return await EtcdStore.open(etcd.member(1), Sealer([bytes(32)]), clock)
            store = SqliteStore.open(tmp_path / "store.db", tmp_path / "key", clock)
            if request.param == "remote":
                return await serve(store, tmp_path / f"s{next(times)}", stack)
            return FaultyStore(store) if request.param == "faulty" else store

        async with AsyncExitStack() as stack:
            yield opened
