"""Which tasks would have to be elsewhere for services to be spread evenly again; PURE.

Nothing is moved by itself once it runs: nodes that join, or come back, stay empty until a service
is updated. When a person asks, the fewest moves are made: of two nodes that a service's tasks fit
on, one must not have two tasks more than the other. A move takes one task from the node with most
of the service to one with fewest, which is where the scheduler puts its successor, so each move
takes one off what is too many, and no plan has fewer.

Be aware: services with placement preferences, jobs, global ones and those that are being updated or
do not run as they should are left alone; a successor is a new container, as in an update.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.replicated import replicas
from meshnet_control.orchestrate.room import Demand, Load, Room, refusal
from meshnet_control.orchestrate.slots import live
from meshnet_control.orchestrate.store_view import StoreView
from meshnet_control.orchestrate.tasks import is_replicated, running, wanted

_UPDATING = {"updating", "paused", "rollback_started", "rollback_paused"}


@dataclass(frozen=True, slots=True)
class Move:
    """One task that is to end, so that its successor begins elsewhere."""

    task: pb.Task
    to: str
    """The node that the scheduler is expected to choose."""

    @property
    def ended(self) -> pb.Task:
        """The task as it is to be written: it ends, drained as those of a node that is drained."""
        return wanted(self.task, pb.TASK_STATE_SHUTDOWN)


def moves(view: StoreView, now: float) -> list[Move]:
    """Every move that is wanted now, services by name; none: all are spread as they can be."""
    room = Room(view, now)
    services = sorted(view.services.values(), key=lambda each: (each.spec.name, each.id))
    return [move for service in services for move in _of(service, view, room)]


def settled(service: pb.Service, view: StoreView) -> bool:
    """A replicated service runs as it should: so many tasks, all of them running, no update."""
    if not is_replicated(service) or service.update_status.state in _UPDATING:
        return False
    wanted_ = [task for task in view.tasks_of_service(service.id) if live(task)]
    return len(wanted_) == replicas(service) and all(map(running, wanted_))


def _of(service: pb.Service, view: StoreView, room: Room) -> Iterator[Move]:
    if not settled(service, view) or service.spec.task_template.placement.preferences:
        return
    tasks = [task for task in view.tasks_of_service(service.id) if live(task)]
    if not tasks:
        return
    demand, there = Demand.of(tasks[0]), room.of_service(service.id)
    held: dict[str, list[pb.Task]] = {}
    for task in sorted(tasks, key=lambda each: (each.slot, each.id)):
        held.setdefault(task.node_id, []).append(task)
    while True:
        most = max(held, key=lambda name: (len(held[name]), name))
        fewest = _fewest(demand, room.loads, there)
        if fewest is None or len(held[most]) - there[fewest.id] <= 1:
            return
        task = held[most].pop()
        held.setdefault(fewest.id, []).append(task)
        there[most] -= 1
        there[fewest.id] += 1
        fewest.add(demand, task)
        yield Move(task, fewest.id)


def _fewest(demand: Demand, loads: Sequence[Load], there: Counter[str]) -> Load | None:
    """Where the scheduler would put one more: a node that fits, with fewest of the service."""
    fits = [load for load in loads if refusal(demand, load, there[load.id]) is None]
    return min(fits, key=lambda load: (there[load.id], load.tasks, load.id), default=None)
