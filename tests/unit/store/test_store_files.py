"""One cluster in one store: that which the node's identity names."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from meshnet_control.api import control_pb2 as pb
from meshnet_control.store import files
from meshnet_control.store.store import StoreError


async def begin(path: Path, cluster: str) -> None:
    await files.begin(path, (pb.Cluster(id=cluster), pb.Node(id="m1")))


def names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def clusters(path: Path, cluster: str) -> list[str]:
    store = await files.opened(path, cluster)
    try:
        return [found.id for found in await store.list(pb.Cluster)]
    finally:
        await store.close()


async def test_a_store_without_an_identity_is_put_aside_by_the_next_init(tmp_path: Path) -> None:
    await begin(tmp_path, "c1")  # the process died here, before it kept its identity
    await begin(tmp_path, "c2")
    assert await clusters(tmp_path, "c2") == ["c2"]
    assert (tmp_path / f"{files.STORE}.orphan").exists()


async def test_a_node_goes_on_with_the_store_of_its_cluster_alone(tmp_path: Path) -> None:
    await begin(tmp_path, "c1")
    assert await clusters(tmp_path, "c1") == ["c1"]
    with pytest.raises(StoreError, match="holds cluster c1, and this node is of cluster c2"):
        await clusters(tmp_path, "c2")
    assert await clusters(tmp_path, "c1") == ["c1"], "it was let go of"


async def test_a_lost_store_is_said_and_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no cluster, and this node is of cluster c1"):
        await clusters(tmp_path, "c1")
    assert names(tmp_path) == []
    (tmp_path / files.STORE_KEY).touch()
    with pytest.raises(StoreError, match="holds no cluster"):
        await clusters(tmp_path, "c1")
    assert names(tmp_path) == [files.STORE_KEY]


async def test_a_lost_key_is_said_and_not_replaced_by_another_one(tmp_path: Path) -> None:
    await begin(tmp_path, "c1")
    key = (tmp_path / files.STORE_KEY).read_bytes()
    (tmp_path / files.STORE_KEY).unlink()
    with pytest.raises(StoreError, match=files.STORE_KEY):
        await clusters(tmp_path, "c1")
    assert not (tmp_path / files.STORE_KEY).exists()
    (tmp_path / files.STORE_KEY).write_bytes(key)
    assert await clusters(tmp_path, "c1") == ["c1"]


def test_nothing_is_left_of_a_store_that_is_erased(tmp_path: Path) -> None:
    asyncio.run(begin(tmp_path, "c1"))
    (tmp_path / f".{files.STORE_KEY}.ab").touch()  # of a crash
    files.put_aside(tmp_path)
    asyncio.run(begin(tmp_path, "c2"))
    files.erase(tmp_path)
    files.erase(tmp_path)
    aside = {f"{name}.orphan" for name in (files.STORE, files.STORE_KEY)}
    assert {path.name for path in tmp_path.iterdir()} >= aside
    files.erase_aside(tmp_path)
    assert list(tmp_path.iterdir()) == []
