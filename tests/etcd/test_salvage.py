"""What one member of an etcd holds, carried into a store of its own, or not."""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path

import pytest
from etcd_cluster import EtcdCluster, until

from meshnet_control.api import control_pb2 as pb
from meshnet_control.etcd.client import EtcdClient
from meshnet_control.etcd.errors import EtcdError
from meshnet_control.store import keyring
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.keyring import Keyring
from meshnet_control.store.salvage import salvage
from meshnet_control.store.sealer import KEY_BYTES, Sealer
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put, StoreError

pytestmark = [pytest.mark.etcd, pytest.mark.timeout(120)]


async def test_it_is_read_without_a_word_to_the_others_and_nothing_of_it_is_changed(
    three: EtcdCluster, tmp_path: Path
):
    ring = Keyring((secrets.token_bytes(KEY_BYTES),))
    store = await EtcdStore.open(three.clients[1], ring.sealer)
    for number in range(20):
        await store.commit([Put(pb.Config(id=f"c{number}"))])
    await store.close()
    lost = three.members[0]
    os.kill(lost.pid, signal.SIGSTOP)  # whoever keeps it does not start it again meanwhile
    state = tmp_path / "state"
    state.mkdir()
    with pytest.raises(StoreError, match="is sealed with another key"):
        await salvage(lost.member, Sealer((secrets.token_bytes(KEY_BYTES),)), state / "store.db")
    assert list(state.iterdir()) == []

    revision = await salvage(lost.member, ring.sealer, state / "store.db")
    keyring.save(state / "store.key", ring)
    own = SqliteStore.open(state / "store.db", state / "store.key")
    try:
        assert own.revision == revision
        held = {config.id: config.version.index for config in await own.list(pb.Config)}
    finally:
        await own.close()
    assert held == {f"c{number}": number + 1 for number in range(revision)}
    assert revision >= 19  # it may not have heard of the last one

    os.kill(lost.pid, signal.SIGCONT)
    await until(lambda: answers(three.clients[0]), 20)
    assert not lost.let_out
    assert lost.starts == 1
    assert len(await three.clients[1].members()) == 3


async def answers(client: EtcdClient) -> bool:
    try:
        return bool((await client.range(b"\x00", timeout_s=1.0)).header.revision)
    except EtcdError:
        return False
