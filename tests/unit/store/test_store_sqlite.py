"""The SQLite store's files: what they betray, and what is said when they cannot be used."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from meshnet_control.api.control_pb2 import Cluster, Config, Node, Secret, Task
from meshnet_control.store import keyring, sqlite
from meshnet_control.store.keyring import StoreSealedError
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import (
    Delete,
    Object,
    Put,
    StoreError,
    StoreFullError,
    StoreLockedError,
)

BETRAYED = (
    b"the secret's data",
    b"the ca's key",
    b"the gossip key",
    b"the config's data",
    b"the task's name",
)


def opened(path: Path) -> SqliteStore:
    return SqliteStore.open(path / "store.db", path / "key")


async def filled(path: Path) -> None:
    store = opened(path)
    secret = Secret(id="s", spec={"name": "token", "data": BETRAYED[0]})
    cluster = Cluster(id="c", ca_key=BETRAYED[1], gossip_keys=[BETRAYED[2]])
    config = Config(id="f", spec={"name": "site", "data": BETRAYED[3]})
    task = Task(id="t", name=BETRAYED[4].decode())
    await store.commit([Put(secret), Put(cluster), Put(config), Put(task)])
    assert_sealed(path)  # in the write-ahead log
    await store.close()


def names(path: Path) -> set[str]:
    return {f.name for f in path.iterdir()}


def assert_sealed(path: Path) -> None:
    assert {stat.S_IMODE(f.stat().st_mode) for f in path.iterdir()} == {0o600}
    content = b"".join(f.read_bytes() for f in path.iterdir())
    assert b"Config" in content  # it is a copy of a store, kinds and ids are to be seen
    assert not [word for word in BETRAYED if word in content]


async def test_objects_are_sealed_and_files_private(tmp_path: Path):
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
    with pytest.raises(StoreError, match="is not a key file: 5 bytes that are none"):
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
        database.execute("PRAGMA user_version = 4")
    database.close()
    with pytest.raises(StoreError, match="it has format 4, this version knows 3"):
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


# ---- what a copy of the directory betrays, whenever it is made ----


def strings(path: Path, word: bytes) -> list[str]:
    """Files of a state directory, but the key's, in which a word can be read."""
    return [f.name for f in path.iterdir() if f.name != "key" and word in f.read_bytes()]


