"""Questions to nodes over real gRPC and TLS on loopback: who may ask, who answers, who does not."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from meshnet import ends
from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.identity import ca, tokens
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.manager import questions as managers
from meshnet_control.manager.server import ControlServer
from meshnet_control.node import questions
from meshnet_control.node.dispatcher_client import DispatcherClient
from meshnet_control.node.questions import Questions
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put

pytestmark = pytest.mark.netns
CLUSTER = "cluster0000000000000000001"
ASKED = xpb.Question(balancing=xpb.BalancingQuestion())


class Node:
    """A node with its session; what it answers is its own name."""

    def __init__(self, identity):
        self.id = identity.node_id
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = asyncio.Event()
        self.questions = Questions(self._answer, self.id, f"host-{self.id}", lambda: self.manages)
        self.manages = identity.role == "manager"
        self._identity = identity
        self.job: asyncio.Task[None]

    async def _answer(self, question):
        self.asked.set()
        await self.answers.wait()
        if self.id == "w2":
            raise ControlError("the kernel says no")
        return xpb.Answer(balancing=xpb.BalancingAnswer(unread=[self.id]))

    def connect(self):
        session = DispatcherClient(
            self._identity,
            pb.NodeDescription(hostname=f"host-{self.id}"),
            lambda _: None,
            alongside=self.questions.run,
        )
        self.job = asyncio.create_task(session.run())


@pytest.fixture
async def nodes(tmp_path):
    """
    Name: nodes; Scope: function; Depends: nothing.

    A manager on a free port of 127.0.0.1, and the sessions of three nodes: m1 (its own), w1, w2.
    """
    now = time.time()
    root, root_key = ca.new_root(CLUSTER, now)
    stored = pb.Cluster(id=CLUSTER, ca_certificate=root, ca_key=root_key, gossip_keys=[b"k" * 32])
    stored.join_tokens.worker = tokens.join_token(root, b"w" * 16)
    store = SqliteStore.open(tmp_path / "store.db", tmp_path / "store.key")
    roles: dict[str, ca.Role] = {"m1": "manager", "w1": "worker", "w2": "worker"}
    known = [pb.Node(id=name, spec=pb.NodeSpec(role=role)) for name, role in roles.items()]
    await store.commit([Put(stored), *map(Put, known), Put(pb.Node(id="w3"))])

    def identity(name, managers=()):
        key, csr = ca.new_csr()
        leaf = ca.issue(root, root_key, csr, name, roles[name], CLUSTER, now)
        certs = Certificates(key, leaf, root)
        return Identity(
            node_id=name, cluster_id=CLUSTER, role=roles[name], certs=certs, managers=managers
        )

    server = ControlServer(store, identity("m1"), listen="127.0.0.1:0", run_dir=tmp_path)
    await server.start()
    made = {name: Node(identity(name, (f"127.0.0.1:{server.port}",))) for name in roles}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        stack.push_async_callback(server.close)
        for node in made.values():
            node.connect()
            stack.push_async_callback(ends.ended, node.job)
        async with asyncio.timeout(20):
            while not await all_listen(made["m1"]):  # noqa: ASYNC110 - that has no event
                await asyncio.sleep(0.01)
        yield made


async def ask(node):
    return await node.questions.ask(xpb.AskRequest(question=ASKED, all=True))


async def all_listen(manager):
    """All but w3, which has never been there."""
    return list(words(await ask(manager)).values()).count(managers.NOT_HERE) == 1


def words(reply):
    return {
        each.node_id: each.answer.error or each.answer.balancing.unread[0] for each in reply.answers
    }


async def test_every_node_answers_and_who_does_not_says_why(nodes):
    reply = await ask(nodes["m1"])
    assert words(reply) == {
        "m1": "m1",
        "w1": "w1",
        "w2": "the kernel says no",
        "w3": managers.NOT_HERE,
    }
    assert reply.answers[0].hostname == "host-m1"
    assert not reply.missing


async def test_a_worker_answers_for_itself_and_may_not_ask_others(nodes):
    reply = await ask(nodes["w1"])
    assert (words(reply), reply.missing) == ({"w1": "w1"}, questions.ONLY_MANAGERS)
    nodes["w1"].manages = True  # it says so; its certificate does not
    reply = await ask(nodes["w1"])
    assert words(reply) == {"w1": "w1"}
    assert "only managers may call this" in reply.missing


async def test_one_that_hangs_is_not_waited_for_and_holds_nobody_up(nodes):
    nodes["w1"].answers.clear()
    assert words(await ask(nodes["m1"]))["w1"] == managers.SILENT
    nodes["w1"].answers.set()
    assert words(await ask(nodes["m1"]))["w1"] == "w1"


async def test_a_node_that_goes_is_missing_at_once(nodes):
    nodes["w1"].answers.clear()
    nodes["w1"].asked.clear()
    asking = asyncio.create_task(ask(nodes["m1"]))
    await nodes["w1"].asked.wait()
    await ends.ended(nodes["w1"].job)
    assert words(await asking)["w1"] == managers.NOT_HERE
