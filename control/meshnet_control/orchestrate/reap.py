"""Which tasks the store forgets; PURE.

Tasks of a service that is gone are desired REMOVE. What is desired REMOVE is deleted once it runs
nowhere: it ended, never reached a node, or its node is gone. Of every slot the newest tasks are
kept, five by default, the live one included; the newest is always kept. A task that was to stop on
a node that has left, or has been down for a day, is ORPHANED: nobody will report it.

Be aware: on a node that is down a container may run on, with its addresses. So its task is kept,
which holds them (``holds_addresses``), until the node is back and says so, or is removed.
Source: swarmkit manager/orchestrator/taskreaper/task_reaper.go; manager/dispatcher (24 h).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.scope import Due
from meshnet_control.orchestrate.slots import live, seconds, terminal
from meshnet_control.orchestrate.store_view import Delete, Put, Step, StoreView, Write, changed
from meshnet_control.orchestrate.tasks import (
    due_slots,
    may_run,
    node_lost,
    of_iteration,
    stamp,
    wanted,
)

HISTORY: Final = 5
"""Tasks kept for each slot (swarmkit api/defaults OrchestrationConfig)."""
ORPHAN_AFTER_S: Final = 24 * 3600.0
"""A down node's tasks are given up after a day (dispatcher.go defaultNodeDownPeriod)."""


def step(view: StoreView, now: float, rng: Rng) -> Step:
    """Mark, delete and orphan tasks."""
    writes: list[Write] = []
    wakes: dict[Due, float] = {}
    for task in view.due_tasks():
        write = _forget(task, view)
        if write is not None:
            writes.append(write)
            continue
        due = _orphan_at(task, view)
        if due is not None and due <= now:
            writes.append(Put(_orphaned(task, now)))
        elif due is not None:
            wakes[task.node_id] = due
    for service, slots in due_slots(view, every_iteration=True):
        for slot in slots.values():
            writes.extend(Delete(pb.Task, task.id) for task in _history(service, slot, view))
    return Step(tuple(writes), wakes)


def _forget(task: pb.Task, view: StoreView) -> Write | None:
    if task.desired_state >= pb.TASK_STATE_REMOVE:
        nowhere = task.status.state < pb.TASK_STATE_ASSIGNED or task.node_id not in view.nodes
        over = terminal(task) and not may_run(task, view)
        return Delete(pb.Task, task.id) if nowhere or over else None
    if task.service_id and task.service_id not in view.services:
        return Put(wanted(task, pb.TASK_STATE_REMOVE))
    return None


def _orphan_at(task: pb.Task, view: StoreView) -> float | None:
    """When a task is given up, Unix seconds; None: not by time."""
    if live(task) or terminal(task) or not node_lost(task, view):
        return None
    node = view.nodes.get(task.node_id)
    return 0.0 if node is None else seconds(node.updated_at) + ORPHAN_AFTER_S


def _orphaned(task: pb.Task, now: float) -> pb.Task:
    copy = changed(task)
    copy.status.state = pb.TASK_STATE_ORPHANED
    copy.status.timestamp.CopyFrom(stamp(now))
    copy.status.message = "orphaned"
    return copy


def history_limit(task: pb.Task, view: StoreView) -> int | None:
    """Tasks kept in a task's slot; None: all. Restart attempts need MaxAttempts + 1."""
    limit = HISTORY
    if view.cluster is not None:
        orchestration = view.cluster.spec.orchestration
        if orchestration.HasField("task_history_retention_limit"):
            limit = orchestration.task_history_retention_limit
    if limit < 0:
        return None
    attempts = int(task.spec.restart_policy.max_attempts)
    return max(limit, attempts + 1) if attempts else limit


def _history(service: pb.Service, slot: Sequence[pb.Task], view: StoreView) -> Iterator[pb.Task]:
    """Tasks of a slot, oldest first, to forget; what a job has done in this iteration never."""
    limit = history_limit(slot[-1], view)
    if limit is None:
        return
    surplus = len(slot) - limit
    for task in slot[:-1]:
        if surplus <= 0:
            return
        if (
            (not live(task) if of_iteration(task, service) else terminal(task))
            and not may_run(task, view)
            and (terminal(task) or task.status.state < pb.TASK_STATE_ASSIGNED)
        ):
            surplus -= 1
            yield task
