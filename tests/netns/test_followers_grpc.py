"""A manager that does not lead: what it answers to nodes and to other managers.

Nothing but ephemeral ports of 127.0.0.1 is touched.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest

from meshnet import ends
from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc, manager_pb2_grpc
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.identity import ca
from meshnet_control.identity.channel import channel
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.identity.referral import NOT_LEADING, leader_of
from meshnet_control.manager import managers_client
from meshnet_control.manager.dispatcher import LEFT
from meshnet_control.manager.leadership import Term
from meshnet_control.manager.managers_client import Admission, ask_to_join
from meshnet_control.manager.members import OneMember
from meshnet_control.manager.membership import Member, Picture
from meshnet_control.manager.server import ControlServer
from meshnet_control.node.dispatcher_client import ANSWER_S, DOUBT_S, DispatcherClient
from meshnet_control.node.turns import REACH_S
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put

pytestmark = pytest.mark.netns

CLUSTER = "cluster0000000000000000001"
OTHER = "127.0.0.1:9"


class Elections:
    """A ``Leadership``: who leads is what a test says."""

    def __init__(self, store: SqliteStore, own: str, other: str) -> None:
        self._own, self._other = own, other
        self.leader = other
        self._store, self._term = store, Term(store)
        self._term.over.set()
        self._elected = asyncio.Event()

    def elect(self) -> None:
        self.leader, self._term = self._own, Term(self._store)
        self._elected.set()

    def depose(self) -> None:
        self.leader = self._other
        self._elected.clear()
        self._term.over.set()

    async def term(self) -> Term:
        while self._term.over.is_set():
            await self._elected.wait()
            await asyncio.sleep(0)
        return self._term


class Door(OneMember):
    """Who the managers are, and who asked to be one of them."""

    def __init__(self, own: int) -> None:
        super().__init__(f"m{own}", "127.0.0.1:1")
        self._own = own
        self.addresses = {"m1": "127.0.0.1:1", "m2": OTHER}
        self.asked: list[tuple[str, str]] = []

    async def look(self, nodes: Mapping[str, pb.Node]) -> tuple[Picture, Mapping[str, str]]:
        members = [Member(n, f"m{n}", "", learner=False) for n in (1, 2)]
        return Picture(nodes, members, {"m1", "m2"}, own=self._own, learning={}), self.addresses

    generation = 0

    async def is_member(self, node_id: str) -> bool:
        return node_id in self.addresses

    async def admit(self, node_id: str, peer: str) -> Admission:
        self.asked.append((node_id, peer))
        return Admission({node_id: peer}, (b"k" * 32,), b"lock")


class Bed:
    """One manager's server; another one ``of`` the same cluster has its store."""

    def __init__(self, path: Path, of: Bed | None = None) -> None:
        own, other = ("m1", "m2") if of is None else ("m2", "m1")
        if of is None:
            self.root, self.root_key = ca.new_root(CLUSTER, time.time())
            self.store = SqliteStore.open(path / "store.db", path / "store.key")
        else:
            self.root, self.root_key, self.store = of.root, of.root_key, of.store
        self.elections, self.door = Elections(self.store, own, other), Door(int(own[1]))
        who = Identity(own, CLUSTER, "manager", self.certs(own, "manager"))
        self.server = ControlServer(
            self.store,
            who,
            listen="127.0.0.1:0",
            run_dir=path,
            leadership=self.elections,
            managers=self.door,
        )

    async def start(self) -> None:
        cluster = pb.Cluster(id=CLUSTER, ca_certificate=self.root, ca_key=self.root_key)
        nodes = [pb.Node(id=n, spec={"role": "manager"}) for n in ("m1", "m2", "m3")]
        nodes[1].manager_status.addr = OTHER
        worker = pb.Node(id="w1", spec={"role": "worker"})
        worker.status.state = "ready"
        await self.store.commit([Put(cluster), Put(worker), *map(Put, nodes)])
        await self.server.start()
        self.door.addresses["m1"] = self.remote

    def certs(self, name: str, role: ca.Role) -> Certificates:
        key, csr = ca.new_csr()
        leaf = ca.issue(self.root, self.root_key, csr, name, role, CLUSTER, time.time())
        return Certificates(key, leaf, self.root)

    def link(self, name: str, role: ca.Role = "worker") -> grpc.aio.Channel:
        return channel(self.remote, self.certs(name, role))

    @property
    def remote(self) -> str:
        return f"127.0.0.1:{self.server.port}"


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """Name: bed. Scope: function. A manager m1 that follows m2."""
    made = Bed(tmp_path)
    await made.start()
    yield made
    await made.server.close()
    await made.store.close()


