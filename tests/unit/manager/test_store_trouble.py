"""Who writes in the background bears a store that cannot be written, and loses nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshnet.backoff import Backoff
from meshnet_control.api import control_pb2 as pb
from meshnet_control.manager import leader
from meshnet_control.manager.leader import Manager
from meshnet_control.manager.node_writer import WAY, NodeWriter
from meshnet_control.manager.status_writer import StatusWriter
from meshnet_control.store import store as st
from meshnet_control.store.faulty import FaultyStore
from meshnet_control.store.sqlite import SqliteStore

NOW = 1_795_000_000.0
FULL = st.StoreFullError("cannot write to the store: database or disk is full")


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultyStore]:
    """Name: store. Scope: function. A real store that fails on demand, and impatient writers."""
    for module in (st, leader):
        monkeypatch.setattr(module, "RETRY", Backoff(0.001, 0.002))
    opened = FaultyStore(SqliteStore.open(tmp_path / "store.db", tmp_path / "key"))
    yield opened
    await opened.close()


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[asyncio.Future[None]]:
    job = asyncio.ensure_future(work)
    try:
        yield job
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while True:
            if await what():
                return
            await asyncio.sleep(0)


async def refused(store: FaultyStore, times: int) -> None:
    async def enough() -> bool:
        return store.refused >= times

    await until(enough)


def task(name: str, state: pb.TaskState) -> pb.Task:
    made = pb.Task(id=name, node_id="n1", desired_state=pb.TASK_STATE_RUNNING)
    made.status.state = state
    return made


def report(name: str, state: pb.TaskState) -> pb.TaskStatusUpdate:
    return pb.TaskStatusUpdate(task_id=name, status=pb.TaskStatus(state=state))


async def test_statuses_wait_for_the_disk(store: FaultyStore):
    await store.commit([st.Put(task(name, pb.TASK_STATE_ASSIGNED)) for name in "ab"])
    store.fault = FULL
    writer = StatusWriter(store, "m1")
    async with running(writer.run()) as job:
        writer.add("n1", report("a", pb.TASK_STATE_STARTING))
        await refused(store, 2)
        writer.add("n1", report("a", pb.TASK_STATE_RUNNING))
        writer.add("n1", report("b", pb.TASK_STATE_RUNNING))
        await refused(store, store.refused + 2)
        assert not job.done()
        store.fault = None

        async def written() -> bool:
            states = [t.status.state for t in await store.list(pb.Task)]
            return states == [pb.TASK_STATE_RUNNING] * 2

        await until(written)


async def test_a_node_is_set_ready_and_down_once_the_disk_takes_it(store: FaultyStore):
    await store.commit([st.Put(pb.Node(id=name)) for name in ("n1", "n2")])
    store.fault = FULL
    writer = NodeWriter(store)

    def state(value: str) -> Callable[[pb.Node], None]:
        def change(node: pb.Node) -> None:
            node.status.state = value

        return change

    async with running(writer.run()) as job:
        writer.set("n1", state("ready"))
        second = writer.set("n2", state("ready"))
        await refused(store, 2)
        first = writer.set("n1", state("down"))
        await refused(store, store.refused + 2)
        assert not job.done()
        assert not second.done()
        store.fault = None
        await asyncio.wait_for(asyncio.gather(first, second), 5)
        nodes = {node.id: node.status.state for node in await store.list(pb.Node)}
        assert nodes == {"n1": "down", "n2": "ready"}


@pytest.mark.parametrize("slow", [False, True])
async def test_what_is_said_of_a_nodes_way_takes_no_place_of_its_state(
    store: FaultyStore,
    slow: bool,  # noqa: FBT001 - a parameter
):
    """Both change at the moment of a partition; only one of them was written."""
    node = pb.Node(id="n1", status=pb.NodeStatus(state="ready", message="no way"))
    await store.commit([st.Put(node)])
    writer = NodeWriter(store)
    store.fault = FULL if slow else None

    def gone(node: pb.Node) -> None:
        node.status.state = "down"

    def way(node: pb.Node) -> None:
        node.status.message = ""

    async with running(writer.run()):
        first = writer.set("n1", gone)
        if slow:
            await refused(store, 1)
        second = writer.set("n1", way, about=WAY)
        if slow:
            await refused(store, store.refused + 1)
            store.fault = None
        await asyncio.wait_for(asyncio.gather(first, second), 5)
    stored = await store.get(pb.Node, "n1")
    assert stored is not None
    assert stored.status == pb.NodeStatus(state="down")


async def test_two_managers_that_resign_at_once_leave_one(store: FaultyStore):
    def gone(node: pb.Node) -> None:
        node.status.state = "down"

    await store.commit([st.Put(pb.Node(id=n, spec={"role": "manager"})) for n in ("m1", "m2")])
    here, there = NodeWriter(store), NodeWriter(store)
    async with running(here.run()), running(there.run()):

        async def the_other_resigns() -> None:
            await asyncio.wait_for(there.set("m2", gone, resigns=True), 5)

        store.meanwhile = the_other_resigns
        await asyncio.wait_for(here.set("m1", gone, resigns=True), 5)
        nodes = {n.id: (n.spec.role, n.status.state) for n in await store.list(pb.Node)}
        assert nodes == {"m1": ("manager", "down"), "m2": ("worker", "down")}


async def test_the_leader_decides_again_when_there_is_room(store: FaultyStore):
    service = pb.Service(id="s1")
    service.spec.mode.replicated.replicas = 3
    await store.commit([st.Put(pb.Cluster(id="c")), st.Put(service)])
    store.fault = FULL
    async with running(Manager(store, random.Random(1), lambda: NOW).run()) as job:
        await refused(store, 3)
        assert not job.done()
        assert await store.list(pb.Task) == []
        store.fault = None

        async def three() -> bool:
            return len(await store.list(pb.Task)) == 3

        await until(three)


async def test_the_leader_never_overwrites_what_others_wrote_meanwhile(store: FaultyStore):
    service = pb.Service(id="s1")
    service.spec.mode.replicated.replicas = 1
    service.spec.endpoint_spec.ports.add(target_port=80)  # it is to be given a number
    ingress = pb.Network(id="i1", spec=pb.NetworkSpec(name="ingress", ingress=True))
    await store.commit([st.Put(pb.Cluster(id="c")), st.Put(ingress), st.Put(service)])

    async def somebody_adds_a_label() -> None:
        stored = await store.get(pb.Service, "s1")
        assert stored is not None
        stored.spec.labels["kept"] = "yes"
        await store.commit([st.Put(stored)])

    store.meanwhile = somebody_adds_a_label
    async with running(Manager(store, random.Random(1), lambda: NOW).run()):

        async def one() -> bool:
            return len(await store.list(pb.Task)) == 1

        await until(one)
    found = await store.get(pb.Service, "s1")
    assert found is not None
    assert found.spec.labels["kept"] == "yes"


async def test_writers_end_with_the_store(store: FaultyStore):
    await store.commit([st.Put(pb.Node(id="n1")), st.Put(task("a", pb.TASK_STATE_ASSIGNED))])
    nodes, statuses = NodeWriter(store), StatusWriter(store, "m1")
    store.fault = st.StoreClosedError("closed")
    nodes.set("n1", lambda node: node.status.MergeFrom(pb.NodeStatus(state="down")))
    statuses.add("n1", report("a", pb.TASK_STATE_RUNNING))
    await asyncio.wait_for(asyncio.gather(nodes.run(), statuses.run()), 5)
