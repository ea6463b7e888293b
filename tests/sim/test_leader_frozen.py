"""Real orchestrators on two managers: one is frozen in the middle of its decisions."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from virtual_run import run

from meshnet import ends
from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.etcd.fake import FakeEtcd, FakeMember
from meshnet_control.manager.leader import Manager
from meshnet_control.manager.leadership import EtcdLeadership
from meshnet_control.orchestrate.allocate import ingress_network
from meshnet_control.orchestrate.plan import Decision, Plan, decide
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import Put

LIVE = pb.TASK_STATE_RUNNING


async def at_once(now: Plan, at: float, rng: Rng) -> Decision:
    return decide(now, at, rng)


class Swarm:
    def __init__(self) -> None:
        self.etcd = FakeEtcd()
        self.members: list[FakeMember] = []
        self.leaderships: list[EtcdLeadership] = []
        self.stack = AsyncExitStack()

    async def manager(self, number: int) -> EtcdStore:
        member = self.etcd.member(number)
        member.latency_s = 0.01
        store = await EtcdStore.open(member, Sealer([bytes(32)]))
        self.stack.push_async_callback(store.close)
        leadership = EtcdLeadership(member, store, f"n{number}")
        clock = asyncio.get_running_loop().time
        manager = Manager(store, random.Random(number), clock, leadership, at_once)
        for work in (leadership.run(), manager.run()):
            self.stack.push_async_callback(ends.ended, asyncio.ensure_future(work))
        self.members.append(member)
        self.leaderships.append(leadership)
        return store


def objects() -> list[Put]:
    net = pb.Network(id="net")
    net.spec.name = "net"
    nodes = []
    for number in range(3):
        node = pb.Node(id=f"w{number}")
        node.spec.role, node.spec.availability = "worker", "active"
        node.description.hostname, node.status.state = f"host{number}", "ready"
        nodes.append(node)
    cluster = [Put(pb.Cluster(id="c")), Put(ingress_network(random.Random(1))), Put(net)]
    return [*cluster, *(Put(node) for node in nodes)]


def service(replicas: int) -> Put:
    made = pb.Service(id="web", spec_version=1)
    made.spec.name = "web"
    made.spec.mode.replicated.replicas = replicas
    made.spec.task_template.container_spec.image = "web:1"
    made.spec.task_template.networks.add(target="net")
    return Put(made)


async def scene(frozen_after_s: float) -> None:
    swarm = Swarm()
    async with swarm.stack:
        first = await swarm.manager(1)
        second = await swarm.manager(2)
        await first.commit(objects())
        await swarm.leaderships[0].term()
        await first.commit([service(5)])
        await asyncio.sleep(frozen_after_s)  # in the middle of deciding, or of writing
        swarm.members[0].freeze()
        swarm.etcd.elect(2)
        term = await swarm.leaderships[1].term()
        await second.commit([service(8)])
        await asyncio.sleep(2)
        swarm.members[0].thaw()
        await asyncio.sleep(2)
        assert not term.over.is_set()
        tasks = [t for t in await second.list(pb.Task) if t.desired_state == LIVE]
        assert Counter(t.slot for t in tasks) == dict.fromkeys(range(1, 9), 1)
        addresses = [a for t in tasks for n in t.networks_attachments for a in n.addresses]
        assert len(set(addresses)) == len(addresses) == 8
        assert await first.list(pb.Task) == await second.list(pb.Task)


@pytest.mark.parametrize("frozen_after_s", [0.0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.1, 0.3])
def test_nothing_is_started_twice(frozen_after_s: float) -> None:
    run(scene(frozen_after_s))
