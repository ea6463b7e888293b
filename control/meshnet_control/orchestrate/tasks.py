"""What a task is to the orchestrator: making one, and reading the state of one; PURE.

A *slot* is one place of a service that wants one running task: a number (replicated) or a node
(global). A task in a slot is *live* while it is wanted (desired state at most RUNNING, or COMPLETE,
which only a job's is) and not displaced (its node was lost while it ran); a slot whose newest task
ended and is not to be restarted is *finished*, and counts as occupied.

    slot 3:  [dead] [dead] [live]      occupied     slot 5:  [dead, restart no]    occupied
    slot 4:  [dead] [dead]             free         REMOVE tasks belong to no slot

Be aware: protobuf messages of a view are shared; nothing here writes to one it was given.
Source: swarmkit manager/orchestrator/{task,slot,service}.go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from meshnet.model.ids import Rng, new_id
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import service_networks
from meshnet_control.orchestrate.constraints import runs_platform, satisfied
from meshnet_control.orchestrate.scope import Due
from meshnet_control.orchestrate.slots import SECOND, Slot, age_key, live, terminal
from meshnet_control.orchestrate.store_view import StoreView, changed

RESTART_DELAY_S: Final = 5.0
"""Source: swarmkit api/defaults/service.go."""

SlotKey = tuple[int, str]
"""``(number, "")`` in a replicated service, ``(0, node id)`` in a global one."""


def stamp(at: float) -> Timestamp:
    """Unix seconds as a protobuf timestamp."""
    seconds, nanos = divmod(round(at * SECOND), SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)


def displaced(task: pb.Task) -> bool:
    """The task's node was lost while it ran, and it was not told to stop since (``returned``)."""
    return task.displaced and task.desired_state <= pb.TASK_STATE_COMPLETE


def of_iteration(task: pb.Task, service: pb.Service) -> bool:
    """The task belongs to what its job does now, not to what it did before it was updated."""
    return bool(task.job_iteration.index == service.job_status.job_iteration.index)


def running(task: pb.Task) -> bool:
    """The task is wanted and runs."""
    return live(task) and task.status.state == pb.TASK_STATE_RUNNING


def node_lost(task: pb.Task, view: StoreView) -> bool:
    """The task was given to a node that is down or no longer in the cluster."""
    if not task.node_id:
        return False
    node = view.nodes.get(task.node_id)
    return node is None or node.status.state == "down"


def may_run(task: pb.Task, view: StoreView) -> bool:
    """The task was given up (ORPHANED) on a node that is still in the cluster, and still Down."""
    return task.status.state == pb.TASK_STATE_ORPHANED and (
        task.node_id in view.nodes and node_lost(task, view)
    )


def holds_addresses(task: pb.Task, view: StoreView) -> bool:
    """The task's addresses may be in use: its state is not past RUNNING, or nobody knows."""
    return not terminal(task) or may_run(task, view)


def node_unusable(task: pb.Task, view: StoreView) -> bool:
    """The task may not stay on its node: lost, or drained."""
    if not task.node_id:
        return False
    return node_lost(task, view) or view.nodes[task.node_id].spec.availability == "drain"


def node_fits(node: pb.Node, service: pb.Service) -> bool:
    """The node meets the service's placement constraints and runs one of its platforms."""
    placement = service.spec.task_template.placement
    return all(satisfied(each, node) for each in placement.constraints) and runs_platform(
        node, list(placement.platforms)
    )


def misplaced(task: pb.Task, service: pb.Service, view: StoreView) -> bool:
    """The task's node met the constraints once and does so no longer: its labels changed.

    A task of an older specification is the update's to move; a node that is paused keeps what it
    has, one that is drained or down gives it up anyway (``node_unusable``).

    Source: swarmkit manager/orchestrator/constraintenforcer. Differs: the task is stopped, not
    REJECTED, and replaced without the restart delay.
    """
    node = view.nodes.get(task.node_id)
    if node is None or node.spec.availability == "pause" or is_global(service):
        return False
    constraints = service.spec.task_template.placement.constraints
    return task.spec_version == service.spec_version and not all(
        satisfied(each, node) for each in constraints
    )


