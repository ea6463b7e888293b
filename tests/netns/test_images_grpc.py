"""Images over real gRPC and TLS on loopback, to engines that are sockets here.

What real engines and the command make of it is in tests/lab/test_beyond_swarm.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack, suppress
from types import SimpleNamespace
from typing import Any

import grpc.aio
import pytest
from aiohttp import web

from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc, manager_pb2_grpc
from meshnet_control.engine.client import EngineClient
from meshnet_control.identity import ca, tokens
from meshnet_control.identity.channel import channel as identity_channel
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.link import images
from meshnet_control.link.images import Progress, RemoteImages
from meshnet_control.manager import image_broker
from meshnet_control.manager.private_service import ImageService
from meshnet_control.manager.server import ControlServer
from meshnet_control.node.dispatcher_client import DispatcherClient
from meshnet_control.node.image_sink import ImageSink
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put

pytestmark = pytest.mark.netns
CLUSTER = "cluster0000000000000000001"
ID = f"sha256:{'a' * 64}"
CHUNK = 256 * 1024


class Engine:
    """An engine's images on a unix socket."""

    def __init__(self, path):
        self.path, self.has, self.tags = path, set(), []
        self.loaded = b""
        self.reads = asyncio.Event()
        """It takes what it is sent."""
        self.reads.set()
        self.breaks = ""
        self._runner: web.AppRunner

    async def start(self):
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/images/{id}/json", self._show)
        app.router.add_post("/images/{id}/tag", self._tag)
        app.router.add_post("/images/load", self._load)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self):
        await self._runner.cleanup()

    async def _show(self, request):
        there = request.match_info["id"] in self.has
        return web.json_response(
            {} if there else {"message": "No such image"}, status=200 if there else 404
        )

    async def _tag(self, request):
        self.tags.append(f"{request.query['repo']}:{request.query['tag']}")
        return web.Response(status=201)

    async def _load(self, request):
        await self.reads.wait()
        self.loaded = await request.read()
        if self.breaks:
            return web.Response(text=json.dumps({"error": self.breaks}) + "\n")
        self.has.add(ID)
        return web.Response(text=json.dumps({"stream": "Loaded"}) + "\n")


class Cluster:
    """A manager, a node that listens, and meshnetd's way to the manager."""

    def __init__(self, server, engine, sends, node):
        self.server, self.engine, self.sends, self.node = server, engine, sends, node

    async def take(self, word):
        """What the node is sent for a word of its own."""
        async with identity_channel(self.node.managers[0], self.node.certs) as link:
            call = control_pb2_grpc.ImagesStub(link).Take()
            await call.write(word)
            async with asyncio.timeout(30):
                while isinstance(chunk := await call.read(), pb.ImageChunk):
                    yield chunk

    async def push(self, archive, node="w1"):
        found = [step async for step in self.sends.push(node, ID, ["a/b:1"], archive)]
        return found[-1]


async def archive(*chunks):
    for chunk in chunks:
        yield chunk


