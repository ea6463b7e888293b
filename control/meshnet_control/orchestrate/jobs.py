"""Which tasks a job has: each runs until it ends well, then the job is over; PURE.

    replicated job   ``total`` slots, numbered from 0 as the docker CLI counts them; at most
                     ``concurrent`` of them are being worked on at a time, the lowest first
    global job       one task on every node that takes tasks, fits, and was there when it began

A job's task is desired COMPLETE and stays so when it is; one that failed gets a successor by the
restart step. Every update of a job is a new *iteration*: the tasks of those before end, and what
had completed is done again. A slot whose task failed for good is not tried again.

Be aware: a task whose node is lost is done again elsewhere at once, so a job is done at least once.
Source: swarmkit manager/orchestrator/jobs/{replicated,global}/reconciler.go. Differs: tasks of a
lost or drained node are replaced, and the slots a smaller job no longer has are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.globals import takes_tasks
from meshnet_control.orchestrate.slots import live, occupants, seconds, succeeded, terminal
from meshnet_control.orchestrate.store_view import Put, Step, StoreView, changed
from meshnet_control.orchestrate.tasks import (
    Making,
    is_job,
    is_replicated_job,
    new_task,
    node_fits,
    of_iteration,
    slots_of,
    stamp,
    wanted,
)


def step(view: StoreView, now: float, rng: Rng) -> Step:
    """Tasks to add and to take away, for every job."""
    writes: list[Put] = []
    made = Making(view, now)
    for service in view.due_services():
        if not is_job(service):
            continue
        writes.extend(Put(task) for task in _outdated(service, view))
        if is_replicated_job(service):
            writes.extend(Put(task) for task in _filled(service, view, now, rng, made))
        else:
            writes.extend(Put(task) for task in _spread(service, view, now, rng, made))
        if service.update_status.state == "rollback_started" and complete(service, view):
            writes.append(Put(_rolled_back(service, now)))
    return Step(tuple(writes), made.again)


def complete(service: pb.Service, view: StoreView) -> bool:
    """Every task the job wants in this iteration has ended well."""
    slots = slots_of(service, view)
    done = sum(any(succeeded(task) for task in slot) for slot in slots.values())
    if is_replicated_job(service):
        return done >= service.spec.mode.replicated_job.total_completions
    return done == len(slots)


def _outdated(service: pb.Service, view: StoreView) -> Iterator[pb.Task]:
    """Tasks of earlier iterations that are not to go on, or have no slot any more."""
    job = service.spec.mode.replicated_job
    replicated = is_replicated_job(service)
    for task in view.tasks_of_service(service.id):
        if of_iteration(task, service) or task.desired_state >= pb.TASK_STATE_REMOVE:
            continue
        if replicated and (not terminal(task) or task.slot >= job.total_completions):
            yield wanted(task, pb.TASK_STATE_REMOVE)
        elif not terminal(task) and task.desired_state < pb.TASK_STATE_SHUTDOWN:
            yield wanted(task, pb.TASK_STATE_SHUTDOWN)


def _filled(
    service: pb.Service, view: StoreView, now: float, rng: Rng, made: Making
) -> Iterator[pb.Task]:
    job = service.spec.mode.replicated_job
    slots = slots_of(service, view)
    occupied = {number: found for (number, _), slot in slots.items() if (found := occupants(slot))}
    busy = sum(
        any(live(task) and not succeeded(task) for task in found) for found in occupied.values()
    )
    free = [number for number in range(job.total_completions) if number not in occupied]
    for number in free[: max(0, job.max_concurrent - busy)]:
        if not made.one_more(service):
            return
        yield new_task(service, number, view, now, rng)


def _spread(
    service: pb.Service, view: StoreView, now: float, rng: Rng, made: Making
) -> Iterator[pb.Task]:
    slots = slots_of(service, view)
    for (_, node_id), slot in sorted(slots.items()):
        if node_id not in view.nodes:
            for task in slot:
                yield wanted(task, pb.TASK_STATE_REMOVE)
    began = seconds(service.job_status.last_execution)
    for node_id in sorted(view.nodes):
        node = view.nodes[node_id]
        if (
            takes_tasks(node)
            and node_fits(node, service)
            and seconds(node.created_at) < began
            and not occupants(slots.get((0, node_id), []))
            and made.one_more(service)
        ):
            yield new_task(service, node_id, view, now, rng)


def _rolled_back(service: pb.Service, now: float) -> pb.Service:
    copy = changed(service)
    copy.update_status.state = "rollback_completed"
    copy.update_status.message = "rollback completed"
    copy.update_status.completed_at.CopyFrom(stamp(now))
    return copy