def is_global(service: pb.Service) -> bool:
    """One task for each node instead of a number of replicas."""
    return service.spec.mode.HasField("global")


def is_replicated(service: pb.Service) -> bool:
    """A number of replicas; also when no mode is given."""
    mode = service.spec.mode
    return mode.HasField("replicated") or not mode.ListFields()


def is_replicated_job(service: pb.Service) -> bool:
    """A number of tasks, each of which is to end well once."""
    return service.spec.mode.HasField("replicated_job")


def is_job(service: pb.Service) -> bool:
    """Its tasks are to end, not to run for ever."""
    return is_replicated_job(service) or service.spec.mode.HasField("global_job")


class Making:
    """The tasks that a step makes, no more than the StoreView has room for.

    A service that is large already grows by a half of itself: all of it is looked at each time.

    Args:
        view: what the step looks at.
        now: Unix seconds.
    """

    def __init__(self, view: StoreView, now: float) -> None:
        self._view, self._room, self._now = view, view.room, now
        self.again: dict[Due, float] = {}
        """Services that are to get more tasks as soon as these are written: when to be called."""

    def one_more(self, service: pb.Service) -> bool:
        """Whether another task may be made for a service now."""
        if self._room is None:
            return True
        if self._room <= 0 and self._room <= -(self._view.written(service.id) // 2):
            self.again[service.id] = self._now
            return False
        self._room -= 1
        return True


def new_task(
    service: pb.Service, slot: int | str, view: StoreView, now: float, rng: Rng
) -> pb.Task:
    """A task of a service as it is specified now: status NEW, desired RUNNING; a job's COMPLETE.

    Args:
        service: whose task template is copied.
        slot: a slot number, from 1 (of a job: from 0), or the node id of a global service's task.
        view: for the cluster's default log driver.
        now: Unix seconds.
        rng: for the task's id.
    """
    at = stamp(now)
    task = pb.Task(
        id=new_id(rng),
        service_id=service.id,
        service_name=service.spec.name,
        service_labels=service.spec.labels,
        spec=service_networks.template(service.spec),
        spec_version=service.spec_version,
        desired_state=pb.TASK_STATE_RUNNING,
        status=pb.TaskStatus(state=pb.TASK_STATE_NEW, timestamp=at, message="created"),
        created_at=at,
        updated_at=at,
    )
    if isinstance(slot, int):
        task.slot = slot
    else:
        task.node_id = slot
    if is_job(service):
        task.desired_state = pb.TASK_STATE_COMPLETE
        task.job_iteration.index = service.job_status.job_iteration.index
    if slot != 0:  # as in Swarm a job's first task is named by its node, which is not known yet
        task.name = f"{service.spec.name}.{slot}.{task.id}"
    if service.spec.HasField("endpoint_spec"):
        task.endpoint_spec.CopyFrom(service.spec.endpoint_spec)
    if not task.spec.HasField("log_driver") and view.cluster is not None:
        defaults = view.cluster.spec.task_defaults
        if defaults.HasField("log_driver"):
            task.spec.log_driver.CopyFrom(defaults.log_driver)
    return task


def successor(task: pb.Task, service: pb.Service, view: StoreView, now: float, rng: Rng) -> pb.Task:
    """A new task for the slot of another one, prepared (READY) but not yet started."""
    fresh = new_task(service, slot_of(task, service), view, now, rng)
    fresh.desired_state = pb.TASK_STATE_READY
    return fresh


def wanted(task: pb.Task, desired: pb.TaskState) -> pb.Task:
    """A copy of a task with another desired state."""
    copy = changed(task)
    copy.desired_state = desired
    return copy


def slot_of(task: pb.Task, service: pb.Service) -> int | str:
    """A task's place in its service, as ``new_task`` takes it."""
    numbered = task.slot or is_replicated_job(service)
    return int(task.slot) if numbered else str(task.node_id)


def slots_of(
    service: pb.Service, view: StoreView, *, every_iteration: bool = False
) -> dict[SlotKey, list[pb.Task]]:
    """A service's tasks by slot, oldest first, without those to be removed. Not to be changed.

    Args:
        service: the service.
        view: with its tasks.
        every_iteration: a job's earlier iterations are in it, too.
    """
    key = "slots", service.id, service.job_status.job_iteration.index, every_iteration
    return view.remembered(key, lambda: _slots_of(service, view, every_iteration=every_iteration))


def due_slots(
    view: StoreView, *, every_iteration: bool = False
) -> Iterator[tuple[pb.Service, Mapping[SlotKey, Sequence[pb.Task]]]]:
    """What decides slot by slot: all of the services to look at, some of the others.

    Args:
        view: with what is to be looked at.
        every_iteration: as of ``slots_of``.
    """
    parts = {service.id: slots for service, slots in view.parts()}
    some = [service for service, _ in view.parts()]
    for service in sorted([*view.due_services(), *some], key=lambda each: each.id):
        if service.id in parts:
            yield service, _some_slots(parts[service.id], view)
        else:
            yield service, slots_of(service, view, every_iteration=every_iteration)


def _some_slots(slots: Iterable[Slot], view: StoreView) -> dict[SlotKey, list[pb.Task]]:
    """As ``slots_of``, of these."""
    found: list[list[pb.Task]] = []
    for slot in slots:
        tasks = view.indexes.slots.get(slot, ())
        kept = [task for task in tasks if task.desired_state < pb.TASK_STATE_REMOVE]
        if kept:
            found.append(kept)
    return {(kept[0].slot, ""): kept for kept in sorted(found, key=lambda each: age_key(each[0]))}


def _slots_of(
    service: pb.Service, view: StoreView, *, every_iteration: bool
) -> dict[SlotKey, list[pb.Task]]:
    slots: dict[SlotKey, list[pb.Task]] = defaultdict(list)
    for task in sorted(view.indexes.by_service.get(service.id, {}).values(), key=age_key):
        if task.desired_state >= pb.TASK_STATE_REMOVE:
            continue
        if every_iteration or of_iteration(task, service):
            place = slot_of(task, service)
            slots[(0, place) if isinstance(place, str) else (place, "")].append(task)
    return dict(slots)


def _same_but_placement(spec: pb.TaskSpec, other: pb.TaskSpec) -> bool:
    left = pb.TaskSpec()
    left.CopyFrom(spec)
    right = pb.TaskSpec()
    right.CopyFrom(other)
    for each in (left, right):
        each.ClearField("placement")
    return left == right


def dirty(task: pb.Task, service: pb.Service, view: StoreView) -> bool:
    """The task was made from a specification that would make another task today.

    A task whose placement alone is out of date stays when its node still fits.

    Source: swarmkit manager/orchestrator/task.go IsTaskDirty.
    """
    if task.spec_version == service.spec_version:
        return False
    template = expected_spec(service, task)
    if task.endpoint_spec != service.spec.endpoint_spec:
        return True
    if task.spec == template:
        return False
    node = view.nodes.get(task.node_id)
    return not (
        _same_but_placement(task.spec, template) and (node is None or node_fits(node, service))
    )


def expected_spec(service: pb.Service, task: pb.Task) -> pb.TaskSpec:
    """The service's task template, with the task's log driver where it names none itself.

    A task that has its image has no more use for other credentials: they make no other task.
    """
    template = service_networks.template(service.spec)
    log_driver = not template.HasField("log_driver") and task.spec.HasField("log_driver")
    had = task.spec.container_spec.pull_options
    pulled = pb.TASK_STATE_READY <= task.status.state <= pb.TASK_STATE_RUNNING
    pull_options = pulled and template.container_spec.pull_options != had
    if not log_driver and not pull_options:
        return template
    full = pb.TaskSpec()
    full.CopyFrom(template)
    if log_driver:
        full.log_driver.CopyFrom(task.spec.log_driver)
    if pull_options:
        full.container_spec.ClearField("pull_options")
        if task.spec.container_spec.HasField("pull_options"):
            full.container_spec.pull_options.CopyFrom(had)
    return full
