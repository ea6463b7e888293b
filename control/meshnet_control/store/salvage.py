"""From one member's copy of etcd to a store of its own: what is done when the others are lost.

Touches a copy of the data directory, etcd's process, and the new file.

    data directory ─copy─> etcd that forgets the others ─read─> SQLite file ─rename─> the store

The directory itself is not touched: until the file has its name, a crash leaves what was.

Be aware: etcd 3.4 that was killed and then forgets its members (``--force-new-cluster``) cuts its
log at the last commit that it wrote there, behind what it has applied already. It goes on well,
but a member that joins it replays the log and misses those entries, without a word. So nobody may
join what runs here: it is read, and thrown away.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from meshnet.process.durable import sync_directory
from meshnet_control.etcd.arguments import Member
from meshnet_control.etcd.client import EtcdClient
from meshnet_control.etcd.errors import EtcdError
from meshnet_control.etcd.process import EtcdProcess, EtcdProcessError
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.files import SALVAGED
from meshnet_control.store.migrate import everything
from meshnet_control.store.sealer import Sealer, SealError
from meshnet_control.store.sqlite import write_database
from meshnet_control.store.store import StoreError

STARTS_S: Final = 30.0
NOWHERE: Final = "127.0.0.1:0"
"""No peer is to meet the copy: it would be told that it is let out, whatever comes of this."""


async def salvage(member: Member, sealer: Sealer, file: Path) -> int:
    """Write what a member holds into a new SQLite file, under another name first.

    Args:
        member: must not run.
        sealer: of the store's keys.
        file: of the store; must not be there.

    Returns:
        The store's revision; no number goes back.

    Raises:
        StoreError: it cannot be read or written; nothing has changed.
    """
    folder = member.data_dir.with_name(SALVAGED)
    try:
        await asyncio.to_thread(_copy, member.data_dir, folder)
        alone = replace(
            member,
            data_dir=folder / "data",
            run_dir=member.run_dir.with_name(SALVAGED),
            listen=NOWHERE,
            advertise=NOWHERE,
            peers={member.name: NOWHERE},
            joins=True,
            tls=None,
            alone_from_now=True,
        )
        revision = await _read(alone, sealer, folder / file.name)
        await asyncio.to_thread(_name, folder / file.name, file)
    except (OSError, EtcdError, EtcdProcessError, SealError) as error:
        raise StoreError(f"cannot go on with what this manager holds: {error}") from None
    finally:
        for left in (folder, member.run_dir.with_name(SALVAGED)):
            await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
    return revision


async def _read(member: Member, sealer: Sealer, file: Path) -> int:
    process, client = EtcdProcess(member), EtcdClient(member.target)
    try:
        await process.start()
        await process.answers(STARTS_S)
        store = await EtcdStore.open(client, sealer)
        try:
            objects, revision = await everything(store), store.revision
        finally:
            await store.close()
    finally:
        await client.close()
        await process.stop()
    await asyncio.to_thread(write_database, file, objects, revision, sealer)
    return revision


def _copy(data_dir: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    shutil.copytree(data_dir, folder / "data")


def _name(fresh: Path, file: Path) -> None:
    """From here on it is the store: whole on the disk, then its name."""
    descriptor = os.open(fresh, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.rename(file)
    sync_directory(file.parent)
