"""The rolling update: which slots get a new task now, and what a failure means; PURE.

Everything is read from the store, so a new leader goes on where the last one stopped:

    dirty slot     its task was made from another specification             to do
    in flight      its new task does not run yet, or not for Delay          at most Parallelism
    watched        its new task has run for less than Monitor               a failure here counts
    done           all new tasks have run for Monitor: "update completed"

    ""  ->  updating  ->  completed          failed > MaxFailureRatio: pause     -> paused
    rollback_started  ->  rollback_completed                           rollback  -> rollback_started
                                             in a rollback             any       -> rollback_paused

stop-first: the old task is desired SHUTDOWN and the new one waits READY until it has stopped (the
restart step). start-first: the old one goes when the new one runs; where the new one
finds no place (the old one has the port) that is never, until the order is changed to stop-first.

RunningSince is the leader's own clock when it saw a task run: agents' clocks do not matter.

Be aware: a paused update stays paused until the service is updated again, which clears
UpdateStatus. Replacements made by the restart step are not part of the update and do not count.
Source: swarmkit manager/orchestrator/update/updater.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.globals import takes_tasks
from meshnet_control.orchestrate.scope import Due
from meshnet_control.orchestrate.slots import SECOND, age_key, live, occupants, seconds, terminal
from meshnet_control.orchestrate.store_view import UPDATING, Put, Step, StoreView, Write, changed
from meshnet_control.orchestrate.tasks import (
    dirty,
    is_job,
    new_task,
    running,
    slots_of,
    stamp,
    successor,
    wanted,
)

MONITOR_S: Final = 5.0
"""Source: swarmkit api/defaults/service.go."""
_PAUSED: Final = {"paused", "rollback_paused"}
_ENDED: Final = {pb.TASK_STATE_COMPLETE, pb.TASK_STATE_FAILED, pb.TASK_STATE_REJECTED}
"""Ended by itself; a task we stopped is SHUTDOWN."""


@dataclass(frozen=True)
class Config:
    """How to update, defaults filled in."""

    parallelism: int
    """Slots in flight at once; 0: all."""
    delay_s: float
    monitor_s: float
    failure_action: str
    max_failure_ratio: float
    start_first: bool


@dataclass(frozen=True)
class _Progress:
    """Where the update of one service is."""

    todo: Sequence[Sequence[pb.Task]]
    """Occupants of the slots not begun, in the order of slots."""
    fresh: Sequence[pb.Task]
    """Tasks this update made, oldest first."""
    replaced: Sequence[pb.Task]
    """Old tasks in slots whose new task runs."""
    waiting: Sequence[pb.Task]
    """Old tasks in slots whose new task does not run yet."""

    def in_flight(self, config: Config, now: float) -> int:
        """New tasks that do not run yet, or have not run for the delay."""
        return sum(
            live(task)
            and not terminal(task)
            and (
                not task.HasField("running_since")
                or now < seconds(task.running_since) + config.delay_s
            )
            for task in self.fresh
        )

    def deadlines(self, config: Config) -> list[float]:
        """When the delay and the monitoring of each running new task end, Unix seconds."""
        return [
            seconds(task.running_since) + wait
            for task in self.fresh
            if running(task) and task.HasField("running_since")
            for wait in (config.delay_s, config.monitor_s)
        ]

    def failed(self, config: Config) -> list[pb.Task]:
        """New tasks that ended by themselves while they were watched."""
        return [
            task
            for task in self.fresh
            if task.status.state in _ENDED
            and (
                not task.HasField("running_since")
                or seconds(task.updated_at) - seconds(task.running_since) <= config.monitor_s
            )
        ]


def step(view: StoreView, now: float, rng: Rng) -> Step:
    """Go on with the update of every service whose tasks are out of date."""
    writes: list[Write] = []
    wakes: dict[Due, float] = {}
    for service in view.due_services():
        if is_job(service):  # an update is another iteration of it
            continue
        noted = list(_noted(service, view, now))
        if noted:  # the next call, with these in the view, decides
            writes.extend(Put(task) for task in noted)
            continue
        found = _advance(service, view, now, rng)
        writes.extend(found.writes)
        if found.wake_at is not None:
            wakes[service.id] = found.wake_at
    return Step(tuple(writes), wakes)


def config_of(service: pb.Service) -> Config:
    """The update's settings, or the rollback's while one is under way."""
    back = service.update_status.state in {"rollback_started", "rollback_paused"}
    name = "rollback_config" if back else "update_config"
    given: pb.UpdateConfig = getattr(service.spec, name)
    return Config(
        parallelism=int(given.parallelism) if service.spec.HasField(name) else 1,
        delay_s=given.delay / SECOND,
        monitor_s=given.monitor / SECOND if given.monitor else MONITOR_S,
        failure_action=given.failure_action or "pause",
        max_failure_ratio=given.max_failure_ratio,
        start_first=given.order == "start-first",
    )


def _noted(service: pb.Service, view: StoreView, now: float) -> Iterator[pb.Task]:
    """Tasks to note down: seen running; made from an older specification that still fits."""
    active = service.update_status.state in UPDATING
    since = service.update_status.started_at
    for task in view.tasks_of_service(service.id):
        if not live(task) or dirty(task, service, view):
            continue
        seen = active and _is_fresh(task, since) and running(task)
        if task.spec_version == service.spec_version and (
            not seen or task.HasField("running_since")
        ):
            continue
        copy = changed(task)
        copy.spec_version = service.spec_version
        if seen and not task.HasField("running_since"):
            copy.running_since.CopyFrom(stamp(now))
        yield copy


def _is_fresh(task: pb.Task, since: Timestamp) -> bool:
    made_by_restart = task.HasField("not_before")
    return not made_by_restart and task.created_at.ToNanoseconds() >= since.ToNanoseconds()


def _progress(service: pb.Service, view: StoreView) -> _Progress:
    since = service.update_status.started_at
    todo: list[Sequence[pb.Task]] = []
    fresh: list[pb.Task] = []
    replaced: list[pb.Task] = []
    waiting: list[pb.Task] = []
    slots = slots_of(service, view)
    for (_, node_id), slot in sorted(slots.items(), key=lambda item: item[0]):
        fresh += [t for t in slot if _is_fresh(t, since) and not dirty(t, service, view)]
        occupying = occupants(slot)
        old = [task for task in occupying if dirty(task, service, view)]
        new = [task for task in occupying if not dirty(task, service, view)]
        if not old or (node_id and not _takes_tasks(node_id, view)):
            continue
        if not new:
            todo.append(old)
        elif any(running(task) for task in new):
            replaced += old
        else:
            waiting += old
    return _Progress(todo, sorted(fresh, key=age_key), replaced, waiting)


def _takes_tasks(node_id: str, view: StoreView) -> bool:
    node = view.nodes.get(node_id)
    return node is not None and takes_tasks(node)


def _is_settled(service: pb.Service, view: StoreView) -> bool:
    """No update goes on, and every task is of the specification that there is."""
    tasks = view.indexes.by_service.get(service.id, {}).values()
    return service.update_status.state not in UPDATING and all(
        task.spec_version == service.spec_version for task in tasks
    )


def _advance(service: pb.Service, view: StoreView, now: float, rng: Rng) -> Step:
    before = service
    if service.update_status.state in _PAUSED or _is_settled(service, view):
        return Step()
    progress = _progress(service, view)
    if service.update_status.state not in UPDATING:
        if not (progress.todo or progress.waiting or progress.replaced):
            return Step()
        service = _with_status(service, "updating", "update in progress", now)
        progress = _progress(service, view)
    config = config_of(service)
    failed = progress.failed(config)
    slots = len(progress.todo) + len(progress.fresh)
    if failed and len(failed) / slots > config.max_failure_ratio:
        service = _on_failure(service, config, failed[-1], now)
        if service.update_status.state in _PAUSED:
            return Step((Put(service),))
        progress = _progress(service, view)
        config = config_of(service)
    gone = [*progress.replaced, *(() if config.start_first else progress.waiting)]
    writes: list[Write] = [Put(wanted(task, pb.TASK_STATE_SHUTDOWN)) for task in gone]
    busy = progress.in_flight(config, now)
    free = max(0, config.parallelism - busy) if config.parallelism else len(progress.todo)
    for occupying in progress.todo[:free]:
        writes.extend(_replace(service, occupying, config, view, now, rng))
    deadlines = [at for at in progress.deadlines(config) if at > now]
    unfinished = progress.todo or progress.replaced or progress.waiting or busy
    if not unfinished and not deadlines:
        service = _completed(service, now)
    if service is not before:
        writes.insert(0, Put(service))
    return Step(tuple(writes), {service.id: min(deadlines)} if deadlines else {})


def _replace(
    service: pb.Service,
    occupying: Sequence[pb.Task],
    config: Config,
    view: StoreView,
    now: float,
    rng: Rng,
) -> Iterator[Put]:
    """Begin with one slot."""
    first = occupying[0]
    if config.start_first:
        yield Put(new_task(service, first.slot or first.node_id, view, now, rng))
    else:
        yield Put(successor(first, service, view, now, rng))
    for task in occupying:
        if live(task) and (not config.start_first or terminal(task)):
            yield Put(wanted(task, pb.TASK_STATE_SHUTDOWN))


def _with_status(service: pb.Service, state: str, message: str, now: float) -> pb.Service:
    copy = changed(service)
    copy.update_status.CopyFrom(
        pb.UpdateStatus(state=state, message=message, started_at=stamp(now))
    )
    return copy


def _completed(service: pb.Service, now: float) -> pb.Service:
    copy = changed(service)
    word = "rollback" if service.update_status.state == "rollback_started" else "update"
    copy.update_status.state = "rollback_completed" if word == "rollback" else "completed"
    copy.update_status.message = f"{word} completed"
    copy.update_status.completed_at.CopyFrom(stamp(now))
    return copy


def _on_failure(service: pb.Service, config: Config, task: pb.Task, now: float) -> pb.Service:
    """The service paused or rolled back, or as it is when a failure does not matter."""
    cause = f"due to failure or early termination of task {task.id}"
    back = service.update_status.state == "rollback_started"
    if config.failure_action == "continue":
        return service
    if config.failure_action == "rollback" and not back and service.HasField("previous_spec"):
        copy = _with_status(service, "rollback_started", f"update rolled back {cause}", now)
        copy.spec.CopyFrom(service.previous_spec)
        copy.spec_version = service.previous_spec_version
        copy.ClearField("previous_spec")
        copy.ClearField("previous_spec_version")
        copy.version.ClearField("asked")  # what users have read is not the specification any more
        return copy
    copy = changed(service)
    word = "rollback" if back and config.failure_action == "rollback" else "update"
    copy.update_status.state = "rollback_paused" if back else "paused"
    copy.update_status.message = f"{word} paused {cause}"
    return copy
