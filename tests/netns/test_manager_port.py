"""A manager's port under attack: strangers by the thousand, nonsense, half handshakes.

Nothing but ephemeral ports of 127.0.0.1 is touched.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest

from meshnet import drops
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.identity import ca, tokens
from meshnet_control.identity.channel import REQUEST_BYTES
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.manager.server import PRIVATE, ControlServer
from meshnet_control.manager.tls_listener import HANDSHAKES
from meshnet_control.node import dispatcher_client
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put

pytestmark = pytest.mark.netns

CLUSTER = "cluster0000000000000000001"
STRANGERS = int(os.environ.get("MESHNET_STRANGERS", "2000"))
"""Idle connections; as many descriptors are needed."""
SERVED_S = 1.0
"""From a task written to the store to its node, however many strangers there are."""


class Manager:
    """A manager's server, and what its nodes need to know."""

    def __init__(self, store, server, root, root_key):
        self.store, self.server, self.root, self.root_key = store, server, root, root_key
        self.remote = ("127.0.0.1", server.port)
        self.token = tokens.join_token(root, b"w" * 16)

    def certificates(self, name, role="worker"):
        key, csr = ca.new_csr()
        leaf = ca.issue(self.root, self.root_key, csr, name, role, CLUSTER, time.time())
        return Certificates(key, leaf, self.root)

    def identity(self, name):
        at = f"127.0.0.1:{self.server.port}"
        certs = self.certificates(name)
        return Identity(name, CLUSTER, "worker", certs, managers=(at,))


@pytest.fixture
async def manager(tmp_path):
    root, root_key = ca.new_root(CLUSTER, time.time())
    cluster = pb.Cluster(id=CLUSTER, ca_certificate=root, ca_key=root_key)
    cluster.join_tokens.worker = tokens.join_token(root, b"w" * 16)
    store = SqliteStore.open(tmp_path / "store.db", tmp_path / "store.key")
    await store.commit([Put(cluster), *(Put(pb.Node(id=name)) for name in ("m1", "w1"))])
    key, csr = ca.new_csr()
    leaf = ca.issue(root, root_key, csr, "m1", "manager", CLUSTER, time.time())
    identity = Identity("m1", CLUSTER, "manager", Certificates(key, leaf, root))
    server = ControlServer(store, identity, listen="127.0.0.1:0", run_dir=tmp_path)
    await server.start()
    try:
        yield Manager(store, server, root, root_key)
    finally:
        await server.close()
        await store.close()


@pytest.fixture
async def agent(manager):
    """A node with a session; ``tasks`` are those it was told of."""
    made = Agent(manager.identity("w1"))
    yield made
    await made.stop()


class Agent:
    def __init__(self, identity):
        self.tasks, self.changed = set(), asyncio.Event()
        self.session = dispatcher_client.DispatcherClient(
            identity, pb.NodeDescription(hostname="w1"), self._take
        )
        self._job = asyncio.create_task(self.session.run())

    def _take(self, state):
        self.tasks = {task.id for task in state.tasks}
        self.changed.set()

    async def told_of(self, task_id, seconds):
        async with asyncio.timeout(seconds):
            while task_id not in self.tasks:
                self.changed.clear()
                await self.changed.wait()

    async def stop(self):
        self._job.cancel()
        with suppress(asyncio.CancelledError):
            await self._job


async def serves(manager, agent, task_id, seconds=SERVED_S):
    """The manager tells the agent of a task within the time."""
    task = pb.Task(id=task_id, node_id="w1", desired_state=pb.TASK_STATE_RUNNING)
    task.status.state = pb.TASK_STATE_ASSIGNED
    await manager.store.commit([Put(task)])
    await agent.told_of(task_id, seconds)


async def connect(stack, remote):
    """A TCP connection that says nothing."""
    stranger = stack.enter_context(
        socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    )
    await asyncio.get_running_loop().sock_connect(stranger, remote)
    return stranger


def descriptors():
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def client_hello():
    """The first message of a client; who sends it and stops has begun a handshake."""
    outgoing = ssl.MemoryBIO()
    half = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="x")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    return outgoing.read()


@pytest.mark.timeout(120)
async def test_thousands_of_idle_strangers_cost_a_bounded_number_of_descriptors(manager, agent):
    await serves(manager, agent, "before", seconds=10)
    quiet = descriptors()
    before = drops.snapshot().get("manager: handshake given up for a newer one", 0)
    with ExitStack() as stack:
        for number in range(STRANGERS):
            await connect(stack, manager.remote)
            if number % 500 == 0:
                await serves(manager, agent, f"meanwhile-{number}")
        await serves(manager, agent, "then")
        joined = await dispatcher_client.join(
            manager.token, [f"127.0.0.1:{manager.server.port}"], pb.NodeDescription(hostname="w9")
        )
        assert joined.role == "worker"
        assert descriptors() - STRANGERS - quiet <= HANDSHAKES
        given_up = drops.snapshot()["manager: handshake given up for a newer one"] - before
        assert given_up >= STRANGERS - HANDSHAKES - 1
    await serves(manager, agent, "after")


async def test_nonsense_and_half_handshakes_disturb_nobody(manager, agent):
    await serves(manager, agent, "before", seconds=10)
    hello = client_hello()
    with ExitStack() as stack:
        for number in range(300):
            stranger = await connect(stack, manager.remote)
            said = (b"GET / HTTP/1.1\r\n\r\n", hello, hello[: number % len(hello)], b"\x16\x03\x01")
            stranger.send(said[number % 4])
        await serves(manager, agent, "meanwhile")
    await serves(manager, agent, "after")
    assert agent.session.connected


async def test_one_peer_holds_a_bounded_number_of_connections(manager, agent):
    await serves(manager, agent, "before", seconds=10)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=manager.root.decode())
    leaf, key = ca.join_leaf(b"w" * 16, time.time())
    bundle = os.memfd_create("leaf")
    os.write(bundle, key + leaf)
    context.load_cert_chain(f"/proc/self/fd/{bundle}")
    os.close(bundle)
    open_ones = [
        await asyncio.open_connection(*manager.remote, ssl=context, limit=1024) for _ in range(40)
    ]
    await asyncio.sleep(0.2)  # its end reaches a connection in this loop's next turns
    assert sum(reader.at_eof() or writer.is_closing() for reader, writer in open_ones) == 40 - 16
    await serves(manager, agent, "meanwhile")
    for _, writer in open_ones:
        writer.close()


async def test_the_way_past_the_listener_leads_nowhere(manager, tmp_path):
    inner = tmp_path / PRIVATE / "grpc.sock"
    assert inner.parent.stat().st_mode & 0o777 == 0o700
    async with grpc.aio.insecure_channel(f"unix:{inner}") as link:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await control_pb2_grpc.MembershipStub(link).Leave(pb.LeaveRequest(), timeout=3)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_message_that_is_too_long_ends_its_call_alone(manager, agent):
    await serves(manager, agent, "before", seconds=10)
    long = pb.IssueRequest(csr=b"x" * (REQUEST_BYTES + 1))
    certs = manager.certificates("w1")
    credentials = grpc.ssl_channel_credentials(certs.root, certs.key, certs.certificate)
    options = [
        ("grpc.ssl_target_name_override", ca.MANAGER_NAME),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_send_message_length", -1),
    ]
    at = f"127.0.0.1:{manager.server.port}"
    async with grpc.aio.secure_channel(at, credentials, options=options) as link:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await control_pb2_grpc.CAStub(link).Issue(long, timeout=5)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await serves(manager, agent, "after")
