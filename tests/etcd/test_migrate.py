"""From SQLite to a real etcd: how long writes wait, and a crash at every point."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from etcd_cluster import free_ports, member_of

from meshnet_control.api.control_pb2 import Service, Task
from meshnet_control.etcd.client import EtcdClient
from meshnet_control.etcd.process import EtcdProcess
from meshnet_control.store import keyring
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.migrate import everything, in_etcd, migrate
from meshnet_control.store.moving import MovingStore
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put, Store

pytestmark = [pytest.mark.etcd, pytest.mark.timeout(180)]

SERVICES, TASKS = 1_000, 5_000


class Manager:
    """The files of a manager, and how it starts from them."""

    def __init__(self, path: Path, port: int) -> None:
        self.file, self.key, self.aside = path / "store.db", path / "key", path / "store.db.before"
        self.process = EtcdProcess(member_of(path, "m", {"m": f"127.0.0.1:{port}"}))
        self.client = EtcdClient(self.process.member.target)
        self.store: Store

    async def start(self) -> Store:
        """As a manager does after a crash."""
        if in_etcd(self.file, self.process.member.data_dir):
            await self.process.start()
            await self.process.answers()
            sealer = keyring.load(self.key).sealer
            self.store = await EtcdStore.open(self.client, sealer)
        else:
            self.store = SqliteStore.open(self.file, self.key)
        return self.store

    async def migrate(self) -> MovingStore:
        store = await self.start()
        assert isinstance(store, SqliteStore)
        self.store = moving = MovingStore(store)
        sealer = keyring.load(self.key).sealer
        await migrate(moving, store, self.process, self.client, sealer, self.aside)
        return moving

    async def stop(self) -> None:
        await self.store.close()
        await self.client.close()
        await self.process.stop()


def service(n: int) -> Put:
    env = [f"KEY{m}=value {m}" for m in range(8)]
    container = {"image": f"registry.example/team/app:{n}", "env": env}
    spec = {"name": f"service{n}", "task_template": {"container_spec": container}}
    return Put(Service(id=f"s{n:05}", spec=spec))


def task(n: int) -> Put:
    env = [f"KEY{m}=value {m}" for m in range(8)]
    container = {"image": f"registry.example/team/app:{n}", "env": env}
    return Put(
        Task(
            id=f"t{n:05}",
            service_id=f"s{n % SERVICES:05}",
            slot=n,
            node_id="n" * 25,
            spec={"container_spec": container},
            status={"message": "started", "state": "TASK_STATE_RUNNING"},
        )
    )


async def test_a_large_cluster_moves_in_three_seconds(tmp_path, record_property):
    manager = Manager(tmp_path, free_ports(1)[0])
    store = await manager.start()
    await store.commit([service(n) for n in range(SERVICES)])
    for first in range(0, TASKS, 500):
        await store.commit([task(n) for n in range(first, first + 500)])
    before = {each.id: each for each in await everything(store)}
    assert isinstance(store, SqliteStore)
    moving = MovingStore(store)
    manager.store = moving
    through = asyncio.Event()
    longest = 0.0
    written = 0

    async def write() -> None:
        nonlocal longest, written
        while not through.is_set():
            began = time.monotonic()
            await moving.commit([Put(Task(id="written", slot=written))])
            longest = max(longest, time.monotonic() - began)
            written += 1
            await asyncio.sleep(0.001)

    writing = asyncio.create_task(write())
    sealer = keyring.load(manager.key).sealer
    revision = store.revision
    try:
        await migrate(moving, store, manager.process, manager.client, sealer, manager.aside)
    finally:
        through.set()
        await writing
    record_property("writes_waited_s", round(longest, 3))
    print(f"writes waited for {longest:.2f} s, {written} of them")  # noqa: T201
    assert longest < 3.0
    after = {each.id: each for each in await everything(moving)}
    assert after.pop("written").version.index == moving.revision
    assert after == before
    assert moving.revision == revision + written
    await manager.stop()


_CHILD = """
import asyncio, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from test_migrate import Manager
from meshnet_control.etcd import client
from meshnet_control.store.sqlite import SqliteStore

left = int(sys.argv[3])

def point(before, after):
    def counted(function):
        async def called(*args, **kwargs):
            step(before)
            try:
                return await function(*args, **kwargs)
            finally:
                step(after)
        return called
    return counted

def step(what):
    global left
    left -= 1
    if not left:
        print(what, flush=True)
        os._exit(9)

client.EtcdClient.txn = point("before txn", "after txn")(client.EtcdClient.txn)
SqliteStore.put_aside = point("before rename", "after rename")(SqliteStore.put_aside)
SqliteStore.close = point("before close", "after close")(SqliteStore.close)

async def main():
    manager = Manager(Path(sys.argv[1]), int(sys.argv[2]))
    await manager.migrate()
    print("through", flush=True)
    os._exit(0)

asyncio.run(main())
"""


async def crashes(path: Path, port: int, point: int) -> str:
    """Migrate in a process that dies at that point; which it was."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CHILD, str(path), str(port), str(point)),
        str(Path(__file__).parent),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    said, _ = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode in {0, 9}, said
    return said.decode().strip()


async def test_a_crash_at_every_point_leaves_a_manager_that_works(tmp_path):
    seen = []
    for point in range(1, 100):
        path = tmp_path / str(point)
        path.mkdir()
        (port,) = free_ports(1)
        first = SqliteStore.open(path / "store.db", path / "key")
        await first.commit([service(n) for n in range(20)])
        await first.commit([task(n) for n in range(20)])
        before = {each.id: each for each in await everything(first)}
        await first.close()
        seen.append(await crashes(path, port, point))
        manager = Manager(path, port)
        store = await manager.start()
        assert isinstance(store, EtcdStore) == (seen[-1] in {*LATE, "through"}), seen[-1]
        assert {each.id: each for each in await everything(store)} == before, seen[-1]
        assert store.revision == 2
        assert await store.commit([Put(Task(id="new"))]) == 3
        await manager.stop()
        if seen[-1] == "through":
            break
    assert seen[-1] == "through"
    assert {"before txn", "after txn", "before rename", *LATE} <= set(seen)


LATE = ("after rename", "before close", "after close")
"""From there on the store is in etcd."""


async def test_a_migration_that_crashed_is_done_again(tmp_path):
    (port,) = free_ports(1)
    first = SqliteStore.open(tmp_path / "store.db", tmp_path / "key")
    await first.commit([service(1)])
    await first.close()
    assert await crashes(tmp_path, port, 2) == "after txn"
    manager = Manager(tmp_path, port)
    moving = await manager.migrate()
    assert isinstance(moving.behind, EtcdStore)
    assert [s.id for s in await moving.list(Service)] == ["s00001"]
    assert await moving.commit([service(2)]) == 2
    os.kill(manager.process.pid, signal.SIGKILL)
    assert await moving.commit([service(3)]) == 3
    await manager.stop()
