"""Logs of tasks over real gRPC and TLS on loopback, from engines that are sockets here.

What a real engine and the docker CLI make of it is in tests/lab/test_service_logs.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack, suppress

import pytest
from aiohttp import web

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.log_lines import frame
from meshnet_control.engine.client import EngineClient
from meshnet_control.identity import ca, tokens
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.manager import log_broker
from meshnet_control.manager.log_reader import LogReader, Selector
from meshnet_control.manager.server import ControlServer
from meshnet_control.node.dispatcher_client import DispatcherClient
from meshnet_control.node.log_source import LogSource
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Delete, Put

pytestmark = pytest.mark.netns
CLUSTER = "cluster0000000000000000001"
BIG = 20_000


def stamp(number):
    return f"2026-11-21T08:00:{number:02}.000000000Z"


def payload(number, text):
    return frame(1, f"{stamp(number)}  {text}\n".encode())


class EngineSocket:
    """An engine's log endpoint on a unix socket: what each container says, and who listens."""

    def __init__(self, path):
        self.path = path
        self.says: dict[str, list[bytes]] = {}
        self.followers = 0
        self.sent = 0
        self.queries: list[dict[str, str]] = []
        self._runner: web.AppRunner

    async def start(self):
        app = web.Application()
        app.router.add_get("/containers/{id}/logs", self._logs)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self):
        await self._runner.cleanup()

    async def _logs(self, request):
        self.queries.append(dict(request.query))
        said = self.says.get(request.match_info["id"])
        if said is None:
            message = f"No such container: {request.match_info['id']}"
            return web.Response(status=404, text=json.dumps({"message": message}))
        response = web.StreamResponse()
        await response.prepare(request)
        self.followers += 1
        try:
            at = 0
            while at < len(said) or "follow" in request.query:
                if at < len(said):
                    await response.write(said[at])
                    self.sent += len(said[at])
                    at += 1
                else:
                    await asyncio.sleep(0.01)
        finally:
            self.followers -= 1
        return response


class Node:
    """A node of the cluster: its engine and its session."""

    def __init__(self, identity, engine):
        self.id, self.engine, self._identity = identity.node_id, engine, identity
        self._client = EngineClient(f"unix://{engine.path}")
        self.job: asyncio.Task[None]

    def connect(self):
        self.source = LogSource(self._client)
        session = DispatcherClient(
            self._identity, pb.NodeDescription(), lambda _: None, alongside=self.source.run
        )
        self.job = asyncio.create_task(session.run())

    async def vanish(self):
        self.job.cancel()
        with suppress(asyncio.CancelledError):
            await self.job

    async def close(self):
        await self.vanish()
        await self._client.close()


class Cluster:
    def __init__(self, store, server, nodes):
        self.store, self.server, self.nodes = store, server, nodes
        self.broker = server.logs

    async def task(self, name, node, *, says=None, tty=False):
        task = pb.Task(id=name, service_id="s1", node_id=node.id if node else "")
        task.spec.container_spec.tty = tty
        if node:
            task.status.state = pb.TASK_STATE_RUNNING
            task.status.container_status.container_id = name * 12
        if says is not None:
            node.engine.says[name * 12] = says
        await self.store.commit([Put(task)])
        await until(lambda: name in self.broker.objects.tasks)

    async def listens(self, node):
        await until(lambda: self.broker.available(node.id))


def options(**more):
    return pb.LogOptions(stdout=True, stderr=True, tail="all", **more)


@pytest.fixture
async def cluster(tmp_path):
    """
    Name: cluster; Scope: function; Depends: nothing.

    A manager on a free port of 127.0.0.1 and two nodes that listen, each with an engine's socket.
    """
    now = time.time()
    root, root_key = ca.new_root(CLUSTER, now)
    stored = pb.Cluster(id=CLUSTER, ca_certificate=root, ca_key=root_key, gossip_keys=[b"k" * 32])
    stored.join_tokens.worker = tokens.join_token(root, b"w" * 16)
    store = SqliteStore.open(tmp_path / "store.db", tmp_path / "store.key")
    await store.commit([Put(stored), *(Put(pb.Node(id=name)) for name in ("m1", "w1", "w2"))])

    def identity(name, role, managers=()):
        key, csr = ca.new_csr()
        leaf = ca.issue(root, root_key, csr, name, role, CLUSTER, now)
        return Identity(
            node_id=name, cluster_id=CLUSTER, role=role, certs=Certificates(key, leaf, root),
            managers=managers,
        )  # fmt: skip

    server = ControlServer(store, identity("m1", "manager"), listen="127.0.0.1:0", run_dir=tmp_path)
    await server.start()
    remote = (f"127.0.0.1:{server.port}",)
    nodes = [
        Node(identity(name, "worker", remote), EngineSocket(tmp_path / name))
        for name in ("w1", "w2")
    ]
    made = Cluster(store, server, nodes)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        stack.push_async_callback(server.close)
        for node in nodes:
            await node.engine.start()
            stack.push_async_callback(node.engine.stop)
            node.connect()
            stack.push_async_callback(node.close)
            await made.listens(node)
        yield made
        assert made.broker.open_feeds == 0, "a reader left a subscription"
        await until(lambda: sum(node.engine.followers for node in nodes) == 0)


