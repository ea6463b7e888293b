"""How many tasks a replicated service has: one live task in each of ``replicas`` slots; PURE.

Too few: the lowest free slots get a task. Too many: what runs nowhere goes first, then what runs
on the nodes with most copies, the highest slots first. Slots given up have their tasks desired
REMOVE, dead ones too.

Be aware: a task that failed is still live here until the restart step has taken it out of its
slot, so that its successor waits for the restart delay. Where a task goes is the scheduler's.
Source: swarmkit manager/orchestrator/replicated/services.go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.slots import occupants
from meshnet_control.orchestrate.store_view import Put, Step, StoreView
from meshnet_control.orchestrate.tasks import (
    Making,
    SlotKey,
    is_replicated,
    new_task,
    running,
    slots_of,
    wanted,
)


def step(view: StoreView, now: float, rng: Rng) -> Step:
    """Tasks to add and to take away, for every replicated service."""
    made = Making(view, now)
    writes = [
        Put(task)
        for service in view.due_services()
        if is_replicated(service)
        for task in _scaled(service, view, now, rng, made)
    ]
    return Step(tuple(writes), made.again)


def replicas(service: pb.Service) -> int:
    """How many tasks a replicated service wants; 1 when it does not say."""
    mode = service.spec.mode.replicated
    return int(mode.replicas) if mode.HasField("replicas") else 1


def _scaled(
    service: pb.Service, view: StoreView, now: float, rng: Rng, made: Making
) -> Iterator[pb.Task]:
    slots = slots_of(service, view)
    occupied = {
        key: found for key, tasks in slots.items() if key[0] and (found := occupants(tasks))
    }
    kept = keep_order(occupied)[: replicas(service)]
    free = (number for number in count(1) if (number, "") not in occupied)
    filled = list(islice(free, replicas(service) - len(kept)))
    stay = {*kept, *((number, "") for number in filled)}
    for key in sorted(slots.keys() - stay):
        for task in slots[key]:
            yield wanted(task, pb.TASK_STATE_REMOVE)
    for number in filled:
        if not made.one_more(service):
            return
        yield new_task(service, number, view, now, rng)


def keep_order(occupied: Mapping[SlotKey, Sequence[pb.Task]]) -> list[SlotKey]:
    """Occupied slots, first the one to keep longest; a scaled-down service keeps the first n.

    Each running slot is the n-th on its node, counted from the lowest slot. Slots that run come
    before those that do not, low n before high n, low slots before high ones.
    """
    copies: Counter[str] = Counter()
    ranks: list[tuple[bool, int, SlotKey]] = []
    for key in sorted(occupied):
        task = next((each for each in occupied[key] if running(each)), None)
        if task is None:
            ranks.append((True, 0, key))
        else:
            ranks.append((False, copies[task.node_id], key))
            copies[task.node_id] += 1
    return [key for _, _, key in sorted(ranks)]
