"""A manager that does not lead: what it answers to nodes and to other managers.

Nothing but ephemeral ports of 127.0.0.1 is touched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import grpc
import grpc.aio
import pytest

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.identity import ca
from meshnet_control.identity.channel import channel
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.manager.dispatcher import LEFT
from meshnet_control.manager.leadership import Term
from meshnet_control.manager.managers_client import Admission, ask_to_join
from meshnet_control.manager.members import OneMember
from meshnet_control.manager.membership import Member, Picture
from meshnet_control.manager.referral import NOT_LEADING, leader_of
from meshnet_control.manager.server import ControlServer
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put

pytestmark = pytest.mark.netns

CLUSTER = "cluster0000000000000000001"
OTHER = "127.0.0.1:9"


class Elections:
    """A ``Leadership``: who leads is what a test says."""

    def __init__(self, store: SqliteStore) -> None:
        self.leader = "m2"
        self._store, self._term = store, Term(store)
        self._term.over.set()
        self._elected = asyncio.Event()

    def elect(self) -> None:
        self.leader, self._term = "m1", Term(self._store)
        self._elected.set()

    def depose(self) -> None:
        self.leader = "m2"
        self._elected.clear()
        self._term.over.set()

    async def term(self) -> Term:
        while self._term.over.is_set():
            await self._elected.wait()
            await asyncio.sleep(0)
        return self._term


class Door(OneMember):
    """Who the managers are, and who asked to be one of them."""

    def __init__(self) -> None:
        super().__init__("m1", "127.0.0.1:1")
        self.addresses = {"m1": "127.0.0.1:1", "m2": OTHER}
        self.asked: list[tuple[str, str]] = []

    async def look(self, nodes: Mapping[str, pb.Node]) -> tuple[Picture, Mapping[str, str]]:
        members = [Member(n, f"m{n}", "", learner=False) for n in (1, 2)]
        return Picture(nodes, members, {"m1", "m2"}, own=1, learning={}), self.addresses

    async def admit(self, node_id: str, peer: str) -> Admission:
        self.asked.append((node_id, peer))
        return Admission({node_id: peer}, (b"k" * 32,), b"lock")


class Bed:
    """One manager's server; another one ``of`` the same cluster has its store."""

    def __init__(self, path: Path, of: Bed | None = None) -> None:
        if of is None:
            self.root, self.root_key = ca.new_root(CLUSTER, time.time())
            self.store = SqliteStore.open(path / "store.db", path / "store.key")
        else:
            self.root, self.root_key, self.store = of.root, of.root_key, of.store
        self.elections, self.door = Elections(self.store), Door()
        who = Identity("m1", CLUSTER, "manager", self.certs("m1", "manager"))
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
    return leader_of(ended)


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


async def test_only_managers_are_let_in_by_who_leads(bed: Bed):
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
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
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


async def test_whoever_is_sent_on_asks_who_leads(bed: Bed, tmp_path: Path):
    """Two managers: the one that follows names the other, which lets in."""
    (tmp_path / "2").mkdir()
    second = Bed(tmp_path / "2", of=bed)
    await second.server.start()
    try:
        second.door.addresses["m2"] = second.remote
        second.elections.elect()
        await until_leader(second, None)
        await until_leader(bed, second.remote)
        await ask_to_join([bed.remote], bed.certs("m3", "manager"), "127.0.0.1:2380")
        assert second.door.asked
        assert not bed.door.asked
    finally:
        await second.server.close()