async def session(
    link: grpc.aio.Channel,
) -> grpc.aio.StreamStreamCall[pb.SessionRequest, pb.SessionReply]:
    call = control_pb2_grpc.DispatcherStub(link).Session()
    await call.write(pb.SessionRequest(description=pb.NodeDescription(hostname="w1")))
    return call


async def refused(call: grpc.aio.StreamStreamCall[pb.SessionRequest, pb.SessionReply]) -> str:
    """Who leads, by the word with which a stream ends."""
    ended: grpc.aio.AioRpcError | None = None
    async with asyncio.timeout(20):
        while ended is None:
            try:
                assert isinstance(await call.read(), pb.SessionReply)
            except grpc.aio.AioRpcError as error:
                ended = error
    assert ended.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert NOT_LEADING in (ended.details() or "")
    return leader_of(ended) or ""


async def until_leader(bed: Bed, who: str | None) -> None:
    async with asyncio.timeout(20):
        while bed.server.leader() != who:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


async def test_a_stream_at_another_manager_ends_with_who_leads(bed: Bed):
    async with bed.link("w1") as link:
        assert await refused(await session(link)) == OTHER
        bed.elections.elect()
        await until_leader(bed, None)
        call = await session(link)
        said = await call.read()
        assert isinstance(said, pb.SessionReply)
        assert said.assignments.full
        bed.elections.depose()
        assert await refused(call) == OTHER


async def test_a_new_leader_gives_nodes_the_usual_time(bed: Bed):
    (cluster,) = await bed.store.list(pb.Cluster)
    cluster.spec.dispatcher.heartbeat_period = 500_000_000
    await bed.store.commit([Put(cluster)])
    began = time.monotonic()
    bed.elections.elect()
    async with asyncio.timeout(20):
        while True:
            node = await bed.store.get(pb.Node, "w1")  # it never comes
            assert node is not None
            if node.status.state == "down":
                break
            await asyncio.sleep(0.02)
    assert time.monotonic() - began >= 3 * 0.5


async def test_goodbyes_are_taken_by_any_manager(bed: Bed):
    async with bed.link("w1") as link:
        await control_pb2_grpc.MembershipStub(link).Leave(pb.LeaveRequest())
    node = await bed.store.get(pb.Node, "w1")
    assert node is not None
    assert (node.status.state, node.status.message) == ("down", LEFT)


class Node:
    """The session of the node w1."""

    def __init__(self, bed: Bed, *managers: str) -> None:
        who = Identity("w1", CLUSTER, "worker", bed.certs("w1", "worker"), managers=managers)
        self.states: list[NodeState] = []
        self.client = DispatcherClient(
            who, pb.NodeDescription(hostname="w1"), self.states.append, addr="127.0.0.9"
        )
        self._job = asyncio.create_task(self.client.run())

    async def at(self, remote: str) -> None:
        """Wait until it is served there."""
        async with asyncio.timeout(20):
            while not (self.client.connected and self.client.remote == remote):  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        await ends.ended(self._job)


@pytest.fixture
async def pair(bed: Bed, tmp_path: Path) -> AsyncIterator[tuple[Bed, Bed]]:
    """Name: pair. Scope: function. Depends: bed. Two that follow, until one is elected."""
    (tmp_path / "2").mkdir()
    second = Bed(tmp_path / "2", of=bed)
    await second.server.start()
    bed.door.addresses["m2"] = second.remote
    second.door.addresses = bed.door.addresses
    yield bed, second
    await second.server.close()


async def test_a_node_goes_on_with_who_leads_and_keeps_its_list(pair: tuple[Bed, Bed]) -> None:
    """It knows the one that follows alone; the other one it is told of, as in a handover."""
    first, second = pair
    second.elections.elect()
    await until_leader(second, None)
    await until_leader(first, second.remote)
    node = Node(first, first.remote)
    try:
        began = time.monotonic()
        await node.at(second.remote)
        assert time.monotonic() - began < 1.0
        assert set(node.client.identity.managers) >= {second.remote}
        node.client.identity = replace(node.client.identity, managers=(second.remote, first.remote))
        second.elections.depose()
        first.elections.elect()
        await node.at(first.remote)
    finally:
        await node.stop()


