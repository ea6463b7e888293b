"""Moves one after the other, on the store in memory, with orchestration that answers each."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.node.rebalancing import rebalanced
from meshnet_control.orchestrate.store_view import StoreView
from meshnet_control.orchestrate.tasks import new_task
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put

NOW = 1_700_000_000.0
NODES = ("n0", "n1", "n2")


@pytest.fixture
async def store(tmp_path):
    made = SqliteStore.open(tmp_path / "store.db", tmp_path / "store.key")
    yield made
    await made.close()


async def fill(store, where):
    """A cluster of three, and the service and the randomness of its tasks."""
    rng = random.Random(1)
    service = pb.Service(id="web", spec_version=1)
    service.spec.name = "web"
    service.spec.mode.replicated.replicas = len(where)
    nodes = []
    for name in NODES:
        node = pb.Node(id=name)
        node.description.hostname, node.status.state = f"host-{name}", "ready"
        nodes.append(node)
    view = StoreView.of([*nodes, service])
    tasks = []
    for slot, name in enumerate(where, 1):
        task = new_task(service, slot, view, NOW, rng)
        task.node_id, task.status.state = name, pb.TASK_STATE_RUNNING
        task.desired_state = pb.TASK_STATE_RUNNING
        tasks.append(task)
    await store.commit([Put(pb.Cluster(id="c")), *map(Put, nodes), Put(service), *map(Put, tasks)])
    return service, rng


def is_ending(task):
    """It is to end, and nobody has ended it yet."""
    wanted = task.desired_state == pb.TASK_STATE_SHUTDOWN
    return wanted and task.status.state < pb.TASK_STATE_SHUTDOWN


async def replace(store, service, rng, to):
    """What leader and agents make of a task that is to end: a successor runs elsewhere."""
    async for _ in store.watch(store.revision):
        for task in filter(is_ending, await store.list(pb.Task)):
            task.status.state = pb.TASK_STATE_SHUTDOWN
            new = new_task(service, task.slot, StoreView.of([service]), NOW, rng)
            new.node_id, new.status.state = next(to), pb.TASK_STATE_RUNNING
            new.desired_state = pb.TASK_STATE_RUNNING
            await store.commit([Put(task), Put(new)])
            return


async def spread(store):
    return Counter(
        task.node_id
        for task in await store.list(pb.Task)
        if task.desired_state == pb.TASK_STATE_RUNNING
    )


async def test_one_is_moved_after_the_other_until_it_is_even(store):
    service, rng = await fill(store, ["n0"] * 4)
    to, told, acting = iter(["n1", "n2"]), [], []
    async for each in rebalanced(store, dry=False, wall=lambda: NOW):
        told.append((each.done, each.target, each.left))
        assert not any(map(is_ending, await store.list(pb.Task))), "one by one"
        if not each.done:
            acting.append(asyncio.create_task(replace(store, service, rng, to)))
            await asyncio.sleep(0)  # it watches before the move is written
    await asyncio.gather(*acting)
    assert await spread(store) == {"n0": 2, "n1": 1, "n2": 1}
    assert told == [
        (False, "host-n1", 1),
        (True, "host-n1", 1),
        (False, "host-n2", 0),
        (True, "host-n2", 0),
    ]


async def test_a_dry_run_says_all_and_writes_nothing(store):
    await fill(store, ["n0"] * 4)
    before = store.revision
    told = [each async for each in rebalanced(store, dry=True, wall=lambda: NOW)]
    assert [(each.source, each.target, each.left) for each in told] == [
        ("host-n0", "host-n1", 1),
        ("host-n0", "host-n2", 0),
    ]
    assert store.revision == before


async def test_a_successor_that_does_not_run_ends_it(store):
    await fill(store, ["n0"] * 6)
    with pytest.raises(ControlError, match="so nothing more is moved"):
        async for _ in rebalanced(store, dry=False, runs_s=0.01, wall=lambda: NOW):
            pass
    assert len(list(filter(is_ending, await store.list(pb.Task)))) == 1
