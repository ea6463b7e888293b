"""The store in etcd keeps the contract that SQLite keeps."""

from __future__ import annotations

import pytest
from etcd_cluster import EtcdCluster
from store_contract import Clock, Opener, StoreContract

from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import Store

pytestmark = pytest.mark.etcd


class TestEtcdStore(StoreContract):
    @pytest.fixture
    def reopen(self, one: EtcdCluster) -> Opener:
        """Name: reopen. Scope: function. Depends: one. Opens the same store again and again."""
        clock, sealer = Clock(), Sealer([bytes(32)])

        async def opened() -> Store:
            return await EtcdStore.open(one.clients[0], sealer, clock)

        return opened
