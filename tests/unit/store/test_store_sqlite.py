"""The SQLite store's files: what they betray, and what is said when they cannot be used."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from meshnet_control.api.control_pb2 import Cluster, Secret, Task
from meshnet_control.store import sqlite
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put, StoreError, StoreFullError, StoreLockedError

BETRAYED = (b"the secret's data", b"the ca's key", b"the gossip key")


def opened(path: Path) -> SqliteStore:
    return SqliteStore.open(path / "store.db", path / "key")


async def filled(path: Path) -> None:
    store = opened(path)
    secret = Secret(id="s", spec={"name": "token", "data": BETRAYED[0]})
    cluster = Cluster(id="c", ca_key=BETRAYED[1], gossip_keys=[BETRAYED[2]])
    await store.commit([Put(secret), Put(cluster), Put(Task(id="t", name="in the clear"))])
    assert_sealed(path)  # in the write-ahead log
    await store.close()


def names(path: Path) -> set[str]:
    return {f.name for f in path.iterdir()}


def assert_sealed(path: Path) -> None:
    assert {stat.S_IMODE(f.stat().st_mode) for f in path.iterdir()} == {0o600}
    content = b"".join(f.read_bytes() for f in path.iterdir())
    assert b"in the clear" in content
    assert not [word for word in BETRAYED if word in content]


async def test_secrets_are_sealed_and_files_private(tmp_path: Path):
    await filled(tmp_path)
    assert_sealed(tmp_path)
    assert names(tmp_path) == {"store.db", "key"}


async def test_another_key_does_not_fit(tmp_path: Path):
    await filled(tmp_path)
    (tmp_path / "key").write_bytes(bytes(32))
    with pytest.raises(StoreError, match="key is not the key it was sealed with"):
        opened(tmp_path)


async def test_a_lost_key_is_not_replaced(tmp_path: Path):
    await filled(tmp_path)
    (tmp_path / "key").unlink()
    with pytest.raises(StoreError, match=r"cannot open the store .*key"):
        opened(tmp_path)
    assert not (tmp_path / "key").exists()


async def test_a_short_key(tmp_path: Path):
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(StoreError, match="is not a key: 5 bytes instead of 32"):
        opened(tmp_path)


async def test_a_sealed_row_cannot_be_moved(tmp_path: Path):
    await filled(tmp_path)
    with sqlite3.connect(tmp_path / "store.db") as database:
        database.execute("UPDATE object SET id = 'other' WHERE kind = 'Secret'")
    database.close()
    with pytest.raises(StoreError, match="not the key it was sealed with"):
        opened(tmp_path)


async def test_a_file_that_is_no_store(tmp_path: Path):
    (tmp_path / "key").write_bytes(bytes(32))
    (tmp_path / "store.db").write_text("not a database, and long enough to be told apart" * 20)
    with pytest.raises(StoreError, match="file is not a database"):
        opened(tmp_path)


async def test_a_newer_format(tmp_path: Path):
    await filled(tmp_path)
    with sqlite3.connect(tmp_path / "store.db") as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(StoreError, match="it has format 2, this version knows 1"):
        opened(tmp_path)


async def test_one_process_at_a_time(tmp_path: Path):
    store = opened(tmp_path)
    with pytest.raises(StoreError, match="database is locked"):
        opened(tmp_path)
    await store.close()


async def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(StoreError, match="No such file or directory"):
        opened(tmp_path / "nowhere")


async def test_a_failed_write_changes_nothing(tmp_path: Path):
    store = opened(tmp_path)
    await store.commit([Put(Task(id="a"))])
    store._database.execute("PRAGMA max_page_count = 1")  # a full disk, as SQLite sees it
    with pytest.raises(StoreError, match="database or disk is full"):
        await store.commit([Put(Task(id="b", name="x" * 100_000))])
    assert (store.revision, await store.get(Task, "b")) == (1, None)
    store._database.execute("PRAGMA max_page_count = 1000000")
    assert await store.commit([Put(Task(id="b"))]) == 2
    await store.close()


async def test_twenty_tasks_are_quick(tmp_path: Path):
    store = opened(tmp_path)
    took_s = []
    for _ in range(10):
        start = time.perf_counter()
        await store.commit([Put(Task(id=f"t{n}", name="x" * 500)) for n in range(20)])
        took_s.append(time.perf_counter() - start)
        await asyncio.sleep(0)
    assert min(took_s) < 0.005
    await store.close()


async def test_a_full_disk_is_said_and_forgotten_once_there_is_room(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sqlite, "TRY_S", 0.002)
    store = opened(tmp_path)
    await store.commit([Put(Task(id="small"))])
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    big = Put(Task(id="big", name="x" * 100_000))
    with pytest.raises(StoreFullError, match="database or disk is full"):
        await store.commit([big])
    assert store.trouble.startswith("store: database or disk is full (since 20")
    assert await store.get(Task, "big") is None
    store._database.execute("PRAGMA max_page_count = 1000000")
    assert store._healing is not None
    await asyncio.wait_for(store._healing, 5)  # nobody commits: the store finds out by itself
    assert store.trouble == ""
    assert await store.commit([big]) == 2
    await store.close()
    again = opened(tmp_path)
    assert {task.id for task in await again.list(Task)} == {"small", "big"}
    await again.close()


async def test_a_locked_store_is_told_apart(tmp_path) -> None:
    first = opened(tmp_path)
    await first.commit([Put(Task(id="t"))])
    with pytest.raises(StoreLockedError):
        opened(tmp_path)
    await first.close()


async def test_an_answered_commit_survives_a_power_cut(tmp_path) -> None:
    store = opened(tmp_path)
    assert store._database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    await store.close()
