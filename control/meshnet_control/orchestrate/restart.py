"""What follows a task that ended, lost its node, or waits for its turn; PURE.

    ended        -> desired SHUTDOWN; if the policy says so a successor, READY from now + delay on
    node lost    -> displaced if it ran and the node is Down (``returned``), else desired SHUTDOWN
    not fitting  -> desired SHUTDOWN; either way the slot is filled at once, without the delay
    READY        -> RUNNING (a job's: COMPLETE) once NotBefore has come and the tasks before it in
                    the slot have stopped
    ended READY  -> nothing before NotBefore: a rejected image is tried once in a delay, not at once

Be aware: a task that is to be stopped for more than a minute no longer holds up the one after it.
On a node that is down nobody is waited for.
Source: swarmkit manager/orchestrator/restart/restart.go (Restart, DelayStart).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.globals import takes_tasks
from meshnet_control.orchestrate.scope import Due
from meshnet_control.orchestrate.slots import (
    SECOND,
    age_key,
    live,
    seconds,
    should_restart,
    succeeded,
    terminal,
)
from meshnet_control.orchestrate.store_view import Put, Step, StoreView, changed
from meshnet_control.orchestrate.tasks import (
    RESTART_DELAY_S,
    dirty,
    due_slots,
    is_global,
    is_job,
    misplaced,
    node_lost,
    node_unusable,
    running,
    stamp,
    successor,
    wanted,
)

OLD_TASK_WAIT_S: Final = 60.0
"""How long a READY task waits for the one before it to stop (restart.go defaultOldTaskTimeout)."""


def step(view: StoreView, now: float, rng: Rng) -> Step:
    """Replace what ended, give up what lost its node, start what waited long enough."""
    writes: list[Put] = []
    wakes: dict[Due, float] = {}
    for service, slots in due_slots(view):
        for (number, _), slot in slots.items():
            writes.extend(Put(task) for task in _after(service, slot, view, now, rng))
            dues = [due for task in slot if (due := _replaced_at(task)) > now]
            for task in slot:
                if not _waits(task, view):
                    continue
                due = start_at(task, slot, view)
                if due <= now:
                    to = pb.TASK_STATE_COMPLETE if is_job(service) else pb.TASK_STATE_RUNNING
                    writes.append(Put(wanted(task, to)))
                else:
                    dues.append(due)
            if dues:
                key: Due = (service.id, number) if number else service.id
                wakes[key] = min([*dues, wakes.get(key, dues[0])])
    return Step(tuple(writes), wakes)


def delay_s(task: pb.Task) -> float:
    """Seconds between the end of a task and the start of its successor; 5 by default."""
    policy = task.spec.restart_policy
    return policy.delay / SECOND if policy.HasField("delay") else RESTART_DELAY_S


def _replaced_at(task: pb.Task) -> float:
    """When what follows a task that ended is done, Unix seconds; 0.0: at once.

    One that ended while it waited for its turn keeps that turn (restart.go waitRestart).
    """
    early = terminal(task) and task.desired_state == pb.TASK_STATE_READY
    return seconds(task.not_before) if early else 0.0


def _waits(task: pb.Task, view: StoreView) -> bool:
    return (
        task.desired_state == pb.TASK_STATE_READY
        and not terminal(task)
        and not node_unusable(task, view)
    )


def start_at(task: pb.Task, slot: Sequence[pb.Task], view: StoreView) -> float:
    """When a READY task may start, Unix seconds, as far as time alone decides; 0.0: now.

    Tasks before it in the slot that are still stopping hold it up for a minute at most, counted
    from its creation.
    """
    due = seconds(task.not_before)
    held = any(
        not live(other)
        and not terminal(other)
        and age_key(other) < age_key(task)
        and not node_lost(other, view)
        and other.status.state >= pb.TASK_STATE_ASSIGNED
        for other in slot
    )
    return max(due, seconds(task.created_at) + OLD_TASK_WAIT_S) if held else due


def _after(
    service: pb.Service, slot: Sequence[pb.Task], view: StoreView, now: float, rng: Rng
) -> Iterator[pb.Task]:
    for task in slot:
        if not live(task) or succeeded(task):
            continue
        if terminal(task):
            if _replaced_at(task) > now:
                continue
            yield wanted(task, pb.TASK_STATE_SHUTDOWN)
            if _wants_successor(task, service, slot, view):
                fresh = successor(task, service, view, now, rng)
                if not node_unusable(task, view):
                    fresh.not_before.CopyFrom(stamp(now + delay_s(task)))
                yield fresh
        elif task.node_id in view.nodes and node_lost(task, view) and running(task):
            copy = changed(task)
            copy.displaced = True
            yield copy
        elif node_unusable(task, view) or misplaced(task, service, view):
            yield wanted(task, pb.TASK_STATE_SHUTDOWN)


def _wants_successor(
    task: pb.Task, service: pb.Service, slot: Sequence[pb.Task], view: StoreView
) -> bool:
    if is_global(service) or service.spec.mode.HasField("global_job"):
        node = view.nodes.get(task.node_id)
        if node is None or not takes_tasks(node):
            return False
    taken = any(
        live(other)
        and not terminal(other)
        and not node_unusable(other, view)
        and not dirty(other, service, view)
        for other in slot
    )
    return not taken and should_restart(task, slot)
