"""``GET /events``: the engine's stream and the cluster's, in one."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from tests.unit.gateway.conftest import Host

from meshnet import drops
from meshnet_control.api import control_pb2 as pb
from meshnet_control.gateway import cluster_events
from meshnet_control.gateway.app import application
from meshnet_control.gateway.cluster_events import ClusterEvents
from meshnet_control.gateway.engine_http import EngineHttp
from meshnet_control.gateway.routes import events, swarm_events
from meshnet_control.gateway.routes.swarm_events import known
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Change, CompactedError, Delete, Put, Store

STARTED = {"Type": "container", "Action": "start"}


def service(replicas: int, at: int) -> pb.Service:
    made = pb.Service(id="s1")
    made.spec.name = "web"
    made.spec.mode.replicated.replicas = replicas
    made.updated_at.seconds = at
    return made


def test_what_changed_is_said_with_its_old_and_new_value():
    said = swarm_events.event(known(service(1, 4)), Change(pb.Service, "s1", service(3, 5), 9), 0)
    assert said == {
        "Type": "service",
        "Action": "update",
        "Actor": {
            "ID": "s1",
            "Attributes": {"name": "web", "replicas.old": "1", "replicas.new": "3"},
        },
        "scope": "swarm",
        "time": 5,
        "timeNano": 5_000_000_000,
    }
    assert json.loads(swarm_events.line(said)) == said


def test_create_remove_and_what_is_no_event():
    made = swarm_events.event(None, Change(pb.Service, "s1", service(1, 5), 9), 0)
    assert made is not None
    assert made["Action"] == "create"
    removed = Change(pb.Service, "s1", None, 9)
    gone = swarm_events.event(known(service(1, 5)), removed, 7_000_000_001)
    assert gone is not None
    assert (gone["Action"], gone["time"], gone["timeNano"]) == ("remove", 7, 7_000_000_001)
    assert swarm_events.event(None, Change(pb.Task, "t1", pb.Task(id="t1"), 9), 0) is None
    assert swarm_events.event(None, Change(pb.Service, "s1", None, 9), 0) is None


def test_filters():
    said = swarm_events.event(None, Change(pb.Service, "s1", service(1, 5), 9), 0)
    assert said is not None
    for passes in ({}, {"type": ["service"]}, {"scope": ["swarm"]}, {"service": ["web", "x"]}):
        wanted = {key: frozenset(values) for key, values in passes.items()}
        assert swarm_events.matches(said, wanted), passes
    for fails in ({"type": ["node"]}, {"scope": ["local"]}, {"node": ["web"]}, {"image": ["x"]}):
        wanted = {key: frozenset(values) for key, values in fails.items()}
        assert not swarm_events.matches(said, wanted), fails


async def test_both_streams_are_one(manager: TestClient):
    async with asyncio.timeout(10), manager.get("/events") as answer:
        assert json.loads(await answer.content.readline()) == STARTED
        spec = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "nginx"}}}
        made = await (await manager.post("/services/create", data=json.dumps(spec))).json()
        said = json.loads(await answer.content.readline())
        assert (said["Type"], said["Action"], said["scope"]) == ("service", "create", "swarm")
        assert said["Actor"] == {"ID": made["ID"], "Attributes": {"name": "web"}}
        await manager.delete("/services/web")
        assert json.loads(await answer.content.readline())["Action"] == "remove"


async def test_the_stream_ends_with_the_engines(manager: TestClient, outsider):
    for client in (manager, outsider[0]):
        async with asyncio.timeout(10), client.get("/events", params={"until": "1"}) as answer:
            assert json.loads(await answer.content.read()) == STARTED


async def test_nothing_piles_up_behind_a_client_that_does_not_read(outsider, engine_said):
    client, _ = outsider
    lines = 1000  # of 64 KiB
    async with (
        asyncio.timeout(30),
        client.get("/events", params={"since": str(lines), "until": "1"}) as answer,
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await engine_said.wait()
        got = await answer.content.read()
    assert got.count(b"\n") == lines + 1
    assert engine_said.is_set()


async def test_a_client_is_dropped_for_which_an_event_of_the_cluster_waits_too_long(monkeypatch):
    async def source():
        for line in (b"first", b"second", b"third"):
            yield line

    monkeypatch.setattr(events, "_UNREAD_S", 0.01)
    cuts: list[str] = []
    lines: asyncio.Queue[bytes | None] = asyncio.Queue(1)
    async with asyncio.timeout(10):
        await events._copy_or_drop(source(), lines, lambda: cuts.append("cut"))
    assert (cuts, lines.qsize(), lines.get_nowait()) == (["cut"], 1, b"first")


def test_a_client_that_is_cut_off_is_counted():
    aborted: list[bool] = []

    class Cut(asyncio.Transport):
        def abort(self) -> None:
            aborted.append(True)

        def get_extra_info(self, name: str, default: object = None) -> object:
            return default

    before = drops.snapshot().get("gateway: client of events does not read", 0)
    events._cut(make_mocked_request("GET", "/events", transport=Cut()))
    assert aborted == [True]
    assert drops.snapshot()["gateway: client of events does not read"] == before + 1


class Counting:
    """A store that counts who reads it whole, and who watches it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.lists: Counter[str] = Counter()
        self.watches = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def list(self, kind: type[pb.Service]) -> list[pb.Service]:
        self.lists[kind.__name__] += 1
        return await self._store.list(kind)

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        self.watches += 1
        return self._store.watch(from_revision)


