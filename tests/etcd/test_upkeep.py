"""A store whose etcd has little room: it does not run full, and gets well again when it does."""

from __future__ import annotations

import asyncio

import pytest
from etcd_cluster import EtcdCluster, until

from meshnet import ends
from meshnet_control.api.control_pb2 import Config
from meshnet_control.etcd.upkeep import Upkeep
from meshnet_control.store import etcd_asking
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import Delete, Put, StoreFullError

pytestmark = pytest.mark.etcd

MIB = 1024**2
QUOTA = 24 * MIB
SMALL = MIB // 16


def config(name: str, size: int = MIB // 2) -> Put:
    return Put(Config(id=name, spec={"data": bytes(size)}))


async def filled(store: EtcdStore, objects: int, size: int, commits: int = 1000) -> None:
    for n in range(commits):
        await store.commit([config(f"{size}-{n % objects}", size)])


async def insisted(store: EtcdStore, *ops: Put | Delete) -> None:
    """Write one after the other, each as soon as there is room for it."""
    left = list(reversed(ops))
    while left:
        try:
            await store.commit([left[-1]])
        except StoreFullError as error:
            if "try again" not in str(error):
                raise
            # Room for what is there may be none for anything new: that is said by the next commit.
            await until(lambda: "try again" not in store.trouble, 60)
        else:
            left.pop()


async def opened(cluster: EtcdCluster, n: int = 0) -> EtcdStore:
    quota = cluster.members[n].member.quota_bytes
    return await EtcdStore.open(cluster.clients[n], Sealer([bytes(32)]), quota_bytes=quota)


@pytest.fixture
async def small(tmp_path):
    """Name: small. Scope: function. One member with room for 24 MiB."""
    async with EtcdCluster(tmp_path, 1, QUOTA) as made:
        yield made


@pytest.fixture
async def three_small(tmp_path):
    """Name: three_small. Scope: function. Three members with room for 24 MiB each."""
    async with EtcdCluster(tmp_path, 3, QUOTA) as made:
        yield made


async def test_many_times_the_quota_is_written_over_time(small: EtcdCluster):
    store = await opened(small)
    keeping = asyncio.create_task(Upkeep(small.clients[0], QUOTA, look_s=0.05).run())
    for n in range(1200):  # 75 MiB, in bites that upkeep can keep up with
        await store.commit([config(f"c{n % 4}", SMALL)])
        assert await small.clients[0].alarms() == []
    assert (await small.clients[0].status()).dbSize < QUOTA
    assert len(await store.list(Config)) == 4
    await ends.ended(keeping)
    await store.close()


async def test_a_full_one_says_so_is_read_and_gets_well(three_small: EtcdCluster):
    stores = [await opened(three_small, n) for n in range(3)]
    store = stores[0]
    said = rf"^cannot write to the store: etcd's database has reached its {QUOTA // MIB} MiB"
    with pytest.raises(StoreFullError, match=said):  # nobody looks after it
        await filled(store, 4, MIB // 2)
    assert len(await store.list(Config)) == 4
    await until(lambda: all("etcd's database has reached" in each.trouble for each in stores))
    for each in stores:
        with pytest.raises(StoreFullError, match="MESHNET_ETCD_QUOTA_MIB"):
            await each.commit([config(f"{MIB // 2}-0", 10)])
        assert len(await each.list(Config)) == 4
    keeping = [
        asyncio.create_task(Upkeep(each, QUOTA, look_s=0.1).run()) for each in three_small.clients
    ]
    await until(lambda: not any(each.trouble for each in stores), 60)
    for each in stores:
        await each.commit([config(f"{MIB // 2}-0", 10)])
    assert [each.starts for each in three_small.members] == [1, 1, 1]
    assert await three_small.clients[0].alarms() == []
    await ends.ended(*keeping)
    for each in stores:
        await each.close()


async def test_what_is_there_can_be_removed_when_nothing_new_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(etcd_asking, "LOOK_S", 0.05)
    async with EtcdCluster(tmp_path, 1, 32 * MIB) as one:
        store, client = await opened(one), one.clients[0]
        keeping = asyncio.create_task(Upkeep(client, 32 * MIB, look_s=0.2).run())
        said = "of the 32 MiB of etcd's database are taken: remove"
        with pytest.raises(StoreFullError, match=said):
            await insisted(store, *(config(f"c{n}", SMALL) for n in range(1000)))
        assert said in store.trouble
        await insisted(store, config("c0", 10))
        await insisted(store, *(Delete(Config, each.id) for each in await store.list(Config)))
        await until(lambda: not store.trouble, 20)
        await insisted(store, config("new"))
        assert await client.alarms() == []
        await ends.ended(keeping)
        await store.close()
