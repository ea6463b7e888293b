"""Which nodes have a task of a global service: every node that takes tasks and fits; PURE.

    node            gets a new task   keeps its task   otherwise
    ready, active   when it fits      when it fits     desired REMOVE
    paused          no                when it fits     desired REMOVE
    drained, down   no                no               desired SHUTDOWN (the restart step)
    removed         no                no               desired REMOVE

Be aware: a task is bound to its node from the start; the scheduler confirms or leaves it pending.
Source: swarmkit manager/orchestrator/global/global.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.slots import occupants
from meshnet_control.orchestrate.store_view import Put, Step, StoreView
from meshnet_control.orchestrate.tasks import (
    Making,
    is_global,
    new_task,
    node_fits,
    slots_of,
    wanted,
)


def step(view: StoreView, now: float, rng: Rng) -> Step:
    """Tasks to add and to take away, for every global service."""
    made = Making(view, now)
    writes = [
        Put(task)
        for service in view.due_services()
        if is_global(service)
        for task in _spread(service, view, now, rng, made)
    ]
    return Step(tuple(writes), made.again)


def takes_tasks(node: pb.Node) -> bool:
    """The node may be given new tasks: ready, and neither paused nor drained."""
    return node.status.state == "ready" and node.spec.availability in {"", "active"}


def _spread(
    service: pb.Service, view: StoreView, now: float, rng: Rng, made: Making
) -> Iterator[pb.Task]:
    slots = slots_of(service, view)
    for (_, node_id), tasks in sorted(slots.items()):
        node = view.nodes.get(node_id)
        if node is None or not node_fits(node, service):
            for task in tasks:
                yield wanted(task, pb.TASK_STATE_REMOVE)
    for node_id in sorted(view.nodes):
        node = view.nodes[node_id]
        if (
            takes_tasks(node)
            and node_fits(node, service)
            and not occupants(slots.get((0, node_id), []))
            and made.one_more(service)
        ):
            yield new_task(service, node_id, view, now, rng)
