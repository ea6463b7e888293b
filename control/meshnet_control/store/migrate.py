"""From SQLite to etcd while the manager works: nothing is lost, no number goes back.

Touches the store's file, etcd's process and its directory.

    start etcd ──> commits wait ──> copy ──> read back, compare ──> rename the file ──> they go on
                   └────────── what this takes is all that anybody notices ──────────┘

The file's name decides what is true: as long as ``store.db`` is there, it is the store, and what an
etcd directory beside it holds is thrown away. The rename is the moment at which etcd becomes it.
So a crash at any point leaves the one or the other, whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from meshnet_control.api import etcd_pb2 as pb
from meshnet_control.etcd import client as calls
from meshnet_control.etcd.api import Etcd
from meshnet_control.etcd.errors import EtcdError
from meshnet_control.etcd.process import EtcdProcess
from meshnet_control.store import etcd_layout as layout
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.etcd_layout import HEAD, Head
from meshnet_control.store.moving import MovingStore
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import KINDS, Change, Object, Store, StoreError

_log = logging.getLogger(__name__)

ORIGIN: Final = b"/meshnet/from_sqlite"
"""Which state etcd began with: {"index": 42, "digest": "<SHA-256>"}."""
COPY_S: Final = 10.0
"""For one part of the copy."""
_BY: Final = "migration"


def in_etcd(file: Path, data_dir: Path) -> bool:
    """Whether the store of this manager is in etcd, before either is opened.

    A member that a crash cut short before it wrote its log is none; it begins anew.

    Args:
        file: of the SQLite store, where it is while it is the store.
        data_dir: of etcd.
    """
    return not file.exists() and (data_dir / "member" / "wal").is_dir()


async def migrate(
    moving: MovingStore,
    source: SqliteStore,
    process: EtcdProcess,
    etcd: Etcd,
    sealer: Sealer,
    aside: Path,
    clock: Callable[[], float] = time.time,
) -> EtcdStore:
    """Move a store into an etcd of one member.

    Args:
        moving: what everybody uses; ``source`` is behind it.
        source: the store now.
        process: the member, not started; what its data directory holds is thrown away. Runs when
            this is done, and is the caller's to stop.
        etcd: a client of it.
        sealer: of the cluster's objects.
        aside: the name that the SQLite file gets.
        clock: seconds since 1970.

    Returns:
        The new store, which ``moving`` uses already.

    Raises:
        StoreError: it did not work, the reason; ``source`` goes on, etcd is stopped and removed.
        EtcdProcessError: etcd does not start; likewise.
    """
    shutil.rmtree(process.member.data_dir, ignore_errors=True)
    try:
        await process.start()
        await process.answers()
        opened = partial(
            EtcdStore.open,
            etcd,
            sealer,
            clock,
            quota_bytes=process.member.quota_bytes,
            ails=lambda: process.trouble,
        )
        return await moving.move(partial(_carry, source, etcd, sealer, aside, opened))
    except BaseException:
        await process.stop()
        shutil.rmtree(process.member.data_dir, ignore_errors=True)
        raise


async def _carry(
    source: SqliteStore,
    etcd: Etcd,
    sealer: Sealer,
    aside: Path,
    opened: Callable[[], Awaitable[EtcdStore]],
) -> EtcdStore:
    began = time.monotonic()
    if sealer.key_name != source.key_name:
        raise StoreError("the store's key has changed meanwhile")
    objects = await everything(source)
    try:
        await _copy(etcd, objects, source.revision, sealer)
    except EtcdError as error:
        raise StoreError(f"cannot copy the store into etcd: {error}") from None
    target = await opened()
    try:
        await _same(target, source.revision, objects)
        await source.put_aside(aside)
    except BaseException:
        await target.close()
        raise
    took_s = time.monotonic() - began
    _log.info("%d objects moved to etcd, commits waited for %.2f s", len(objects), took_s)
    return target


async def _same(target: Store, index: int, objects: list[Object]) -> None:
    if target.revision != index or digest(await everything(target)) != digest(objects):
        raise StoreError("what etcd holds is not what was copied into it")


async def _copy(etcd: Etcd, objects: list[Object], index: int, sealer: Sealer) -> None:
    """Everything into an empty etcd; the head comes last, so that a part is no store."""
    changes = (Change(type(each), each.id, each, each.version.index) for each in objects)
    empty = calls.is_at(HEAD, 0)
    for part in layout.parts_of(layout.operations(changes, sealer)):
        fresh = [calls.is_at(operation.request_put.key, 0) for operation in part]
        await _written(etcd, [empty, *fresh], part)
    origin = json.dumps({"index": index, "digest": digest(objects)}).encode()
    head = calls.put(HEAD, Head(index, _BY).value())
    await _written(etcd, [empty], [head, calls.put(ORIGIN, origin)])


async def _written(etcd: Etcd, compare: list[pb.Compare], part: list[pb.RequestOp]) -> None:
    if part and not (await etcd.txn(compare, part, timeout_s=COPY_S)).succeeded:
        raise StoreError("the etcd that the store is copied into is not empty")


async def everything(store: Store) -> list[Object]:
    """All objects of a store that nobody writes to."""
    objects: list[Object] = []
    for kind in KINDS:
        objects += await store.list(kind)
    return objects


def digest(objects: Iterable[Object]) -> str:
    """Two lists of objects have the same when they have the same objects, in any order."""
    each = sorted(
        f"{type(message).__name__}/{message.id}/".encode()
        + message.SerializeToString(deterministic=True)
        for message in objects
    )
    whole = hashlib.sha256()
    for text in each:
        whole.update(len(text).to_bytes(8, "big") + text)
    return whole.hexdigest()
