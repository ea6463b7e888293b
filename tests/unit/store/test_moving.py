"""A store that moves while it is used."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from meshnet import measures
from meshnet_control.api.control_pb2 import Task
from meshnet_control.etcd.fake import FakeEtcd
from meshnet_control.store import keyring
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.etcd_layout import HEAD
from meshnet_control.store.migrate import ORIGIN, _carry, digest, everything, in_etcd
from meshnet_control.store.moving import MovingStore
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import OutOfSequenceError, Put, StoreError


class Bed:
    def __init__(self, path: Path) -> None:
        self.file, self.aside = path / "store.db", path / "store.db.before"
        self.source = SqliteStore.open(self.file, path / "key", lambda: 1_795_000_000.0)
        self.sealer = keyring.load(path / "key").sealer
        self.moving = MovingStore(self.source)
        self.etcd = FakeEtcd()

    async def migrate(self) -> EtcdStore:
        member = self.etcd.member(1)
        opened = partial(EtcdStore.open, member, self.sealer, lambda: 1_795_000_001.0)
        return await self.moving.move(
            lambda: _carry(self.source, member, self.sealer, self.aside, opened)
        )


@pytest.fixture
async def bed(tmp_path):
    made = Bed(tmp_path)
    yield made
    await made.moving.close()


async def test_nobody_notices(bed: Bed):
    watch = bed.moving.watch(0)
    for n in range(5):
        await bed.moving.commit([Put(Task(id=f"t{n}"))])
    before = await everything(bed.moving)
    moving = asyncio.ensure_future(bed.migrate())
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(
        bed.moving.commit([Put(Task(id="t0", slot=1))], {(Task, "t0"): 1})
    )
    store = await moving
    assert bed.moving.behind is store
    assert await waiting == 6
    with pytest.raises(OutOfSequenceError):
        await bed.moving.commit([Put(Task(id="t1"))], {(Task, "t1"): 1})
    seen = [(await anext(watch))[0] for _ in range(6)]
    assert [(c.id, c.revision) for c in seen][-2:] == [("t4", 5), ("t0", 6)]
    kept = {t.id: t for t in before} | {"t0": await store.get(Task, "t0")}
    assert {t.id: t for t in await everything(store)} == kept
    assert not bed.file.exists()
    aside = SqliteStore.open(bed.aside, bed.aside.with_name("key"))
    assert digest(await everything(aside)) == digest(before)
    await aside.close()


async def test_a_commit_that_runs_is_waited_for(bed: Bed):
    running = asyncio.ensure_future(bed.moving.commit([Put(Task(id="a"))]))
    await asyncio.sleep(0)
    running.cancel()  # who asked is gone, the commit is not
    store = await bed.migrate()
    assert [task.id for task in await store.list(Task)] == ["a"]


@pytest.mark.parametrize("fault", ["not empty", "damaged", "no rename"])
async def test_when_it_does_not_work_the_old_store_goes_on(bed: Bed, fault, monkeypatch):
    await bed.moving.commit([Put(Task(id="a"))])
    member = bed.etcd.member(1)
    if fault == "not empty":
        await (await EtcdStore.open(member, bed.sealer)).commit([Put(Task(id="b"))])
    elif fault == "damaged":
        real = bed.etcd._put

        def damaged(request, events):
            if request.key == HEAD:
                request.value = request.value.replace(b'"index": 1', b'"index": 2')
            real(request, events)

        monkeypatch.setattr(bed.etcd, "_put", damaged)
    else:
        bed.aside.mkdir()
        (bed.aside / "x").touch()
    with pytest.raises(StoreError):
        await bed.migrate()
    assert bed.moving.behind is bed.source
    assert await bed.moving.commit([Put(Task(id="c"))]) == 2
    assert bed.file.exists()


async def test_where_it_came_from_is_kept(bed: Bed):
    await bed.moving.commit([Put(Task(id="a"))])
    held = digest(await everything(bed.moving))
    await bed.migrate()
    (kv,) = (await bed.etcd.member(1).range(ORIGIN)).kvs
    assert kv.value.decode() == f'{{"index": 1, "digest": "{held}"}}'


async def test_a_key_that_has_changed_meanwhile_stops_it(bed: Bed):
    await bed.moving.commit([Put(Task(id="a"))])
    bed.sealer = Sealer([bytes(32)])  # of a file that was read before
    with pytest.raises(StoreError, match="the store's key has changed"):
        await bed.migrate()
    assert bed.moving.behind is bed.source
    assert [task.id for task in await bed.moving.list(Task)] == ["a"]


def test_the_files_say_where_the_store_is(tmp_path):
    file, data = tmp_path / "store.db", tmp_path / "etcd"
    assert not in_etcd(file, data)
    (data / "member").mkdir(parents=True)
    assert not in_etcd(file, data)  # a crash cut its first start short
    (data / "member" / "wal").mkdir()
    assert in_etcd(file, data)
    file.touch()
    assert not in_etcd(file, data)


def test_a_digest_tells_objects_apart():
    one, two = Task(id="a", slot=1), Task(id="a", slot=2)
    assert digest([one, two]) == digest([two, one])
    assert digest([one]) != digest([two])
    assert digest([one]) != digest([one, one])


async def test_commits_are_timed_by_what_came_of_them(bed: Bed):
    def counted(result: str) -> float:
        name = "meshnet_store_commit_seconds_count"
        return measures.MANAGER.get_sample_value(name, {"result": result}) or 0.0

    before = counted("written"), counted("refused")
    await bed.moving.commit([Put(Task(id="t1"))])
    with pytest.raises(OutOfSequenceError):
        await bed.moving.commit([Put(Task(id="t1"))], {(Task, "t1"): 7})
    assert (counted("written"), counted("refused")) == (before[0] + 1, before[1] + 1)
