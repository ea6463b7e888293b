"""A task that is not to be restarted, and a host that lost power: failed once, and never run again.

What the store knows, what the node remembers and what the engine kept may each be lost or late.
"""

from __future__ import annotations

import random
from itertools import product

import pytest

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.assignments import Objects, node_assignments
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.manager.status_writer import advanced
from meshnet_control.orchestrate import pipeline
from meshnet_control.orchestrate.store_view import Put, StoreView
from meshnet_control.orchestrate.tasks import stamp

FAILED, RUNNING = pb.TASK_STATE_FAILED, pb.TASK_STATE_RUNNING
BEHIND = (pb.TASK_STATE_ASSIGNED, pb.TASK_STATE_STARTING, RUNNING)
"""The last state that reached the store before the lights went out."""
ORDERS = [
    pytest.param(told, container, memory, heard, id=f"{pb.TaskState.Name(told)[11:]}-{why}")
    for told, container, memory, heard in product(BEHIND, *[(True, False)] * 3)
    if container or memory or told >= pb.TASK_STATE_STARTING
    for why in [
        f"{'container' if container else 'no_container'}-"
        f"{'memory' if memory else 'no_memory'}-{'heard' if heard else 'status_lost'}"
    ]
]
"""But for the one in which nobody is left who could know that the task had begun."""


class Managers:
    """The store of a cluster with one service that restarts nothing."""

    def __init__(self, task: pb.Task) -> None:
        service = pb.Service(id=task.service_id)
        service.spec.name = "web"
        service.spec.mode.replicated.replicas = 1
        service.spec.task_template.CopyFrom(task.spec)
        service.spec.task_template.restart_policy.condition = "none"
        task.spec.CopyFrom(service.spec.task_template)
        task.created_at.CopyFrom(stamp(1000))
        node = pb.Node(id=task.node_id, spec=pb.NodeSpec(role="worker", availability="active"))
        node.status.state, node.status.addr = "ready", "192.0.2.1"
        self.view = StoreView.of([service, node, task])
        self.now = 1001.0

    @property
    def task(self) -> pb.Task:
        (found,) = self.view.tasks.values()
        return found

    def hear(self, status: pb.TaskStatus) -> None:
        """What the node reports, and what follows from it in a minute."""
        fresh = advanced(self.task, self.task.node_id, status, "m")
        if fresh is not None:
            self.view = self.view.apply([Put(fresh)])
        for _ in range(30):
            self.now += 2
            self.view = self.view.apply(
                pipeline.converge(self.view, self.now, random.Random(1)).writes
            )
        assert len(self.view.tasks) == 1, "nothing takes its place"

    def say(self) -> NodeState:
        """What they tell the node."""
        view = self.view
        objects = Objects(pb.Cluster(), view.nodes, view.services, view.tasks)
        return NodeState.of(node_assignments(objects, self.task.node_id))


@pytest.mark.parametrize(("told", "container", "memory", "heard"), ORDERS)
def test_it_has_failed_and_never_runs_again(play, task, told, container, memory, heard):
    async def scene(node):
        one = task()
        managers = Managers(one)
        managers.hear(pb.TaskStatus(state=pb.TASK_STATE_ASSIGNED))
        node.agent.assign(managers.say())
        await node.reaches(one, RUNNING)
        await node.turn()
        managers.hear(pb.TaskStatus(state=told))
        for again in range(2):
            await node.end()
            node.power_cut()
            if not again and not container:
                await node.engine.remove(node.kept(one).id)
            if not again and not memory:
                node.memory(one).remove()
            await node.begin()
            node.agent.assign(managers.say())
            if again and heard:
                break  # they know that it has ended
            failed = await node.reaches(one, FAILED)
            if heard:
                managers.hear(failed)
                assert managers.task.status.state == FAILED
                assert managers.task.desired_state == pb.TASK_STATE_SHUTDOWN
                node.agent.assign(managers.say())
        await node.turn()
        assert len(node.calls("start")) == 1
        assert not any(kept.running for kept in node.engine.kept.values())

    play(scene)