@pytest.fixture
async def cluster(tmp_path):
    """
    Name: cluster; Scope: function; Depends: nothing.

    A manager on a free port of 127.0.0.1, a node that listens, and its engine's socket.
    """
    now = time.time()
    root, root_key = ca.new_root(CLUSTER, now)
    stored = pb.Cluster(id=CLUSTER, ca_certificate=root, ca_key=root_key, gossip_keys=[b"k" * 32])
    stored.join_tokens.worker = tokens.join_token(root, b"w" * 16)
    store = SqliteStore.open(tmp_path / "store.db", tmp_path / "store.key")
    await store.commit([Put(stored), *(Put(pb.Node(id=name)) for name in ("m1", "w1"))])

    def identity(name, role, managers=()):
        key, csr = ca.new_csr()
        leaf = ca.issue(root, root_key, csr, name, role, CLUSTER, now)
        return Identity(
            node_id=name, cluster_id=CLUSTER, role=role, certs=Certificates(key, leaf, root),
            managers=managers,
        )  # fmt: skip

    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        who = identity("m1", "manager")
        server = ControlServer(store, who, listen="127.0.0.1:0", run_dir=tmp_path)
        await server.start()
        stack.push_async_callback(server.close)
        private = grpc.aio.server()
        lead: Any = SimpleNamespace(server=server, certs=who.certs)
        manager_pb2_grpc.add_ImagesServicer_to_server(ImageService(lead), private)
        private.add_insecure_port(f"unix:{tmp_path}/manager.sock")
        await private.start()
        stack.push_async_callback(lambda: private.stop(0.1))
        channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/manager.sock")
        stack.push_async_callback(channel.close, None)
        engine = Engine(tmp_path / "w1")
        await engine.start()
        stack.push_async_callback(engine.stop)
        client = EngineClient(f"unix://{engine.path}")
        stack.push_async_callback(client.close)
        node = identity("w1", "worker", (f"127.0.0.1:{server.port}",))
        session = DispatcherClient(
            node,
            pb.NodeDescription(),
            lambda _: None,
            alongside=ImageSink(client).run,
        )
        job = asyncio.create_task(session.run())

        async def gone():
            job.cancel()
            with suppress(asyncio.CancelledError):
                await job

        stack.push_async_callback(gone)
        made = Cluster(server, engine, RemoteImages(channel), node)
        made.vanish = gone  # type: ignore[attr-defined]
        await until(lambda: "w1" in server.images._listeners)
        yield made
        await until(lambda: not server.images._transfers)


async def until(what, seconds=30.0):
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.005)


async def test_an_image_comes_whole_to_a_node_that_lacks_it(cluster):
    chunks = [bytes([number]) * CHUNK for number in range(20)]
    said = await cluster.push(archive(*chunks))
    assert said == Progress(20 * CHUNK, done=True)
    assert cluster.engine.loaded == b"".join(chunks)


async def test_who_has_it_is_sent_nothing_and_gets_its_name(cluster):
    cluster.engine.has.add(ID)

    async def never():
        raise AssertionError("it was read")
        yield b""

    assert await cluster.push(never()) == Progress(0, done=True)
    assert cluster.engine.tags == ["a/b:1"]


async def test_what_the_engine_refuses_comes_back_in_its_words(cluster):
    cluster.engine.breaks = "unexpected EOF"
    assert await cluster.push(archive(b"x")) == Progress(1, error="unexpected EOF")


async def test_who_does_not_listen_is_told_at_once(cluster):
    assert await cluster.push(archive(b"x"), node="w9") == Progress(0, error=image_broker.GONE)


async def test_an_image_is_for_the_node_it_is_pushed_to_alone(cluster):
    broker = cluster.server.images
    broker._transfers["x"] = image_broker.Transfer("w2")
    try:
        answer = [chunk async for chunk in cluster.take(pb.ImageWord(offer_id="x", wants=True))]
        assert answer == []
        assert not broker._transfers["x"].taken
    finally:
        del broker._transfers["x"]


async def test_a_node_that_goes_meanwhile_ends_it(cluster):
    cluster.engine.reads.clear()

    async def endless():
        yield b"x" * CHUNK
        await cluster.vanish()
        while True:
            yield b"x" * CHUNK

    assert (await cluster.push(endless())).error == image_broker.GONE


async def test_a_node_that_takes_nothing_holds_the_pusher_back_and_is_given_up(
    cluster, monkeypatch
):
    monkeypatch.setattr(images, "STALLED_S", 1.0)
    cluster.engine.reads.clear()
    read = 0

    async def endless():
        nonlocal read
        while True:
            read += CHUNK
            yield b"x" * CHUNK

    said = await cluster.push(endless())
    assert said.error == images.STALLED
    assert read < 64 << 20  # buffers on the way, not the image