async def until(what, seconds=30.0):
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.005)


async def everything(reader):
    """All texts with their tasks, and what is missing."""
    found = []
    try:
        async with asyncio.timeout(30):
            while (lines := await reader.read(0.5)) is not None:
                found += [(task.id, line.data.decode().strip()) for task, line in lines]
    finally:
        reader.close()
    return found, reader.missing


async def wait_for(reader, wanted, seconds=10.0):
    """Texts of a follower until one holds ``wanted``."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(seconds):
        while not any(wanted in text for _, text in found):
            lines = await reader.read(0.5)
            found += [(task.id, line.data.decode().strip()) for task, line in lines]
    return found


async def test_the_logs_of_all_nodes_come_in_order_of_time(cluster):
    first, second = cluster.nodes
    await cluster.task("a", first, says=[payload(1, "a1"), payload(4, "a4")])
    await cluster.task("b", second, says=[payload(2, "b2"), payload(3, "b3")])
    await cluster.task("c", second, says=[])
    reader = LogReader(cluster.broker, Selector(service="s1"), options())
    expected = [("a", "a1"), ("b", "b2"), ("b", "b3"), ("a", "a4")]
    assert await everything(reader) == (expected, [])


async def test_one_task_alone(cluster):
    first, second = cluster.nodes
    await cluster.task("a", first, says=[payload(1, "a1")])
    await cluster.task("b", second, says=[payload(2, "b2")])
    reader = LogReader(cluster.broker, Selector(task="b"), options(since="17"))
    assert await everything(reader) == ([("b", "b2")], [])
    assert second.engine.queries[-1]["since"] == "17"
    assert not first.engine.queries


async def test_a_terminals_bytes_pass_as_they_are(cluster):
    await cluster.task("a", cluster.nodes[0], says=[b"\x1b[1mhi\r\n"], tty=True)
    reader = LogReader(cluster.broker, Selector(task="a"), options())
    assert await everything(reader) == ([("a", "\x1b[1mhi")], [])
    assert "timestamps" not in cluster.nodes[0].engine.queries[-1]


async def test_a_node_that_is_away_is_named_and_holds_up_nothing(cluster):
    first, second = cluster.nodes
    await cluster.task("a", first, says=[payload(1, "a1")])
    await cluster.task("b", second, says=[payload(2, "b2")])
    await second.vanish()
    await until(lambda: not cluster.broker.available("w2"))
    began = time.monotonic()
    reader = LogReader(cluster.broker, Selector(service="s1"), options())
    assert await everything(reader) == ([("a", "a1")], ["node w2 is not available"])
    assert time.monotonic() - began < 2


async def test_a_node_that_is_set_down_while_it_is_silent_ends_its_logs(cluster):
    first, second = cluster.nodes
    await cluster.task("a", first, says=[payload(1, "a1")])
    await cluster.task("b", second, says=[payload(2, "b2")])
    second.source._publish = lambda *_: asyncio.sleep(60)
    reader = LogReader(cluster.broker, Selector(service="s1"), options())
    asking = asyncio.create_task(everything(reader))
    await until(lambda: cluster.broker.open_feeds == 2)
    await cluster.store.commit([Put(pb.Node(id="w2", status=pb.NodeStatus(state="down")))])
    assert await asking == ([("a", "a1")], ["node w2 is not available"])


async def test_a_node_that_never_answers_is_given_up(cluster, monkeypatch):
    monkeypatch.setattr(log_broker, "ANSWER_S", 0.2)
    await cluster.task("b", cluster.nodes[1], says=[payload(2, "b2")])
    cluster.nodes[1].source._publish = lambda *_: asyncio.sleep(60)
    reader = LogReader(cluster.broker, Selector(service="s1"), options())
    assert await everything(reader) == ([], ["node w2 is not available"])


async def test_a_container_that_is_gone_is_said_only_when_it_was_asked_for(cluster):
    await cluster.task("a", cluster.nodes[0], says=[payload(1, "a1")])
    await cluster.task("g", cluster.nodes[1])
    whole = LogReader(cluster.broker, Selector(service="s1"), options())
    assert await everything(whole) == ([("a", "a1")], [])
    gone = LogReader(cluster.broker, Selector(task="g"), options())
    said = f"container {'g' * 12}: No such container: {'g' * 12}"
    assert await everything(gone) == ([], [said])


async def test_a_task_without_a_node_has_no_log(cluster):
    await cluster.task("p", None)
    reader = LogReader(cluster.broker, Selector(task="p"), options())
    assert await everything(reader) == ([], ["task p has not been scheduled"])
    whole = LogReader(cluster.broker, Selector(service="s1"), options())
    assert await everything(whole) == ([], [])


async def test_tasks_of_a_removed_node_are_left_out(cluster):
    await cluster.task("a", cluster.nodes[0], says=[payload(1, "a1")])
    await cluster.task("b", cluster.nodes[1], says=[payload(2, "b2")])
    await cluster.store.commit([Delete(pb.Node, "w2")])
    await until(lambda: "w2" not in cluster.broker.objects.nodes)
    reader = LogReader(cluster.broker, Selector(service="s1"), options())
    assert await everything(reader) == ([("a", "a1")], [])


async def test_a_follower_sees_new_lines_and_new_tasks_and_leaves_nothing(cluster):
    first, second = cluster.nodes
    said = [payload(1, "a1")]
    await cluster.task("a", first, says=said)
    reader = LogReader(cluster.broker, Selector(service="s1"), options(follow=True))
    try:
        assert await wait_for(reader, "a1") == [("a", "a1")]
        said.append(payload(2, "a2"))
        assert await wait_for(reader, "a2") == [("a", "a2")]
        await cluster.task("b", second, says=[payload(3, "b3")])
        assert await wait_for(reader, "b3") == [("b", "b3")]
        assert first.engine.followers == second.engine.followers == 1
    finally:
        reader.close()
    await until(lambda: first.engine.followers == second.engine.followers == 0)


async def test_a_follower_goes_on_where_it_was_when_a_node_comes_back(cluster):
    node = cluster.nodes[0]
    said = [payload(1, "a1"), payload(2, "a2")]
    await cluster.task("a", node, says=said)
    reader = LogReader(cluster.broker, Selector(service="s1"), options(follow=True))
    try:
        await wait_for(reader, "a2")
        await node.vanish()
        missing = await wait_for(reader, "incomplete log stream")
        said.append(payload(3, "a3"))
        node.connect()
        again = await wait_for(reader, "a3")
    finally:
        reader.close()
    assert missing == [("a", "warning: incomplete log stream: node w1 is not available")]
    assert again == [("a", "a3")]


async def test_a_slow_reader_stops_the_node_and_a_reader_that_goes_frees_it(cluster):
    node = cluster.nodes[0]
    await cluster.task("a", node, says=[payload(1, "x" * BIG) for _ in range(4000)])
    reader = LogReader(cluster.broker, Selector(service="s1"), options())
    try:
        await reader.read(5)
        before = -1
        async with asyncio.timeout(20):
            while node.engine.sent != before:  # until nothing moves any more
                before = node.engine.sent
                await asyncio.sleep(0.5)
        assert node.engine.sent < 8 * 1024 * 1024, "80 MB wait to be read"
        assert node.engine.followers == 1
    finally:
        reader.close()
    await until(lambda: node.engine.followers == 0)


async def test_another_node_cannot_publish_what_it_was_not_asked_for(cluster):
    first, second = cluster.nodes
    await cluster.task("a", first, says=[payload(1, "a1")])
    second.engine.says["a" * 12] = [payload(1, "forged")]
    asked = []

    async def note(_, wanted):
        asked.append(wanted)

    first.source._publish = note
    reader = LogReader(cluster.broker, Selector(service="s1"), options(follow=True))
    try:
        await until(lambda: asked)
        cluster.broker._listeners.tell("w2", asked[0])
        await until(lambda: second.engine.queries)
        assert await reader.read(0.3) == []
    finally:
        reader.close()
