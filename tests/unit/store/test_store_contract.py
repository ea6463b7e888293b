"""The backends that need no other process keep the store's contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_contract import Clock, Opener, StoreContract

from meshnet_control.store.faulty import FaultyStore
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Store


class TestStore(StoreContract):
    @pytest.fixture(params=["sqlite", "faulty"])
    def reopen(self, request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
        """Name: reopen. Scope: function. Opens the same store of a backend, again and again."""
        clock = Clock()

        async def opened() -> Store:
            store = SqliteStore.open(tmp_path / "store.db", tmp_path / "key", clock)
            return FaultyStore(store) if request.param == "faulty" else store

        return opened
