"""A manager's store on this host: its files, its birth, its opening, its end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meshnet.process.durable import sync_directory
from meshnet_control.api import control_pb2 as pb
from meshnet_control.store.store import Object, Put, StoreError

if TYPE_CHECKING:
    from meshnet_control.store.sqlite import SqliteStore

STORE: Final = "store.db"
STORE_KEY: Final = "store.key"
KEY_DRAFTS: Final = f".{STORE_KEY}.*"
"""What a crash leaves of a key file that was being written; a pattern."""
STORE_FILES: Final = (STORE, f"{STORE}-wal", f"{STORE}-shm")
"""The last two are SQLite's own, there while it is open or after a crash."""
ASIDE: Final = ".orphan"
"""Ends the name of a file that was put aside: kept until the node leaves its cluster."""
ETCD: Final = "etcd"
"""etcd's data directory, where there are several managers."""
ETCD_TLS: Final = "etcd-tls"
MOVED: Final = f"{STORE}.moved"
"""What was copied into etcd; gone as soon as nobody has it open."""
SALVAGED: Final = "etcd-salvaged"
"""A copy of etcd's data, while what is in it is carried into a store of this manager's own."""
GENERATION: Final = "generation"
"""How often managers went on without others: a number, the higher one counts."""
SNAPSHOTS: Final = "snapshots"
"""The folder of automatic ones."""


async def begin(state_dir: Path, first: Sequence[Object]) -> None:
    """Write the store of a cluster that is born here; nobody may have it open.

    What is there has no identity: an init that a crash cut short. It is put aside.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        put_aside(state_dir)
    except OSError as error:
        raise StoreError(f"cannot put aside an old store: {error}") from error
    store = _open(state_dir)
    try:
        await store.commit([Put(each) for each in first])
    finally:
        await store.close()


async def opened(state_dir: Path, cluster_id: str, unlock_key: bytes = b"") -> SqliteStore:
    """The store of this cluster, and of no other one.

    Raises:
        StoreSealedError: its keys are locked, and not with ``unlock_key``.
        StoreError: it cannot be used, or holds another cluster than ``cluster_id``.
    """
    held: list[str] = []
    if (state_dir / STORE).exists():  # one that is not there would be made
        store = _open(state_dir, unlock_key)
        held = [cluster.id for cluster in await store.list(pb.Cluster)]
        if held == [cluster_id]:
            return store
        await store.close()
    raise StoreError(
        f"{state_dir / STORE} holds {_clusters(held)}, and this node is of cluster "
        f"{cluster_id}: bring back the store that belongs to it, or leave "
        "the cluster (docker swarm leave --force)"
    )


def erase(state_dir: Path) -> None:
    """Remove every file of it, the keys first; none is success. What was put aside stays."""
    for name in (STORE_KEY, *STORE_FILES, MOVED, GENERATION):
        (state_dir / name).unlink(missing_ok=True)
    for draft in list(state_dir.glob(KEY_DRAFTS)):
        draft.unlink(missing_ok=True)
    for name in (ETCD, ETCD_TLS, SALVAGED):
        shutil.rmtree(state_dir / name, ignore_errors=True)
    shutil.rmtree(state_dir / SNAPSHOTS, ignore_errors=True)  # without the keys they are nothing


def generation(state_dir: Path) -> int:
    """Of the managers this one belongs to; 0: they never went on without others."""
    try:
        return int((state_dir / GENERATION).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def set_generation(state_dir: Path, number: int) -> None:
    """Have it on the disk.

    Raises:
        OSError: the disk does not take it.
    """
    fresh = state_dir / f".{GENERATION}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{number}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(state_dir / GENERATION)
    sync_directory(state_dir)


def erase_aside(state_dir: Path) -> None:
    """Remove what was put aside, keys and store: its user is done with clusters here."""
    for left in list(state_dir.glob(f"*{ASIDE}")):
        left.unlink(missing_ok=True)


def put_aside(state_dir: Path) -> None:
    """Move a store that no identity owns out of the way; one is kept, the newest.

    Raises:
        OSError: the directory cannot be written.
    """
    for name in (STORE_KEY, *STORE_FILES):
        path = state_dir / name
        if path.exists():
            path.replace(path.with_name(f"{name}{ASIDE}"))


def _open(state_dir: Path, unlock_key: bytes = b"") -> SqliteStore:
    # meshnetd needs it for an init alone, and then for a moment
    from meshnet_control.store.sqlite import SqliteStore  # noqa: PLC0415

    return SqliteStore.open(state_dir / STORE, state_dir / STORE_KEY, unlock_key=unlock_key)


def _clusters(held: list[str]) -> str:
    return f"cluster {', '.join(held)}" if held else "no cluster"