async def test_any_number_of_clients_costs_one_reading_and_one_watch(
    host: Host, engine: EngineHttp, store: Store
):
    counting = Counting(store)
    host._store = cast("Store", counting)
    async with (
        asyncio.timeout(30),
        TestClient(TestServer(application(host, engine))) as client,
        AsyncExitStack() as stack,
    ):
        answers = [await stack.enter_async_context(client.get("/events")) for _ in range(20)]
        for answer in answers:
            assert json.loads(await answer.content.readline()) == STARTED
        assert (set(counting.lists.values()), counting.watches) == ({1}, 1)
        await store.commit([Put(service(1, 0))])
        for answer in answers:
            assert json.loads(await answer.content.readline())["Actor"]["ID"] == "s1"


async def test_a_client_hears_what_is_committed_while_it_listens_and_no_other(store: Store):
    cluster = ClusterEvents()
    await store.commit([Put(service(1, 0))])
    async with asyncio.timeout(10):
        async with cluster.listen(store, no_cut) as first:
            await store.commit([Put(service(2, 0))])
            async with cluster.listen(store, no_cut) as second:
                await store.commit([Put(service(3, 0))])
                heard = [await anext(aiter(first)) for _ in range(2)]
                assert [e.said["Actor"]["Attributes"]["replicas.new"] for e in heard] == ["2", "3"]
                *_, last = [second.queue.get_nowait() for _ in range(second.queue.qsize())]
                assert last is heard[-1], "one text for all"
        await store.commit([Put(service(4, 0))])
        async with cluster.listen(store, no_cut) as third:
            await store.commit([Put(service(5, 0))])
            said = (await anext(aiter(third))).said["Actor"]["Attributes"]
            assert (said["replicas.old"], said["replicas.new"]) == ("4", "5")


async def test_a_client_that_falls_behind_is_cut_off_and_the_others_are_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cluster_events, "_MOST_EVENTS", 2)
    cluster, cuts = ClusterEvents(), list[str]()
    async with (
        asyncio.timeout(10),
        cluster.listen(store, lambda: cuts.append("slow")) as slow,
        cluster.listen(store, lambda: cuts.append("fast")) as fast,
    ):
        reading = aiter(fast)
        for replicas in range(1, 5):
            await store.commit([Put(service(replicas, 0))])
            await anext(reading)
        assert cuts == ["slow"]
        assert slow.queue.qsize() == 2


async def test_one_who_reads_at_once_hears_all_of_a_commit_however_much_it_holds(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cluster_events, "_MOST_EVENTS", 2)
    names = [f"s{number}" for number in range(20)]
    async with asyncio.timeout(10), ClusterEvents().listen(store, no_cut) as heard:
        reading = aiter(heard)
        first = asyncio.ensure_future(anext(reading))
        await asyncio.sleep(0)
        await store.commit([Put(pb.Service(id=name)) for name in names])
        said = [(await first).said["Actor"]["ID"]]
        while len(said) < len(names):
            said.append((await anext(reading)).said["Actor"]["ID"])
    assert said == names


class Forgetful(Counting):
    """A store whose first watch misses all that happens."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.forgot = asyncio.Event()

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        after = super().watch(from_revision)
        return self._forget() if self.watches == 1 else after

    async def _forget(self) -> AsyncIterator[Sequence[Change]]:
        await self.forgot.wait()
        raise CompactedError(1)
        yield


async def test_what_the_store_does_not_remember_is_told_when_it_answers_again(store: Store):
    forgetful = Forgetful(store)
    names = ("gone", "kept", "changed")
    await store.commit([Put(pb.Service(id=name)) for name in names])
    async with (
        asyncio.timeout(10),
        ClusterEvents().listen(cast("Store", forgetful), no_cut) as heard,
    ):
        await store.commit([Delete(pb.Service, "gone"), Put(pb.Service(id="changed"))])
        await store.commit([Put(pb.Service(id="new"))])
        forgetful.forgot.set()
        reading = aiter(heard)
        said = [(await anext(reading)).said for _ in range(3)]
        assert {(each["Action"], each["Actor"]["ID"]) for each in said} == {
            ("remove", "gone"),
            ("update", "changed"),
            ("create", "new"),
        }
        await store.commit([Put(pb.Service(id="later"))])
        assert (await anext(reading)).said["Actor"]["ID"] == "later"


async def test_clients_are_told_that_the_store_closed(tmp_path):
    store = SqliteStore.open(tmp_path / "other.db", tmp_path / "other.key")
    async with asyncio.timeout(10), ClusterEvents().listen(store, no_cut) as heard:
        await store.close()
        assert [event async for event in heard] == []


async def test_nothing_is_kept_of_the_cluster_when_the_last_client_has_gone(store: Store):
    cluster = ClusterEvents()
    async with cluster.listen(store, no_cut):
        feed = weakref.ref(cluster._feed)
        assert feed() is not None
    await asyncio.sleep(0)  # its task is told to end
    await asyncio.sleep(0)
    gc.collect()
    assert feed() is None


def no_cut() -> None:
    raise AssertionError("nobody falls behind")
