"""``GET /events``: the engine's stream and the cluster's, in one."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, cast

import pytest
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from known_overlays import known as overlays_known
from tests.unit.gateway.conftest import Host

from meshnet import drops
from meshnet_control.api import control_pb2 as pb
from meshnet_control.gateway import cluster_events, node_events
from meshnet_control.gateway.app import application
from meshnet_control.gateway.cluster_events import ClusterEvents
from meshnet_control.gateway.engine_http import EngineHttp
from meshnet_control.gateway.routes import events, swarm_events
from meshnet_control.gateway.routes.swarm_events import known
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Change, CompactedError, Delete, Put, Store, Where

STARTED = {"Type": "container", "Action": "start"}
IMAGE = {"ContainerSpec": {"Image": "web:1"}}


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
    assert swarm_events.event(None, Change(pb.Cluster, "c1", pb.Cluster(id="c1"), 9), 0) is None
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


def task(state: pb.TaskState, **more: Any) -> pb.Task:
    made = pb.Task(id="t1", service_id="s1", service_name="web", slot=2, node_id="n1")
    made.MergeFrom(pb.Task(desired_state=pb.TASK_STATE_RUNNING, **more))
    made.status.state = state
    return made


def test_a_tasks_event_says_where_it_belongs_and_what_changed():
    before, after = task(pb.TASK_STATE_RUNNING), task(pb.TASK_STATE_FAILED)
    after.status.err = "task: non-zero exit (1)"
    said = swarm_events.event(known(before), Change(pb.Task, "t1", after, 9), 0)
    assert said is not None
    assert (said["Type"], said["Action"], said["Actor"]["ID"]) == ("task", "update", "t1")
    assert said["Actor"]["Attributes"] == {
        "name": "web.2.t1",
        "service": "web",
        "serviceid": "s1",
        "slot": "2",
        "node": "n1",
        "desiredstate": "running",
        "state": "failed",
        "state.old": "running",
        "state.new": "failed",
        "err": "task: non-zero exit (1)",
        "err.old": "",
        "err.new": "task: non-zero exit (1)",
    }
    addressed = task(pb.TASK_STATE_RUNNING)
    addressed.networks_attachments.add()
    assert swarm_events.event(known(before), Change(pb.Task, "t1", addressed, 9), 0) is None


@pytest.mark.parametrize(
    ("passes", "filters"),
    [
        (True, {"type": ["task"]}),
        (True, {"type": ["task", "service"], "service": ["web"], "node": ["n1"]}),
        (True, {"type": ["task"], "scope": ["swarm"], "event": ["create"], "label": ["slot=2"]}),
        (False, {}),
        (False, {"service": ["web"]}),
        (False, {"scope": ["swarm"]}),
        (False, {"type": ["service"]}),
        (False, {"type": ["task"], "service": ["db"]}),
        (False, {"type": ["task"], "node": ["n2"]}),
        (False, {"type": ["task"], "container": ["web"]}),
        (False, {"type": ["task"], "event": ["remove"]}),
        (False, {"type": ["task"], "label": ["slot=3"]}),
    ],
)
def test_tasks_are_told_of_to_who_asks_for_them(passes, filters):
    said = swarm_events.event(None, Change(pb.Task, "t1", task(pb.TASK_STATE_NEW), 9), 0)
    assert said is not None
    wanted = {key: frozenset(values) for key, values in filters.items()}
    assert swarm_events.matches(said, wanted) is passes


async def test_a_stream_has_tasks_when_they_are_asked_for_and_not_otherwise(
    manager: TestClient, store: Store
):
    asked = {"filters": json.dumps({"type": ["task"]})}
    async with (
        asyncio.timeout(10),
        manager.get("/events", params=asked) as tasks,
        manager.get("/events") as all_others,
    ):
        assert json.loads(await all_others.content.readline()) == STARTED
        await store.commit([Put(task(pb.TASK_STATE_RUNNING)), Put(service(1, 5))])
        said = json.loads(await all_others.content.readline())
        assert (said["Type"], said["Action"]) == ("service", "create")
        told = [json.loads(await tasks.content.readline())["Type"] for _ in range(2)]
        assert told == ["container", "task"]  # the stand-in engine filters nothing


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

        def is_closing(self) -> bool:
            return False

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

    async def list(self, kind: type[pb.Service], where: Where | None = None) -> list[pb.Service]:
        self.lists[kind.__name__] += 1
        return await self._store.list(kind, where)

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


def node(**manager: Any) -> pb.Node:
    made = pb.Node(id="n1")
    made.spec.role, made.spec.availability, made.status.state = "worker", "active", "ready"
    made.description.hostname = "h1"
    if manager:
        made.manager_status.CopyFrom(pb.ManagerStatus(**manager))
    return made


def told(before: Any, after: Any) -> Any:
    said = swarm_events.event(known(before), Change(type(after), after.id, after, 9), 0)
    return None if said is None else said["Actor"]["Attributes"]


def test_what_is_told_of_a_change_is_what_the_engine_tells():
    """Source: moby daemon/events.go logNodeEvent, logServiceEvent."""
    leads = {"reachability": "reachable", "leader": True}
    assert told(node(reachability="reachable"), node(**leads)) == {
        "name": "h1",
        "leader.old": "false",
        "leader.new": "true",
    }
    assert told(node(), node(**leads)) is None, "of a new manager nothing"
    down = node()
    down.status.state = "down"
    assert told(node(), down) == {"name": "h1", "state.old": "ready", "state.new": "down"}
    updating, completed = service(1, 4), service(1, 4)
    updating.update_status.state, completed.update_status.state = "updating", "completed"
    assert told(service(1, 4), updating) == {"name": "web", "updatestate.new": "updating"}
    assert told(updating, completed) == {
        "name": "web",
        "updatestate.old": "updating",
        "updatestate.new": "completed",
    }
    again = service(1, 4)
    again.version.asked = 7
    assert told(completed, again) == {"name": "web"}, "somebody asked for something"


@pytest.mark.parametrize(
    ("said", "instant"),
    [
        ("", None),
        ("0", 0),
        ("-5", 0),
        ("1795220801", 1795220801 * 10**9),
        ("1795220801.000000123", 1795220801 * 10**9 + 123),
        ("1795220801.5", 1795220801 * 10**9 + 5 * 10**8),
        ("1795220801.0000001239", 1795220801 * 10**9 + 123),
        ("²", None),
        ("-1", None),
        ("1.x", None),
        ("9" * 5000, None),
    ],
)
def test_since_and_until_as_clients_send_them(said: str, instant: int | None):
    assert swarm_events.window(said, said) == swarm_events.Window(instant, instant)


def test_a_window_has_both_its_ends():
    window = swarm_events.Window(5, 7)
    assert [window.holds(at) for at in (4, 5, 7, 8)] == [False, True, True, False]
    assert swarm_events.Window(None, 7).past
    assert not swarm_events.Window().past


async def test_the_past_is_told_in_order_of_time_before_what_comes():
    def cluster(at: int) -> cluster_events.Event:
        return cluster_events.Event({"timeNano": at}, f"cluster {at}".encode())

    def engine(at: int) -> bytes:
        return json.dumps({"timeNano": at}).encode()

    silent = asyncio.Event()

    async def lines(*at: int, ends: bool) -> AsyncIterator[bytes]:
        for each in at:
            yield engine(each)
        if not ends:
            await silent.wait()
            yield engine(99)

    async with asyncio.timeout(10):
        for ends in (True, False):
            past, past_told = deque(map(cluster, (1, 4, 9))), asyncio.Event()
            heard = []
            async for line in events._in_time(lines(3, 5, ends=ends), past, past_told):
                heard.append(line)
                if len(heard) == 5:
                    silent.set()
            wanted = [b"cluster 1", engine(3), b"cluster 4", engine(5), b"cluster 9"]
            assert heard == wanted + ([] if ends else [engine(99)])
            assert past_told.is_set()


async def remembers(cluster: ClusterEvents) -> None:
    while cluster._feed is None:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_what_happened_while_nobody_listened_is_remembered_within_a_bound(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cluster_events, "MOST_PAST", 3)
    cluster = ClusterEvents()
    keeping = asyncio.create_task(cluster.remember(lambda: store))
    try:
        async with asyncio.timeout(10):
            await remembers(cluster)
            for replicas in range(1, 6):
                await store.commit([Put(service(replicas, 0))])
            said: list[str] = []
            while said[-1:] != ["5"]:
                async with cluster.listen(store, no_cut) as heard:
                    told = [each.said["Actor"]["Attributes"] for each in heard.before]
                    said = [attributes.get("replicas.new", "") for attributes in told]
                await asyncio.sleep(0)
            assert said == ["3", "4", "5"]
    finally:
        await ends_of(keeping)


async def ends_of(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_the_past_of_the_cluster_is_told_with_filters_and_an_end(manager: TestClient):

    async def past(**query: str) -> list[tuple[str, str]]:
        asked = {"since": "1", "until": "99999999999", **query}
        async with manager.get("/events", params=asked) as answer:
            lines = [json.loads(line) for line in (await answer.text()).splitlines()]
            return [
                (each["Action"], each["Actor"]["Attributes"]["name"])
                for each in lines
                if each.get("scope") == "swarm"
            ]

    async with asyncio.timeout(20):
        number, name = 0, ""
        while ("create", name) not in await past():  # until it remembers
            number += 1
            name = f"s{number}"
            await manager.post("/services/create", json={"Name": name, "TaskTemplate": IMAGE})
        await manager.delete(f"/services/{name}")
        wanted = [("create", name), ("remove", name)]
        while ("remove", name) not in await past():
            pass
        assert (await past())[-2:] == wanted
        assert await past(filters=json.dumps({"service": [name], "event": ["remove"]})) == [
            ("remove", name)
        ]
        assert ("create", name) in await past(filters='{"scope":["swarm"]}')
        assert await past(filters='{"scope":["local"]}') == []
        assert await past(filters='{"type":["node"]}') == []
        assert await past(until="2") == []
        assert await past(since="2", until="99999999998") != []
        async with manager.get("/events") as answer:  # nobody asked for the past
            assert json.loads(await answer.content.readline()) == STARTED
            await manager.post("/services/create", json={"Name": "new", "TaskTemplate": IMAGE})
            said = json.loads(await answer.content.readline())
            assert said["Actor"]["Attributes"]["name"] == "new"


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


def places(*names: str, sure: bool = True) -> node_events.Places:
    return node_events.Places({("c" * 64, f"{name}-id"): name for name in names}, sure=sure)


def test_a_container_that_comes_onto_a_network_or_off_it_is_an_event_as_the_engine_s_are():
    [said] = node_events.events(places(), places("open"), 7_000_000_001)
    assert said == {
        "Type": "network",
        "Action": "connect",
        "Actor": {
            "ID": "open-id",
            "Attributes": {"container": "c" * 64, "name": "open", "type": "overlay"},
        },
        "scope": "local",
        "time": 7,
        "timeNano": 7_000_000_001,
    }
    changed = node_events.events(places("a", "b"), places("b", "c"), 1)
    told = [(each["Action"], each["Actor"]["ID"]) for each in changed]
    assert told == [("disconnect", "a-id"), ("connect", "c-id")]
    assert list(node_events.events(places(sure=False), places("a"), 1)) == []
    assert swarm_events.matches(said, {"type": frozenset({"network"})})
    assert swarm_events.matches(said, {"network": frozenset({"open"})})
    assert not swarm_events.matches(said, {"scope": frozenset({"swarm"})})


async def test_a_worker_tells_of_its_containers_on_overlays_and_remembers(outsider):
    client, host = outsider
    host.worker = True
    without = replace(overlays_known(), snapshot=replace(overlays_known().snapshot, sandboxes={}))
    host.knows(without)
    async with asyncio.timeout(10), client.get("/events") as answer:
        await answer.content.readline()
        host.knows(overlays_known())
        said = [json.loads(await answer.content.readline()) for _ in range(2)]
        names = {each["Actor"]["Attributes"]["name"] for each in said}
        assert ({each["Action"] for each in said}, names) == ({"connect"}, {"discovery", "ingress"})
        host.knows(without)
        assert json.loads(await answer.content.readline())["Action"] == "disconnect"
    query = {"since": "0", "until": "0", "filters": '{"event":["disconnect"]}'}
    async with asyncio.timeout(10), client.get("/events", params=query) as answer:
        past = [json.loads(line) for line in (await answer.content.read()).splitlines()]
        assert sum(each.get("Action") == "disconnect" for each in past) == 2


def test_an_end_of_the_past_at_zero_is_none_but_asks_for_the_past():
    for since, until in (("0", "0"), ("0", ""), ("", "0")):
        window = swarm_events.window(since, until)
        assert (window.past, window.holds(1)) == (True, True)
    assert not swarm_events.window("", "").past
    assert not swarm_events.window("", "1").holds(1_000_000_001)
