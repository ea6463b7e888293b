"""The backends that need no other process keep the store's contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_contract import Clock, Opener, StoreContract

from meshnet_control.etcd.fake import FakeEtcd
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.faulty import FaultyStore
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Store


class TestStore(StoreContract):
    @pytest.fixture(params=["sqlite", "faulty", "etcd"])
    def reopen(self, request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
        """Name: reopen. Scope: function. Opens the same store of a backend, again and again."""
        clock, etcd = Clock(), FakeEtcd()

        async def opened() -> Store:
            if request.param == "etcd":
                return await EtcdStore.open(etcd.member(1), Sealer([bytes(32)]), clock)
            store = SqliteStore.open(tmp_path / "store.db", tmp_path / "key", clock)
            return FaultyStore(store) if request.param == "faulty" else store

        return opened
