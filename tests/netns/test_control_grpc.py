"""The control plane over real gRPC and TLS on the loopback interface of this machine.

Nothing but ephemeral ports of 127.0.0.1 is touched.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

import grpc
import pytest

from meshnet import drops
from meshnet.errors import ControlError
from meshnet.gossip.signing import Signer
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.cluster import gossip_ring
from meshnet_control.cluster.hosts import Hosts
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.identity import ca, tokens
from meshnet_control.identity.channel import channel
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.manager.dispatcher import AWAY, FAILED, LEFT, NO_WAY
from meshnet_control.manager.server import ControlServer
from meshnet_control.node import dispatcher_client
from meshnet_control.store.faulty import FaultyStore
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Delete, Put

pytestmark = pytest.mark.netns

WORKER, MANAGER = b"w" * 16, b"m" * 16
CLUSTER = "cluster0000000000000000001"
DESCRIPTION = pb.NodeDescription(hostname="w1")


class Cluster:
    def __init__(self, store, server, identity):
        self.store, self.server, self.identity = store, server, identity
        self.remote = f"127.0.0.1:{server.port}"
        self.worker_token = tokens.join_token(identity.certs.root, WORKER)
        self.manager_token = tokens.join_token(identity.certs.root, MANAGER)

    async def join(self, token=None, **options):
        return await dispatcher_client.join(
            token or self.worker_token, [self.remote], DESCRIPTION, **options
        )

    async def node(self, node_id):
        return await self.store.get(pb.Node, node_id)

    async def has_state(self, node_id, state):
        node = await self.node(node_id)
        return node is not None and node.status.state == state

    async def put_task(self, node_id, task_id="t1", state=pb.TASK_STATE_ASSIGNED):
        task = pb.Task(id=task_id, node_id=node_id, desired_state=pb.TASK_STATE_RUNNING)
        task.status.state = state
        await self.store.commit([Put(task)])


def manager_identity(root, root_key):
    key, csr = ca.new_csr()
    leaf = ca.issue(root, root_key, csr, "m1", "manager", CLUSTER, time.time())
    return Identity(
        node_id="m1", cluster_id=CLUSTER, role="manager", certs=Certificates(key, leaf, root)
    )


@asynccontextmanager
async def running(path, period_s=5.0):
    root, root_key = ca.new_root(CLUSTER, time.time())
    cluster = pb.Cluster(id=CLUSTER, ca_certificate=root, ca_key=root_key, gossip_keys=[b"k" * 32])
    cluster.join_tokens.worker = tokens.join_token(root, WORKER)
    cluster.join_tokens.manager = tokens.join_token(root, MANAGER)
    cluster.spec.dispatcher.heartbeat_period = int(period_s * 1e9)
    store = FaultyStore(SqliteStore.open(path / "store.db", path / "store.key"))
    manager = pb.Node(id="m1")
    manager.spec.role = "manager"
    await store.commit([Put(cluster), Put(manager)])
    identity = manager_identity(root, root_key)
    server = ControlServer(store, identity, listen="127.0.0.1:0", run_dir=path)
    await server.start()
    try:
        yield Cluster(store, server, identity)
    finally:
        await server.close()
        await store.close()


@pytest.fixture
async def cluster(tmp_path):
    async with running(tmp_path) as made:
        yield made


class Agent:
    """A DispatcherClient and everything it was told."""

    def __init__(self, identity, **options):
        self.states: list[NodeState] = []
        self.identities: list[Identity] = []
        self.removed = False
        self.changed = asyncio.Event()
        self.session = dispatcher_client.DispatcherClient(
            identity,
            DESCRIPTION,
            self._take,
            on_removed=self._gone,
            on_identity=self.identities.append,
            **options,
        )
        self.job = asyncio.create_task(self.session.run())

    def _take(self, state):
        self.states.append(state)
        self.changed.set()

    def _gone(self):
        self.removed = True

    @property
    def tasks(self):
        return {task.id: task for task in self.states[-1].tasks} if self.states else {}

    async def stop(self):
        self.job.cancel()
        with suppress(asyncio.CancelledError):
            await self.job


@pytest.fixture
async def agents():
    made = []

    def make(identity, **options):
        made.append(Agent(identity, **options))
        return made[-1]

    yield make
    for agent in made:
        await agent.stop()


async def until(what, seconds=30.0):
    async with asyncio.timeout(seconds):
        while True:
            found = what()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.005)


# ---- join ----


async def test_a_workers_token_makes_a_worker(cluster):
    joined = await cluster.join(cluster.worker_token, advertise_addr="127.0.0.7:2377")
    node = await cluster.node(joined.node_id)
    assert (joined.role, node.spec.role, joined.cluster_id) == ("worker", "worker", CLUSTER)
    assert (node.status.addr, node.description.hostname) == ("127.0.0.7", "w1")
    assert node.description.gossip_key == Signer(joined.gossip_key).public, "before they meet"
    who = ca.peer(joined.certs.certificate, joined.certs.root, {})
    assert who == ca.Peer("node", joined.node_id, "worker")


async def test_a_node_behind_a_router_is_known_by_two_addresses(cluster):
    joined = await cluster.join(
        cluster.worker_token, advertise_addr="203.0.113.5:2377", data_path_addr="127.0.0.7"
    )
    node = await cluster.node(joined.node_id)
    assert (node.status.addr, node.status.data_path_addr) == ("203.0.113.5", "127.0.0.7")


async def test_a_managers_token_makes_a_manager_whose_certificate_names_its_address(cluster):
    joined = await cluster.join(cluster.manager_token, advertise_addr="127.0.0.7:2377")
    node = await cluster.node(joined.node_id)
    assert (joined.role, node.spec.role) == ("manager", "manager")
    assert not node.HasField("manager_status"), "not before it has a vote"
    who = ca.peer(joined.certs.certificate, joined.certs.root, {})
    assert who == ca.Peer("node", joined.node_id, "manager")
    assert ca.addresses(joined.certs.certificate) == ["127.0.0.7"]


async def test_who_could_not_become_a_manager_resigns_and_the_last_one_cannot(cluster):
    joined = await cluster.join(cluster.manager_token)
    await _was_ready(cluster, joined.node_id)
    assert await dispatcher_client.leave(joined, resigns=True)
    node = await cluster.node(joined.node_id)
    assert (node.spec.role, node.status.state, node.status.message) == ("worker", "down", LEFT)
    own = replace(cluster.identity, managers=(cluster.remote,))
    assert await dispatcher_client.leave(own, resigns=True)
    assert (await cluster.node("m1")).spec.role == "manager"


async def test_the_last_manager_is_not_forgotten_though_it_was_never_ready(cluster):
    node = await cluster.node("m1")
    node.status.Clear()
    node.status.state = "unknown"
    await cluster.store.commit([Put(node)])
    own = replace(cluster.identity, managers=(cluster.remote,))
    assert await dispatcher_client.leave(own, resigns=True)
    assert (await cluster.node("m1")).spec.role == "manager"


async def _was_ready(cluster, node_id):
    node = await cluster.node(node_id)
    node.status.state = "ready"
    await cluster.store.commit([Put(node)])


@pytest.mark.parametrize("role", ["worker", "manager"])
async def test_who_could_not_become_a_node_is_forgotten_unless_it_was_ready(cluster, role):
    for ready in (False, True):
        joined = await cluster.join(*([cluster.manager_token] if role == "manager" else []))
        if ready:
            await _was_ready(cluster, joined.node_id)
        assert await dispatcher_client.leave(joined, resigns=True)
        found = await cluster.store.get(pb.Node, joined.node_id)
        assert (found.status.state if found is not None else None) == ("down" if ready else None)


async def test_a_worker_that_is_given_an_address_as_it_resigns_is_forgotten_all_the_same(cluster):
    joined = await cluster.join()

    async def the_leader_gives_it_one() -> None:
        node = await cluster.node(joined.node_id)
        node.ingress_address = "10.0.0.5/24"
        await cluster.store.commit([Put(node)])

    cluster.store.meanwhile = the_leader_gives_it_one
    assert await dispatcher_client.leave(joined, resigns=True)
    assert await cluster.node(joined.node_id) is None


async def test_a_wrong_secret_is_refused_in_the_handshake(cluster):
    token = tokens.join_token(cluster.identity.certs.root, b"?" * 16)
    with pytest.raises(ControlError, match="A valid join token is necessary to join this cluster"):
        await cluster.join(token)
    assert len(await cluster.store.list(pb.Node)) == 1


async def test_a_manager_of_another_cluster_is_refused_by_its_fingerprint(cluster):
    other, _ = ca.new_root("other", time.time())
    token = tokens.join_token(other, WORKER)
    with pytest.raises(
        ControlError, match=r"remote CA does not match fingerprint\. Expected: [0-9a-f]{64}"
    ):
        await cluster.join(token)


async def test_a_host_whose_way_the_ingress_network_would_take_is_refused(cluster):
    ingress = pb.Network(id="i1", spec=pb.NetworkSpec(name="ingress", ingress=True))
    ingress.ipam_options.configs.add(subnet="10.0.0.0/24")
    await cluster.store.commit([Put(ingress)])
    before = len(await cluster.store.list(pb.Node))
    lan = (IPv4Network("10.0.0.0/16"), "eth0")
    why = r"ingress network 10\.0\.0\.0/24 overlaps 10\.0\.0\.0/16 dev eth0, a route of this host"
    with pytest.raises(ControlError, match=why):
        await cluster.join(routes=[lan])
    assert len(await cluster.store.list(pb.Node)) == before
    six = (IPv6Network("fd00::/48"), "vpn0")
    assert await cluster.join(routes=[(IPv4Network("10.1.0.0/16"), "eth0"), six])
    ingress.ipam_options.configs.add(subnet="fd00::/64")
    await cluster.store.commit([Put(ingress)])
    with pytest.raises(ControlError, match="ingress network fd00::/64 overlaps fd00::/48 dev vpn0"):
        await cluster.join(routes=[six])


async def test_a_closed_port_is_said_at_once():
    root, _ = ca.new_root("c", time.time())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        remote = f"127.0.0.1:{taken.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(ControlError, match="connection refused"):
            await dispatcher_client.join(tokens.join_token(root, WORKER), [remote], DESCRIPTION)
    assert time.monotonic() - began < 2


async def test_a_silent_port_ends_in_a_timeout():
    root, _ = ca.new_root("c", time.time())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        remote = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ControlError, match="Timeout was reached before node joined"):
            await dispatcher_client.join(
                tokens.join_token(root, WORKER), [remote], DESCRIPTION, timeout_s=0.5
            )


async def test_a_rotated_token_counts_from_the_next_connection_on(cluster):
    fresh = tokens.join_token(cluster.identity.certs.root, b"n" * 16)
    stored = await cluster.store.get(pb.Cluster, CLUSTER)
    stored.join_tokens.worker = fresh
    await cluster.store.commit([Put(stored)])

    async def joins():
        with suppress(ControlError):
            return await cluster.join(fresh)

    await until(joins)
    with pytest.raises(ControlError, match="valid join token"):
        await cluster.join(cluster.worker_token)
    assert (await cluster.join(cluster.manager_token)).role == "manager"  # its secret still counts


async def test_a_joiner_may_call_nothing_but_issue(cluster):
    leaf, key = ca.join_leaf(MANAGER, time.time())
    async with channel(
        cluster.remote, Certificates(key, leaf, cluster.identity.certs.root)
    ) as link:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await control_pb2_grpc.MembershipStub(link).Leave(pb.LeaveRequest(), timeout=5)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_without_a_certificate_there_is_no_connection(cluster):
    credentials = grpc.ssl_channel_credentials(cluster.identity.certs.root)
    options = [("grpc.ssl_target_name_override", ca.MANAGER_NAME), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.secure_channel(cluster.remote, credentials, options=options) as link:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await control_pb2_grpc.CAStub(link).Issue(pb.IssueRequest(), timeout=3)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_workers_certificate_is_no_manager_to_anyone(cluster, tmp_path):
    worker = await cluster.join()
    store = SqliteStore.open(tmp_path / "false.db", tmp_path / "false.key")
    stored = await cluster.store.get(pb.Cluster, CLUSTER)
    await store.commit([Put(stored)])
    false = ControlServer(store, worker, listen="127.0.0.1:0", run_dir=tmp_path / "false")
    await false.start()
    try:
        assert not await dispatcher_client.leave(
            replace(worker, managers=(f"127.0.0.1:{false.port}",))
        )
    finally:
        await false.close()
        await store.close()


# ---- sessions ----


async def test_a_session_makes_the_node_ready_and_brings_assignments(cluster, agents):
    joined = await cluster.join()
    agent = agents(joined, addr="127.0.0.9")
    await until(lambda: cluster.has_state(joined.node_id, "ready"))
    expected = [(joined.node_id, "127.0.0.9", "w1")]

    def seen():
        nodes = agent.states[-1].nodes if agent.states else ()
        return [(node.id, node.addr, node.hostname) for node in nodes]

    await until(lambda: seen() == expected)
    state = agent.states[-1]
    assert state.settings.cluster_id == CLUSTER
    assert list(state.settings.gossip_keys) == [b"k" * 32]
    node = await cluster.node(joined.node_id)
    assert node.description.tls_info.trust_root.encode() == joined.certs.root


async def test_changes_arrive_as_differences_within_milliseconds(cluster, agents):
    joined = await cluster.join()
    agent = agents(joined)
    await until(lambda: agent.states and agent.states[-1].nodes)
    took = []
    for number in range(20):
        await asyncio.sleep(0.02)
        began = time.monotonic()
        await cluster.put_task(joined.node_id, f"t{number}")
        while f"t{number}" not in agent.tasks:
            agent.changed.clear()
            await asyncio.wait_for(agent.changed.wait(), 30)
        took.append(time.monotonic() - began)
    assert sorted(took)[10] < 0.05
    await cluster.store.commit([Delete(pb.Task, "t3")])
    await until(lambda: "t3" not in agent.tasks)
    assert len(agent.tasks) == 19


async def test_statuses_reach_the_store_and_only_grow(cluster, agents):
    joined = await cluster.join()
    agent = agents(joined)
    await cluster.put_task(joined.node_id)
    await cluster.put_task("someone-else", "t2")
    await until(lambda: agent.tasks)
    for task_id, state in [
        ("t1", pb.TASK_STATE_RUNNING),
        ("t1", pb.TASK_STATE_PREPARING),
        ("t2", pb.TASK_STATE_FAILED),
    ]:
        agent.session.report(task_id, pb.TaskStatus(state=state, message="said"))
        await asyncio.sleep(0.02)

    async def state_of(task_id):
        return (await cluster.store.get(pb.Task, task_id)).status.state

    async def is_running():
        return await state_of("t1") == pb.TASK_STATE_RUNNING

    await until(is_running)
    agent.session.report("t1", pb.TaskStatus(state=pb.TASK_STATE_COMPLETE))
    await until(lambda: agent.tasks["t1"].status.state == pb.TASK_STATE_COMPLETE)
    assert await state_of("t2") == pb.TASK_STATE_ASSIGNED


async def test_a_node_whose_address_cannot_be_reaches_nobody(cluster, agents):
    joined = await cluster.join()
    liar = agents(joined, addr="10.0.0.999")
    await until(lambda: "is not an IPv4 address" in liar.session.error)
    assert not await cluster.has_state(joined.node_id, "ready")
    with pytest.raises(ControlError, match="is not the address of a host"):
        await cluster.join(advertise_addr="255.255.255.255:2377")


def refused():
    """How many statuses were."""
    return drops.snapshot().get("manager: status of a task that cannot be", 0)


async def test_a_node_reports_its_own_tasks_alone_and_only_what_agents_report(cluster, agents):
    joined = await cluster.join()
    agent = agents(joined)
    await cluster.put_task(joined.node_id)
    await cluster.put_task("someone-else", "t2")
    await until(lambda: agent.tasks)
    before = refused()
    agent.session.report("t2", pb.TaskStatus(state=pb.TASK_STATE_FAILED))
    agent.session.report("t1", pb.TaskStatus(state=pb.TASK_STATE_ORPHANED))
    await until(lambda: refused() == before + 2)
    agent.session.report("t1", pb.TaskStatus(state=pb.TASK_STATE_RUNNING, err="x" * 100_000))

    async def is_running():
        return (await cluster.store.get(pb.Task, "t1")).status.state == pb.TASK_STATE_RUNNING

    await until(is_running)
    assert (await cluster.store.get(pb.Task, "t2")).status.state == pb.TASK_STATE_ASSIGNED


async def test_statuses_survive_a_restart_of_the_manager(cluster, agents, tmp_path):
    joined = await cluster.join()
    await cluster.put_task(joined.node_id)
    agent = agents(joined)
    await until(lambda: agent.tasks)
    port = cluster.server.port
    await cluster.server.close()
    await until(lambda: not agent.session.connected)
    agent.session.report("t1", pb.TaskStatus(state=pb.TASK_STATE_RUNNING))
    again = ControlServer(
        cluster.store, cluster.identity, listen=f"127.0.0.1:{port}", run_dir=tmp_path
    )
    await again.start()
    try:

        async def is_running():
            task = await cluster.store.get(pb.Task, "t1")
            return task.status.state == pb.TASK_STATE_RUNNING

        await until(is_running)
    finally:
        await again.close()


async def test_a_node_that_stops_beating_is_down_and_ready_again_later(agents, tmp_path):
    async with running(tmp_path, period_s=0.3) as cluster:
        joined = await cluster.join()
        agent = agents(joined)
        await until(lambda: cluster.has_state(joined.node_id, "ready"))
        await agent.stop()
        await until(lambda: cluster.has_state(joined.node_id, "down"))
        assert (await cluster.node(joined.node_id)).status.message == FAILED
        back = agents(joined)
        await until(lambda: cluster.has_state(joined.node_id, "ready"))
        await back.stop()


async def test_a_broken_stream_of_a_host_that_is_gone_is_down_at_once(cluster, agents):
    joined = await cluster.join()
    agent = agents(joined)
    await until(lambda: cluster.has_state(joined.node_id, "ready"))
    cluster.server.hosts(Hosts(gone={joined.node_id}))
    await asyncio.sleep(0.5)
    assert await cluster.has_state(joined.node_id, "ready"), "its stream speaks"
    began = time.monotonic()
    await agent.stop()
    await until(lambda: cluster.has_state(joined.node_id, "down"))
    assert time.monotonic() - began < 1


async def test_a_daemon_that_is_away_keeps_its_tasks_while_its_host_answers(agents, tmp_path):
    async with running(tmp_path, period_s=0.2) as cluster:
        joined = await cluster.join()
        agent = agents(joined)
        await until(lambda: cluster.has_state(joined.node_id, "ready"))
        cluster.server.hosts(Hosts(there={joined.node_id}))
        await agent.stop()
        await until(lambda: cluster.has_state(joined.node_id, "unknown"))
        assert (await cluster.node(joined.node_id)).status.message == AWAY
        await asyncio.sleep(1.0)
        assert await cluster.has_state(joined.node_id, "unknown")
        back = agents(joined)
        await until(lambda: cluster.has_state(joined.node_id, "ready"))
        await back.stop()
        cluster.server.hosts(Hosts(gone={joined.node_id}))
        await until(lambda: cluster.has_state(joined.node_id, "down"))


async def test_a_way_that_is_cut_is_said_in_the_node_and_no_longer_when_it_is_mended(
    cluster, agents
):
    joined = await cluster.join()
    agent = agents(joined)
    await until(lambda: cluster.has_state(joined.node_id, "ready"))

    async def said(*messages):
        return (await cluster.node(joined.node_id)).status.message in messages

    other = (await cluster.join()).node_id
    cluster.server.hosts(Hosts(unreached={joined.node_id: {other}, other: set()}))
    name = (await cluster.node(other)).description.hostname or other
    await until(lambda: said(f"{NO_WAY} {name}", f"{NO_WAY} {other}"))  # its name may come later
    assert await cluster.has_state(joined.node_id, "ready")
    cluster.server.hosts(Hosts())
    await until(lambda: said(""))
    await agent.stop()


async def test_who_leaves_is_down_and_who_is_deleted_is_removed(cluster, agents):
    leaving, deleted = await cluster.join(), await cluster.join()
    first, second = agents(leaving), agents(deleted)
    for node_id in (leaving.node_id, deleted.node_id):
        await until(lambda node_id=node_id: cluster.has_state(node_id, "ready"))
    await first.stop()
    assert await dispatcher_client.leave(leaving)
    node = await cluster.node(leaving.node_id)
    assert (node.status.state, node.status.message) == ("down", LEFT)
    await cluster.store.commit([Delete(pb.Node, deleted.node_id)])
    await until(lambda: second.removed)
    late = agents(deleted)
    await until(lambda: late.removed)


async def test_a_promoted_node_gets_a_managers_certificate(cluster, agents):
    joined = await cluster.join()
    agent = agents(joined)
    await until(lambda: cluster.has_state(joined.node_id, "ready"))
    node = await cluster.node(joined.node_id)
    node.spec.role = "manager"
    await cluster.store.commit([Put(node)])
    await until(lambda: any(i.role == "manager" for i in agent.identities))
    fresh = agent.session.identity
    who = ca.peer(fresh.certs.certificate, fresh.certs.root, {})
    assert who == ca.Peer("node", joined.node_id, "manager")
    assert fresh.certs.key != joined.certs.key


async def test_the_next_manager_is_tried(cluster, agents):
    joined = await cluster.join()
    agent = agents(replace(joined, managers=("127.0.0.1:1", cluster.remote)))
    await until(lambda: cluster.has_state(joined.node_id, "ready"))
    await until(lambda: agent.session.connected)


async def test_a_taken_port_is_named(cluster, tmp_path):
    other = ControlServer(
        cluster.store, cluster.identity, listen=cluster.remote, run_dir=tmp_path / "other"
    )
    expected = f"listen tcp {cluster.remote}: bind: address already in use"
    with pytest.raises(ControlError) as refused:
        await other.start()
    assert str(refused.value) == expected


async def test_a_new_key_of_gossip_seals_when_all_that_are_connected_have_it(cluster, agents):
    here = agents(await cluster.join())
    away = await cluster.join()
    await until(lambda: here.states)
    for node_id in ("m1", away.node_id):  # neither has a session
        node = await cluster.node(node_id)
        node.status.state = "down"
        await cluster.store.commit([Put(node)])
    stored = await cluster.store.get(pb.Cluster, CLUSTER)
    old = list(stored.gossip_keys)
    gossip_ring.want(stored)
    await cluster.store.commit([Put(stored)])

    def keys():
        return list(here.states[-1].settings.gossip_keys)

    await until(lambda: len(keys()) == 2 and keys()[1:] == old)
    told = [list(state.settings.gossip_keys) for state in here.states]
    assert [*old, keys()[0]] in told, "it could open before anybody sealed"
    late = agents(away)
    await until(lambda: late.states)
    assert list(late.states[0].settings.gossip_keys) == keys()
