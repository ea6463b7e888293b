"""What a store in etcd promises beyond the contract: several managers, large commits, no quorum."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from etcd_cluster import EtcdCluster, until

from meshnet_control.api.control_pb2 import Config, Secret, Task
from meshnet_control.etcd import client as calls
from meshnet_control.etcd.client import EtcdClient
from meshnet_control.store import etcd_layout as layout
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.fenced import Fence
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import (
    NO_LEADER,
    Delete,
    NotLeadingError,
    OutOfSequenceError,
    Put,
    StoreError,
    StoreNoLeaderError,
    StoreTooLargeError,
)

pytestmark = pytest.mark.etcd

KEY = b"k" * 32
LARGE = [Put(Task(id=f"t{n:05}", name="x" * 400)) for n in range(9_000)]
"""4 MB, more operations than a transaction takes."""


async def opened(client: EtcdClient, key: bytes = KEY) -> EtcdStore:
    return await EtcdStore.open(client, Sealer([key]))


async def test_what_one_manager_wrote_every_other_reads_at_once(three: EtcdCluster):
    first, second = await opened(three.clients[0]), await opened(three.clients[1])
    for n in range(30):
        writer, reader = (first, second) if n % 2 else (second, first)
        await writer.commit([Put(Task(id="a", slot=n))])
        found = await reader.get(Task, "a")
        assert found is not None
        assert (found.slot, reader.revision) == (n, n + 1)
    await first.close()
    await second.close()


async def test_managers_that_write_at_once_all_write_once(three: EtcdCluster):
    stores = [await opened(client) for client in three.clients]
    watch = stores[0].watch(0)

    async def write(store: EtcdStore, name: str) -> None:
        for n in range(20):
            await store.commit([Put(Task(id=f"{name}{n}"))], expect={(Task, f"{name}{n}"): 0})

    await asyncio.gather(*(write(store, name) for store, name in zip(stores, "abc", strict=True)))
    assert [await anext(watch) for _ in range(60)][-1][0].revision == 60
    for store in stores:
        assert (len(await store.list(Task)), store.revision) == (60, 60)
        await store.close()


async def test_an_old_expectation_is_refused_whoever_wrote_since(three: EtcdCluster):
    first, second = await opened(three.clients[0]), await opened(three.clients[1])
    await first.commit([Put(Task(id="a"))])
    await second.commit([Put(Task(id="a", slot=2))], expect={(Task, "a"): 1})
    with pytest.raises(OutOfSequenceError):
        await first.commit([Put(Task(id="a", slot=3))], expect={(Task, "a"): 1})
    await first.close()
    await second.close()


async def test_a_large_commit_is_seen_whole(one: EtcdCluster):
    client = one.clients[0]
    store, other = await opened(client), await opened(client)
    watch = other.watch(0)
    await store.commit(LARGE)
    assert len(await anext(watch)) == len(LARGE)
    assert len(await other.list(Task)) == len(LARGE)
    fresh = await opened(client)  # the parts are still beside the store
    assert (fresh.revision, len(await fresh.list(Task))) == (1, len(LARGE))
    assert await other.commit([Delete(Task, "t00000")]) == 2  # another puts them in place
    for each in (store, other, fresh):
        assert (len(await each.list(Task)), each.revision) == (len(LARGE) - 1, 2)
        await each.close()
    again = await opened(client)
    assert len(await again.list(Task)) == len(LARGE) - 1
    assert not (await client.range(layout.STAGED, calls.prefix_end(layout.STAGED))).kvs
    await again.close()


async def test_a_writer_that_dies_while_it_stages_leaves_nothing(one: EtcdCluster, monkeypatch):
    client = one.clients[0]
    store = await opened(client)

    async def dies(*_args: object) -> bool:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(store._committer, "_write", dies)
        with pytest.raises(RuntimeError):
            await store.commit(LARGE)
    other = await opened(client)
    assert (other.revision, await other.list(Task)) == (0, [])
    staged = await client.range(layout.STAGED, calls.prefix_end(layout.STAGED))
    assert staged.kvs
    await client.lease_revoke(staged.kvs[0].lease)  # what etcd does a minute later
    assert not (await client.range(layout.STAGED, calls.prefix_end(layout.STAGED))).kvs
    await store.close()
    await other.close()


async def test_a_writer_that_dies_while_it_puts_a_large_commit_in_place(one: EtcdCluster):
    client = one.clients[0]
    store = await opened(client)
    await store.commit(LARGE)
    head = layout.head_of((await client.range(layout.HEAD)).kvs[0])
    assert head.parts > 1
    part = (await client.range(head.part_keys()[0])).kvs[0].value
    await client.txn([calls.is_at(layout.HEAD, head.mod_revision)], layout.unpacked(part))
    fresh = await opened(client)
    assert (fresh.revision, len(await fresh.list(Task))) == (1, len(LARGE))
    assert await fresh.commit([Delete(Task, "t00001")]) == 2
    assert len(await store.list(Task)) == len(LARGE) - 1
    await store.close()
    await fresh.close()


async def test_one_object_that_is_too_large_is_refused(one: EtcdCluster):
    store = await opened(one.clients[0])
    with pytest.raises(StoreTooLargeError, match="request is too large"):
        await store.commit([Put(Config(id="c", spec={"data": bytes(2_200_000)}))])
    assert await store.commit([Put(Config(id="c", spec={"data": bytes(1_000_000)}))]) == 1
    await store.close()


async def test_who_does_not_lead_any_more_writes_nothing(one: EtcdCluster):
    client = one.clients[0]
    store = await opened(client)
    term = await client.txn((), [calls.put(b"/leader", b"one")])
    leading = store.fenced(Fence(b"/leader", term.header.revision))
    assert await leading.commit([Put(Task(id="a"))]) == 1
    await client.txn((), [calls.put(b"/leader", b"two")])
    with pytest.raises(NotLeadingError):
        await leading.commit([Put(Task(id="b"))])
    assert await store.commit([Put(Task(id="c"))]) == 2
    assert sorted(t.id for t in await leading.list(Task)) == ["a", "c"]
    await store.close()


async def test_without_a_quorum_reads_are_answered_and_writes_fail_at_once(three: EtcdCluster):
    leader = await three.leader()
    store = await opened(three.clients[leader])
    await store.commit([Put(Task(id="a"))])
    others = [each for n, each in enumerate(three.members) if n != leader]
    for each in others:
        three.signal(each, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(StoreNoLeaderError, match=NO_LEADER):
        await store.commit([Put(Task(id="b"))])
    assert time.monotonic() - began < 8
    assert store.trouble.startswith(f"store: {NO_LEADER} (since 20")
    began = time.monotonic()
    for _ in range(20):
        assert [t.id for t in await store.list(Task)] == ["a"]
        with pytest.raises(StoreNoLeaderError) as refused:
            await store.commit([Put(Task(id="c"))])
        assert not refused.value.uncertain
    assert time.monotonic() - began < 0.5
    for each in others:
        three.signal(each, signal.SIGCONT)
    await until(lambda: not store.trouble)
    await store.commit([Put(Task(id="d"))])
    assert {"a", "d"} <= {t.id for t in await store.list(Task)} <= {"a", "b", "d"}
    await store.close()


async def test_a_lost_leader_is_told_though_nobody_asks(three: EtcdCluster):
    leader = await three.leader()
    store = await opened(three.clients[leader])
    for n, each in enumerate(three.members):
        if n != leader:
            three.signal(each, signal.SIGSTOP)
    await until(lambda: store.trouble)
    await store.close()


async def test_writes_go_on_when_etcds_leader_is_killed(three: EtcdCluster):
    leader = await three.leader()
    store = await opened(three.clients[(leader + 1) % 3])
    await store.commit([Put(Task(id="a"))])
    three.signal(three.members[leader], signal.SIGKILL)
    began = time.monotonic()
    assert await store.commit([Put(Task(id="b"))], expect={(Task, "b"): 0}) == 2
    assert time.monotonic() - began < 5
    assert await store.commit([Put(Task(id="c"))]) == 3
    await store.close()


async def test_who_missed_what_was_compacted_catches_up(one: EtcdCluster):
    client = one.clients[0]
    slow, store = await opened(client), await opened(client)
    await store.commit([Put(Task(id="gone")), Put(Task(id="kept"))])
    await until(lambda: slow.revision == 1)
    seen = slow.watch(1)
    one.signal(one.members[0], signal.SIGSTOP)
    slow._tasks[0].cancel()  # the follower is away for a while
    one.signal(one.members[0], signal.SIGCONT)
    await store.commit([Delete(Task, "gone")])
    await store.commit([Put(Task(id="new"))])
    await client.compact((await client.range(layout.HEAD)).kvs[0].mod_revision)
    following = asyncio.create_task(slow._follower.follow())
    batch = await asyncio.wait_for(anext(seen), 10)
    assert {(c.id, c.message is None) for c in batch} == {("gone", True), ("new", False)}
    assert slow.revision == 3
    assert await slow.commit([Put(Task(id="kept", slot=1))], expect={(Task, "kept"): 1}) == 4
    following.cancel()
    await slow.close()
    await store.close()


async def test_what_etcd_holds_tells_nothing(one: EtcdCluster, tmp_path):
    store = await opened(one.clients[0])
    await store.commit([Put(Secret(id="s", spec={"name": "n", "data": b"the secret's data"}))])
    await store.close()
    await one.clients[0].snapshot(tmp_path / "snap")
    data = one.members[0].member.data_dir
    content = b"".join(f.read_bytes() for f in (tmp_path / "snap", *data.rglob("*")) if f.is_file())
    assert b"Secret/s" in content
    assert b"the secret" not in content


async def test_another_key_does_not_fit(one: EtcdCluster):
    store = await opened(one.clients[0])
    await store.commit([Put(Task(id="a"))])
    with pytest.raises(StoreError, match="sealed with another key"):
        await opened(one.clients[0], b"x" * 32)
    await store.close()


async def test_a_large_commit_comes_through_beside_busy_writers(three: EtcdCluster):
    stores = [await opened(client) for client in three.clients]
    over = asyncio.Event()

    async def busy(store: EtcdStore, name: str) -> int:
        done = 0
        while not over.is_set():
            await store.commit([Put(Task(id=name, slot=done))])
            done += 1
            await asyncio.sleep(0.005)
        return done

    writing = [asyncio.create_task(busy(store, f"b{n}")) for n, store in enumerate(stores[1:])]
    began = time.monotonic()
    try:
        await stores[0].commit(LARGE)
    finally:
        over.set()
        done = await asyncio.gather(*writing)
    print(f"{time.monotonic() - began:.2f} s, beside {done}")  # noqa: T201
    assert min(done) > 0
    for store in stores:
        assert len(await store.list(Task)) == len(LARGE) + 2
        await store.close()
