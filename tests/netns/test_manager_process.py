"""A real meshnet-manager and what meshnetd has of it: it ends, begins anew, cannot begin."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from random import SystemRandom

import pytest

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.cluster.hosts import Hosts
from meshnet_control.engine.client import EngineClient
from meshnet_control.host import manager_process, standby
from meshnet_control.host.paths import MANAGER, MANAGER_SOCKET
from meshnet_control.host.starting import listens
from meshnet_control.identity import identity
from meshnet_control.identity.identity import Identity
from meshnet_control.link.locked import LOCKED
from meshnet_control.link.manager_link import ManagerLink, certs_of, hosts_of, news
from meshnet_control.manager import archive
from meshnet_control.node.birth import Birth, birth
from meshnet_control.node.member import Places
from meshnet_control.node.node import Node
from meshnet_control.store import files
from meshnet_control.store.store import OutOfSequenceError, Put

pytestmark = pytest.mark.netns

STARTS_S = 20.0
HOST = "127.0.0.1"


async def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STARTS_S
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


class Manager:
    """A host's meshnet-manager, without one who starts it again."""

    def __init__(self, path: Path, born: Birth) -> None:
        self.path, self.born = path, born
        self.process: asyncio.subprocess.Process | None = None

    @property
    def identity(self) -> Identity:
        return self.born.identity

    async def start(self) -> None:
        program = Path(sys.executable).with_name(MANAGER)
        places = ("--run-dir", str(self.path / "run"), "--state-dir", str(self.path / "state"))
        before = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
        self.process = await asyncio.create_subprocess_exec(program, *places)
        resource.setrlimit(resource.RLIMIT_CORE, before)

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(how)
        return await self.process.wait()


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[Manager]:
    """Name: manager. Scope: function. Of a cluster that is born here, on a free port; ended."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    born = birth(
        pb.SwarmInitRequest(),
        (HOST, port),
        (HOST, port),
        HOST,
        time.time(),
        SystemRandom(),
        [IPv4Network("10.0.0.0/24")],
    )
    for name in ("run", "state"):
        (tmp_path / name).mkdir()
    await files.begin(tmp_path / "state", (born.cluster, born.node, born.ingress))
    identity.save(tmp_path / "state", born.identity)
    made = Manager(tmp_path, born)
    await made.start()
    yield made
    await made.end()


@pytest.fixture
async def link(manager: Manager) -> AsyncIterator[ManagerLink]:
    """Name: link. Scope: function. Depends: manager. What meshnetd has of it."""
    async with AsyncExitStack() as stack:
        made = ManagerLink(manager.path / "run", manager.identity)
        stack.push_async_callback(made.close)
        running = asyncio.ensure_future(made.run())
        stack.callback(running.cancel)
        yield made


async def test_it_serves_the_cluster_and_ends_in_order(manager: Manager, link: ManagerLink):
    await link.started()
    assert [found.id for found in await link.store.list(pb.Cluster)] == [
        manager.identity.cluster_id
    ]
    said = (await link.status()).process
    assert (said.error, said.sessions) == ("", 0)
    assert said.revision >= 1
    assert said.memory_bytes > 10e6
    assert (manager.path / "run/manager.sock").stat().st_mode & 0o777 == 0o600
    assert manager.process is not None
    assert resource.prlimit(manager.process.pid, resource.RLIMIT_CORE)[0] == 0
    assert await manager.end() == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_nothing_is_lost_when_it_ends(
    manager: Manager, link: ManagerLink, how: signal.Signals
):
    await link.started()
    await link.store.commit([Put(pb.Config(id="a"))], {(pb.Config, "a"): 0})
    await manager.end(how)
    reading = asyncio.ensure_future(link.store.get(pb.Config, "a"))
    await until("its absence is seen", lambda: bool(link.store.trouble))
    assert (await link.status()).process.error == "it does not answer"
    await manager.start()
    assert await reading is not None
    assert await link.store.get(pb.Node, manager.identity.node_id) is not None
    await until("it answers again", lambda: not link.store.trouble)


async def test_it_stands_by_where_there_is_no_cluster_and_is_woken_to_manage(
    manager: Manager, link: ManagerLink
):
    run, state = manager.path / "run", manager.path / "state"
    await link.started()
    await manager.end()
    identity.wipe(state)
    draft = state / ".store.key.ab"  # as meshnetd writes one for an init
    draft.touch()
    await manager.start()
    await until("it stands by", lambda: standby.waits(run))
    assert draft.exists()
    manager_process.start(run, state)  # too early: there is still nothing to manage
    identity.save(state, manager.identity)
    manager_process.start(run, state)
    await until("it manages", lambda: listens(run / MANAGER_SOCKET))
    await link.started()
    assert not draft.exists()
    assert not standby.waits(run)
    await manager.end()
    identity.wipe(state)
    await manager.start()
    await until("it stands by again", lambda: standby.waits(run))
    assert await manager.end() == 0
    assert not (run / standby.SOCKET).exists()


async def test_what_a_crash_left_half_written_goes_with_the_next_start(
    manager: Manager, link: ManagerLink
):
    await link.started()
    await manager.end(signal.SIGKILL)
    left = [manager.path / "state" / name for name in (".store.key.ab", "..copy.ab.tar.cd")]
    for path in left:
        path.touch()
    await manager.start()
    await until("it is removed", lambda: not any(path.exists() for path in left))


async def test_it_is_backed_up_also_while_its_node_cannot_go_on(
    manager: Manager, link: ManagerLink, tmp_path: Path
):
    await link.started()
    places = Places(run_dir=manager.path / "run", state_dir=manager.path / "state")
    engine = EngineClient(f"unix://{tmp_path}/nobody")
    node = Node(places, engine, "h1", lambda work, _: asyncio.ensure_future(work))
    with pytest.raises(ControlError, match="this node is not a manager"):
        await node.backup(tmp_path / "file")
    node._found = manager.identity  # as after a resume that failed
    said = await node.backup(tmp_path / "file")
    await engine.close()
    assert said.cluster_id == manager.identity.cluster_id
    assert archive.read_manifest(tmp_path / "file").node_id == manager.identity.node_id


async def test_what_it_cannot_begin_is_said_and_tried_again(manager: Manager, link: ManagerLink):
    await link.started()
    await manager.end()
    host, _, port = manager.identity.listen_addr.rpartition(":")
    with socket.create_server((host, int(port))):
        await manager.start()
        await until("it says why", lambda: bool(link.error))
        assert link.error == f"listen tcp {host}:{port}: bind: address already in use"
        with pytest.raises(ControlError, match="address already in use"):
            await link.started()
    await until("it serves", lambda: not link.error)
    assert await link.store.get(pb.Node, manager.identity.node_id) is not None


KEY = b"k" * 32


async def lock(manager: Manager, link: ManagerLink) -> None:
    """Have the keys of its store locked; it has ended then."""
    await link.started()
    locked = False
    while not locked:
        (cluster,) = await link.store.list(pb.Cluster)
        cluster.unlock_key = KEY
        at = {(pb.Cluster, cluster.id): cluster.version.index}
        with suppress(OutOfSequenceError):  # its leader has written meanwhile
            await link.store.commit([Put(cluster)], at)
            locked = True
    await manager.end()


async def test_a_store_that_was_locked_at_its_birth_serves_at_once(
    manager: Manager, link: ManagerLink
):
    await lock(manager, link)
    await manager.start()
    fresh = ManagerLink(manager.path / "run", manager.identity)
    running = asyncio.ensure_future(fresh.run())
    try:
        await fresh.started(KEY)
        assert (fresh.locked, fresh.error) == (False, "")
    finally:
        running.cancel()
        await fresh.close()


async def test_a_locked_store_waits_for_its_key(manager: Manager, link: ManagerLink):
    await lock(manager, link)
    await manager.start()
    await until("it says that it is locked", lambda: link.locked)
    assert link.error == LOCKED
    assert (await link.unlock(b"x" * 32)).locked
    assert not (await link.unlock(KEY)).error
    assert not link.locked
    assert await link.store.get(pb.Node, manager.identity.node_id) is not None


async def test_the_right_key_is_kept_while_something_else_is_in_the_way(
    manager: Manager, link: ManagerLink
):
    await lock(manager, link)
    host, _, port = manager.identity.listen_addr.rpartition(":")
    with socket.create_server((host, int(port))):
        await manager.start()
        await until("it says that it is locked", lambda: link.locked)
        said = await link.unlock(KEY)
        assert (said.locked, "address already in use" in said.error) == (False, True)
    await until("it serves", lambda: not link.error)


async def test_a_host_that_is_no_manager_has_none(manager: Manager):
    await manager.end()
    identity.save(manager.path / "state", replace(manager.identity, role="worker"))
    await manager.start()
    assert manager.process is not None
    assert await manager.process.wait() == 1


async def test_logs_of_nothing_end(link: ManagerLink):
    await link.started()
    asked = mpb.LogRequest(service="none", options=pb.LogOptions(stdout=True))
    assert b"".join([data async for data in link.logs.read(asked)]) == b""


async def test_a_log_that_is_followed_says_that_the_manager_ended(
    manager: Manager, link: ManagerLink
):
    await link.started()
    asked = mpb.LogRequest(service="none", options=pb.LogOptions(stdout=True, follow=True))
    reading = link.logs.read(asked)
    assert await anext(reading) == b"", "each second, that a client that has gone is noticed"
    await manager.end(signal.SIGKILL)
    rest = b"".join([data async for data in reading])
    assert b"meshnet-manager ended" in rest


def test_what_meshnetd_knows_arrives_as_it_was():
    certs = identity.Certificates(b"key", b"certificate", b"root")
    hosts = Hosts(gone={"a"}, there={"b", "c"}, unreached={"b": {"c", "d"}})
    said = mpb.NodeNews.FromString(news(certs, hosts).SerializeToString())
    assert (certs_of(said), hosts_of(said)) == (certs, hosts)
