"""The places of a replicated service, one by one, and how many are as they should be. Pure.

Of each service it is kept up how many slots have tasks, how many of them nobody occupies
(``occupants``), and of which specifications their tasks are: where all are occupied and of the
service's own, a task's change concerns its slot alone (``StoreView.parts``).

Be aware: tasks without a number, of global services, are in no slot here; those to be removed are
in theirs and count for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp
from immutables import Map

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.kept import Pairs

SECOND: Final = 1_000_000_000
"""Nanoseconds; durations in specifications are whole nanoseconds."""
Slot: TypeAlias = tuple[str, int]
"""The id of a service and the number of one of its slots, from 1."""


class Tally(NamedTuple):
    """The slots of one service together.

    Attributes:
        slots: those that have tasks.
        loose: those of them that nobody occupies.
        versions: slots by the version of a specification that one of their tasks is of.
    """

    slots: int = 0
    loose: int = 0
    versions: Mapping[int, int] = Map()


Slots: TypeAlias = tuple[Map[Slot, tuple[pb.Task, ...]], Map[str, Tally]]
"""Tasks by slot, the oldest first, and tallies by service."""


def after(before: Slots, changes: Pairs[pb.Task]) -> Slots:
    """What tasks that were made, changed or removed make of them."""
    opened: dict[Slot, dict[str, pb.Task]] = {}
    for name, (old, new) in changes.items():
        for task, put in ((old, False), (new, True)):
            if task is None or not task.slot or not task.service_id:
                continue
            slot = task.service_id, task.slot
            there = opened.get(slot)
            if there is None:
                there = opened[slot] = {each.id: each for each in before[0].get(slot, ())}
            if put:
                there[name] = task
            else:
                there.pop(name, None)
    return _closed(before, opened) if opened else before


def _closed(before: Slots, opened: Mapping[Slot, Mapping[str, pb.Task]]) -> Slots:
    slots, tallies = before[0].mutate(), before[1].mutate()
    more: dict[str, tuple[list[int], Counter[int]]] = {}
    for slot, tasks in opened.items():
        had = slots.pop(slot, ())
        has = tuple(sorted(tasks.values(), key=age_key))
        if has:
            slots[slot] = has
        counts, versions = more.setdefault(slot[0], ([0, 0], Counter()))
        for sign, each in ((-1, had), (1, has)):
            there, loose, of = _of_slot(each)
            counts[0] += sign * there
            counts[1] += sign * loose
            for version in of:
                versions[version] += sign
    for service, (counts, versions) in more.items():
        tally = _added(tallies.pop(service, Tally()), counts, versions)
        if tally.slots:
            tallies[service] = tally
    return slots.finish(), tallies.finish()


def _added(had: Tally, counts: Sequence[int], versions: Counter[int]) -> Tally:
    of = Counter(had.versions)
    of.update(versions)
    left = {version: slots for version, slots in of.items() if slots}
    return Tally(had.slots + counts[0], had.loose + counts[1], Map(left))


def _of_slot(tasks: Sequence[pb.Task]) -> tuple[int, int, frozenset[int]]:
    """Whether there are tasks, whether nobody occupies it, and the versions of who does."""
    kept = [task for task in tasks if task.desired_state < pb.TASK_STATE_REMOVE]
    if not kept:
        return 0, 0, frozenset()
    there = occupants(kept)
    return 1, not there, frozenset(task.spec_version for task in there)


def seconds(timestamp: Timestamp) -> float:
    """A protobuf timestamp as Unix seconds; 0.0 when unset."""
    return float(timestamp.seconds) + timestamp.nanos / SECOND


def age_key(task: pb.Task) -> tuple[int, int, str]:
    """Sorts the tasks of a slot from oldest to newest."""
    return task.created_at.seconds, task.created_at.nanos, task.id


def terminal(task: pb.Task) -> bool:
    """The task runs nowhere any more and never will (observed state past RUNNING)."""
    return task.status.state > pb.TASK_STATE_RUNNING


def live(task: pb.Task) -> bool:
    """The task is wanted: desired state READY, RUNNING or COMPLETE, and its node was not lost."""
    return task.desired_state <= pb.TASK_STATE_COMPLETE and not task.displaced


def succeeded(task: pb.Task) -> bool:
    """The task is a job's and ended well: nothing is to follow it in its slot."""
    return task.HasField("job_iteration") and task.status.state == pb.TASK_STATE_COMPLETE


def restarts(task: pb.Task, slot: Sequence[pb.Task]) -> int:
    """Restarts that count against ``task``'s attempts: in its slot, of its specification.

    Only replacements made after a failure carry NotBefore. With a window, only those made within
    that time before the task's last report count.
    """
    window = task.spec.restart_policy.window
    since = seconds(task.status.timestamp) - window / SECOND if window else float("-inf")
    return sum(
        other.HasField("not_before")
        and other.spec_version == task.spec_version
        and seconds(other.created_at) >= since
        for other in slot
    )


def should_restart(task: pb.Task, slot: Sequence[pb.Task]) -> bool:
    """The restart policy of a task that ended, or whose node is lost, wants another one.

    Attempts are counted against tasks that ended; a task taken away with its node is replaced
    however often it was restarted before (differs from swarmkit, which counts both alike).

    Args:
        task: the newest of its slot.
        slot: every task the store still has of the slot, ``task`` included.

    Source: swarmkit manager/orchestrator/restart/restart.go shouldRestart.
    """
    policy = task.spec.restart_policy
    if policy.condition == "none" or succeeded(task):
        return False
    if policy.condition == "on-failure" and task.status.state == pb.TASK_STATE_COMPLETE:
        return False
    return (
        not policy.max_attempts or not terminal(task) or restarts(task, slot) < policy.max_attempts
    )


def occupants(slot: Sequence[pb.Task]) -> list[pb.Task]:
    """Tasks that occupy a slot: the live ones, or the one that finished for good; else none.

    Source: swarmkit restart.go UpdatableTasksInSlot.
    """
    found = [task for task in slot if live(task)]
    if found or not slot or should_restart(slot[-1], slot):
        return found
    return [slot[-1]]
