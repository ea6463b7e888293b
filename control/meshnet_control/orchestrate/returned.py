"""What becomes of a node's tasks when it comes back after it was Down; PURE.

While a node is Down its running tasks are *displaced*: their slots are free and get other tasks,
but nobody has told the displaced ones to stop, for they may run on. When the node is back:

    a replacement runs                    -> the displaced task is desired SHUTDOWN
    none runs, and the task still fits    -> it takes its slot back, who was to replace it SHUTDOWN
    none runs, the task is out of date,
    misplaced, or its node is drained     -> desired SHUTDOWN

A task of a job that had ended well meanwhile fits: what is done is not done again.

So a healthy container is never stopped for a replacement that is not there, and a global service's
task is not made anew beside one that runs.

Be aware: this comes before the steps that fill slots. Differs from swarmkit, which stops them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.folds import Waiting
from meshnet_control.orchestrate.slots import live, succeeded, terminal
from meshnet_control.orchestrate.store_view import Put, Step, StoreView, changed
from meshnet_control.orchestrate.tasks import (
    dirty,
    displaced,
    misplaced,
    node_unusable,
    running,
    slots_of,
    wanted,
)


def step(view: StoreView, _now: float, _rng: Rng) -> Step:
    """Decide about every displaced task whose node is not Down any more."""
    away = {task.service_id for task in view.waiting(Waiting.RETURN)}
    return Step(
        tuple(
            Put(task)
            for service in view.due_services()
            if service.id in away
            for slot in slots_of(service, view).values()
            for task in _decided(service, slot, view)
        )
    )


def _decided(service: pb.Service, slot: Sequence[pb.Task], view: StoreView) -> Iterator[pb.Task]:
    others = [task for task in slot if live(task) and not terminal(task)]
    done = any(live(task) and succeeded(task) for task in slot)
    taken = done or any(running(task) for task in others)
    for task in reversed(slot):
        node = view.nodes.get(task.node_id)
        if not displaced(task) or (node is not None and node.status.state == "down"):
            continue
        fits = succeeded(task) or not (
            terminal(task)
            or node_unusable(task, view)
            or misplaced(task, service, view)
            or dirty(task, service, view)
        )
        if not fits or (taken and not succeeded(task)):
            yield wanted(task, pb.TASK_STATE_SHUTDOWN)
            continue
        taken = True
        yield _back(task)
        for other in others:
            yield wanted(other, pb.TASK_STATE_SHUTDOWN)


def _back(task: pb.Task) -> pb.Task:
    copy = changed(task)
    copy.ClearField("displaced")
    return copy