async def test_a_node_finds_the_next_leader_while_the_dead_ones_host_swallows_all(
    pair: tuple[Bed, Bed],
) -> None:
    first, _ = pair
    with socket.create_server(("127.0.0.1", 0), backlog=8) as silent:  # accepts, never answers
        dead = f"127.0.0.1:{silent.getsockname()[1]}"
        node = Node(first, dead, first.remote)
        try:
            began = time.monotonic()
            first.elections.elect()
            await node.at(first.remote)
            assert REACH_S - 0.1 < time.monotonic() - began < ANSWER_S
        finally:
            await node.stop()


async def test_a_leader_in_doubt_is_asked_and_left_when_it_says_nothing(bed: Bed) -> None:
    bed.elections.elect()
    await until_leader(bed, None)
    cut, through = asyncio.Event(), []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not cut.is_set():
                writer.write(data)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection("127.0.0.1", bed.server.port)
        through.extend([writer, inner[1]])
        await asyncio.gather(copy(reader, inner[1]), copy(inner[0], writer))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as cable:
        way = f"127.0.0.1:{cable.sockets[0].getsockname()[1]}"
        node = Node(bed, way)
        try:
            await node.at(way)
            node.client.doubt()
            await asyncio.sleep(2 * DOUBT_S)
            assert node.client.remote == way, "it answered"
            cut.set()
            began = time.monotonic()
            node.client.doubt()
            await node.at(bed.remote)
            assert time.monotonic() - began < 2 * DOUBT_S + 1
        finally:
            await node.stop()
            for writer in through:
                writer.close()


async def test_only_managers_are_let_in_by_who_leads(bed: Bed, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(managers_client, "ELECTION_S", 0.0)
    peer = "127.0.0.1:2380"
    with pytest.raises(ControlError, match="cannot join the other managers"):
        await ask_to_join([bed.remote], bed.certs("m3", "manager"), peer)
    bed.elections.elect()
    await until_leader(bed, None)
    strangers: tuple[tuple[str, ca.Role], ...] = (
        ("w1", "worker"),
        ("m3", "worker"),  # promoted, and not renewed yet
        ("w1", "manager"),  # was one
        ("m9", "manager"),  # of a node that is not there any more
    )
    for name, role in strangers:
        async with bed.link(name, role) as link:
            stub = control_pb2_grpc.ManagersStub(link)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await stub.Join(pb.ManagerJoinRequest(peer_addr=peer))
            logs = manager_pb2_grpc.LogsStub(link).Read(mpb.LogRequest())
            with pytest.raises(grpc.aio.AioRpcError) as unread:
                await logs.read()
            images = manager_pb2_grpc.ImagesStub(link).Push()
            with pytest.raises(grpc.aio.AioRpcError) as unpushed:
                await images.read()
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert unread.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert unpushed.value.code() is grpc.StatusCode.PERMISSION_DENIED
    async with bed.link("m3", "manager") as link:
        stub = control_pb2_grpc.ManagersStub(link)
        for wrong in ("", "h1:2380", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", "0.0.0.0:1"):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await stub.Join(pb.ManagerJoinRequest(peer_addr=wrong))
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert bed.door.asked == []
    found = await ask_to_join([bed.remote], bed.certs("m3", "manager"), peer)
    assert found == Admission({"m3": peer}, (b"k" * 32,), b"lock")
    assert bed.door.asked == [("m3", peer)]


async def test_whoever_is_sent_on_asks_who_leads(pair: tuple[Bed, Bed]):
    """The one that follows names the other, which lets in."""
    first, second = pair
    second.elections.elect()
    await until_leader(second, None)
    await until_leader(first, second.remote)
    await ask_to_join([first.remote], first.certs("m3", "manager"), "127.0.0.1:2380")
    assert second.door.asked
    assert not first.door.asked


async def test_who_joins_while_managers_elect_waits_for_the_next_leader(pair: tuple[Bed, Bed]):
    first, second = pair
    certs = first.certs("m3", "manager")
    asked = [first.remote, second.remote]
    joining = asyncio.create_task(ask_to_join(asked, certs, "127.0.0.1:2380"))
    await asyncio.wait({joining}, timeout=1.0)
    assert not joining.done(), "nobody leads yet"
    second.elections.elect()
    assert (await joining).peers == {"m3": "127.0.0.1:2380"}
    assert second.door.asked