async def test_what_was_removed_is_not_to_be_read_before_nor_after(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for n in range(50):
        for kind in (Secret, Config):
            made = kind(id=f"x{n}", spec={"data": b"open sesame " * 500})
            await store.commit([Put(made)])
    assert strings(tmp_path, b"open sesame") == []  # all of it in the write-ahead log
    for n in range(50):
        await store.commit([Delete(Secret, f"x{n}"), Delete(Config, f"x{n}")])
    assert strings(tmp_path, b"open sesame") == []
    store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert store._database.execute("PRAGMA freelist_count").fetchone()[0] > 50  # pages they had
    assert strings(tmp_path, b"open sesame") == []
    store._database.execute("VACUUM")
    assert strings(tmp_path, b"open sesame") == []
    await store.close()


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from meshnet_control.api.control_pb2 import Config, Secret
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Delete, Put

async def main(path):
    store = SqliteStore.open(path / "store.db", path / "key")
    for kind in (Config, Secret):
        await store.commit([Put(kind(id=n, spec={"data": b"open sesame"})) for n in "ab"])
        await store.commit([Delete(kind, "a")])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_killed_store_betrays_nothing_and_goes_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert names(tmp_path) >= {"store.db", "store.db-wal", "key"}
    assert strings(tmp_path, b"open sesame") == []
    assert asyncio.run(configs(tmp_path)) == [b"open sesame"]
    assert strings(tmp_path, b"open sesame") == []


async def configs(path: Path) -> list[bytes]:
    store = opened(path)
    found = [each.spec.data for each in await store.list(Config)]
    await store.close()
    return found


def write_first_format(path: Path, objects: list[Object]) -> None:
    """A store as it was when only secrets and the cluster were sealed."""
    key = os.urandom(32)
    (path / "key").write_bytes(key)
    database = sqlite3.connect(path / "store.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(sqlite._SCHEMA)
    for each in objects:
        name, body = type(each).__name__, each.SerializeToString()
        if name in {"Secret", "Cluster"}:
            nonce = os.urandom(12)
            context = f"{name}/{each.id}/{each.version.index}".encode()
            body = nonce + AESGCM(key).encrypt(nonce, body, context)
        row = (name, each.id, each.version.index, body)
        database.execute("INSERT INTO object VALUES (?, ?, ?, ?)", row)
    database.execute("DELETE FROM object WHERE id = 'removed'")
    database.execute("UPDATE store SET revision = 7")
    database.execute("PRAGMA user_version = 1")
    database.close()


async def test_a_store_of_the_first_format_is_taken_over_and_swept(tmp_path: Path) -> None:
    data = {"data": b"open sesame " * 1000}
    held: list[Object] = [
        Config(id="f", version={"index": 3}, spec=data),
        Secret(id="s", version={"index": 7}, spec=data),
        Node(id="n", version={"index": 5}),
    ]
    removed = Config(id="removed", version={"index": 4}, spec=data)
    write_first_format(tmp_path, [*held, removed])
    assert strings(tmp_path, b"open sesame") == ["store.db"]
    store = opened(tmp_path)
    assert strings(tmp_path, b"open sesame") == []
    assert store.revision == 7
    assert [*await store.list(Config), *await store.list(Secret), *await store.list(Node)] == held
    await store.commit([Put(Task(id="t"))])
    await store.close()
    again = opened(tmp_path)
    assert (again.revision, await again.get(Config, "f")) == (8, held[0])
    await again.close()


async def test_a_sweep_that_a_crash_cut_short_is_done_by_the_next(tmp_path: Path) -> None:
    write_first_format(tmp_path, [Config(id="f", version={"index": 3}, spec={"data": b"x"})])
    database = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    sqlite._seal_all(database, keyring.load(tmp_path / "key"))
    database.execute("PRAGMA secure_delete = OFF")
    database.execute("CREATE TABLE lay (open BLOB)")
    database.execute("INSERT INTO lay VALUES (?)", (b"open sesame " * 1000,))
    database.execute("DROP TABLE lay")
    database.close()
    assert strings(tmp_path, b"open sesame") == ["store.db"]
    store = opened(tmp_path)
    assert [found.id for found in await store.list(Config)] == ["f"]
    assert strings(tmp_path, b"open sesame") == []
    await store.close()


# ---- the unlock key ----

LOCK, OTHER = b"L" * 32, b"O" * 32


def unlocked(path: Path, key: bytes) -> SqliteStore:
    return SqliteStore.open(path / "store.db", path / "key", unlock_key=key)


async def lock(store: SqliteStore, key: bytes) -> None:
    found = await store.get(Cluster, "c")
    assert found is not None
    found.unlock_key = key
    await store.commit([Put(found)])


async def test_a_locked_store_opens_with_the_newest_unlock_key_alone(tmp_path: Path) -> None:
    await filled(tmp_path)
    open_key = (tmp_path / "key").read_bytes()
    store = opened(tmp_path)
    for key in (LOCK, OTHER):
        await lock(store, key)
        assert_sealed(tmp_path)
    await store.close()
    locked_key = (tmp_path / "key").read_bytes()
    with pytest.raises(StoreSealedError, match="is locked: docker swarm unlock"):
        opened(tmp_path)
    with pytest.raises(StoreSealedError, match="not locked with this key"):
        unlocked(tmp_path, LOCK)
    (tmp_path / "key").write_bytes(open_key)  # of a day when it was not locked
    with pytest.raises(StoreError, match="key is not the key it was sealed with"):
        opened(tmp_path)
    (tmp_path / "key").write_bytes(locked_key)
    store = unlocked(tmp_path, OTHER)
    assert [found.spec.data for found in await store.list(Secret)] == [BETRAYED[0]]
    await lock(store, b"")
    await store.close()
    store = opened(tmp_path)
    assert [found.name for found in await store.list(Task)] == [BETRAYED[4].decode()]
    await store.close()


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize(("before", "after"), [(b"", LOCK), (LOCK, OTHER), (LOCK, b"")])
async def test_a_crash_while_the_lock_changes_leaves_a_store_that_opens(
    tmp_path: Path, before: bytes, after: bytes, *, committed: bool
) -> None:
    await filled(tmp_path)
    store = opened(tmp_path)
    if before:
        await lock(store, before)
    old_key = (tmp_path / "key").read_bytes()
    await store.close()
    old_store = (tmp_path / "store.db").read_bytes()
    store = unlocked(tmp_path, before)
    both: list[bytes] = []
    saved = store._save_ring

    def crash() -> None:
        both.append((tmp_path / "key").read_bytes())
        saved()

    store._save_ring = crash  # type: ignore[method-assign] # looks at what a crash would leave
    await lock(store, after)
    await store.close()
    assert both[0] == old_key
    (tmp_path / "key").write_bytes(both[1])
    if not committed:
        (tmp_path / "store.db").write_bytes(old_store)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy)
    for path, key in ((tmp_path, before), (copy, after)):
        store = unlocked(path, key)
        assert [found.spec.data for found in await store.list(Secret)] == [BETRAYED[0]]
        await store.close()
        settled = after if committed else before
        store = unlocked(path, settled)
        await store.close()
        if settled:
            with pytest.raises(StoreSealedError):
                opened(path)


async def test_a_key_file_that_cannot_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "TRY_S", 0.002)
    await filled(tmp_path)
    store = opened(tmp_path)
    real, calls = keyring.save, []

    def save(path: Path, ring: keyring.Keyring, *, first: bool = False) -> None:
        calls.append(ring)
        if len(calls) in {1, 3}:
            raise OSError(28, "No space left on device")
        real(path, ring, first=first)

    monkeypatch.setattr(keyring, "save", save)
    with pytest.raises(StoreFullError):
        await lock(store, LOCK)  # before the store: nothing is written
    found = await store.get(Cluster, "c")
    assert found is not None
    assert found.unlock_key == b""
    await lock(store, LOCK)  # after it: written, and the key file follows
    assert "No space left" in store.trouble
    assert store._healing is not None
    await asyncio.wait_for(store._healing, 5)
    assert store.trouble == ""
    await store.close()
    with pytest.raises(StoreSealedError):
        opened(tmp_path)
    await unlocked(tmp_path, LOCK).close()
