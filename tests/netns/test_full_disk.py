"""A manager whose disk is full: a small filesystem of its own, filled and emptied again."""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from contextlib import suppress

import pytest

from meshnet_control.api import control_pb2 as pb
from meshnet_control.identity import ca, tokens
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.manager.leader import Manager
from meshnet_control.manager.server import ControlServer
from meshnet_control.node.dispatcher_client import DispatcherClient, join
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put, StoreFullError

pytestmark = pytest.mark.netns
CLUSTER = "cluster0000000000000000001"


@pytest.fixture
def small_disk(tmp_path):
    """A filesystem of 2 MiB."""
    where = tmp_path / "disk"
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(where)]
    subprocess.run(command, check=True)
    yield where
    subprocess.run(["umount", str(where)], check=True)


def fill(disk):
    """Take the last byte."""
    with (disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        for size in (65536, 512, 1):
            with suppress(OSError):
                while True:
                    ballast.write(b"x" * size)


async def until(what, seconds=30.0):
    async with asyncio.timeout(seconds):
        while True:
            if await what():
                return
            await asyncio.sleep(0.01)


async def test_a_manager_lives_through_a_full_disk_and_loses_nothing(small_disk, tmp_path):
    root, root_key = ca.new_root(CLUSTER, time.time())
    cluster = pb.Cluster(id=CLUSTER, ca_certificate=root, ca_key=root_key)
    cluster.join_tokens.worker = tokens.join_token(root, b"w" * 16)
    store = SqliteStore.open(small_disk / "store.db", small_disk / "store.key")
    await store.commit([Put(cluster), Put(pb.Node(id="m1"))])
    key, csr = ca.new_csr()
    leaf = ca.issue(root, root_key, csr, "m1", "manager", CLUSTER, time.time())
    who = Identity("m1", CLUSTER, "manager", Certificates(key, leaf, root))
    server = ControlServer(store, who, listen="127.0.0.1:0", run_dir=tmp_path)
    await server.start()
    leading = asyncio.create_task(Manager(store, random.Random(1), time.time).run())
    serving = asyncio.create_task(server.wait())
    described = pb.NodeDescription(hostname="w1")
    joined = await join(cluster.join_tokens.worker, [f"127.0.0.1:{server.port}"], described)
    session = DispatcherClient(joined, described, lambda _: None)
    agent = asyncio.create_task(session.run())
    try:
        await until(lambda: node_is(store, joined.node_id, "ready"))
        service = pb.Service(id="s1")
        service.spec.mode.replicated.replicas = 20
        await store.commit([Put(service)])
        await until(lambda: assigned(store, 20))
        fill(small_disk)
        with pytest.raises(StoreFullError):
            await put_much(store)
        for task in await store.list(pb.Task):
            session.report(task.id, pb.TaskStatus(state=pb.TASK_STATE_RUNNING, message="x" * 2000))
        await asyncio.sleep(1.0)
        assert "full" in store.trouble
        assert not any(job.done() for job in (leading, serving, agent))
        assert session.connected
        (small_disk / "ballast").unlink()
        await until(lambda: running(store, 20))
        assert store.trouble == ""
    finally:
        for job in (agent, serving, leading):
            job.cancel()
        await asyncio.gather(agent, serving, leading, return_exceptions=True)
        await server.close()
        await store.close()


async def put_much(store):
    for number in range(200):  # the write-ahead log may have some room left
        await store.commit([Put(pb.Config(id=f"c{number}", spec={"data": b"x" * 9000}))])


async def node_is(store, node_id, state):
    node = await store.get(pb.Node, node_id)
    return node is not None and node.status.state == state


async def assigned(store, count):
    return sum(bool(task.node_id) for task in await store.list(pb.Task)) == count


async def running(store, count):
    states = [task.status.state for task in await store.list(pb.Task)]
    return states.count(pb.TASK_STATE_RUNNING) == count
