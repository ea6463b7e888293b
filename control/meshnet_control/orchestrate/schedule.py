"""Gives every PENDING task a node: PENDING -> ASSIGNED. Pure.

Of the nodes that fit (``room``) the task goes to the one with, in this order: the least loaded
branch for every spread preference; fewest recent failures of the service (counted from five in five
minutes on); fewest tasks of the service; fewest tasks; lowest id.

Tasks of one specification are placed one after the other, each time on the best node of a heap. All
that ask for no spread share one, of nodes by their tasks: those that nothing of the service is on
come first, so as many are looked at as get a task. With preferences each node is looked at once for
a specification, and again when it got a task:

    zone x (3)     zone y (5)     one heap of branches for each preference, by their tasks,
     a  b  c        d  e          one heap of nodes in each branch at the end

Be aware: nothing is moved once it runs. A task that finds no node stays PENDING and says why in
Status.Err; a changed node or task wakes the leader, which tries again.
Source: swarmkit manager/scheduler (pipeline.go, scheduler.go nodeLess, nodeset.go).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import privileges
from meshnet_control.orchestrate import constraints
from meshnet_control.orchestrate.allocate import timestamp
from meshnet_control.orchestrate.folds import Waiting
from meshnet_control.orchestrate.generic import claimed
from meshnet_control.orchestrate.room import MANY_FAILURES, Demand, Load, Room, filled, refusal
from meshnet_control.orchestrate.store_view import Put, Step, StoreView, changed

ASSIGNED_MESSAGE = "scheduler assigned task to node"
CONFIRMED_MESSAGE = "scheduler confirmed task can run on preassigned node"

_REASONS = {  # of one node, of several; in the order of the filters
    "ready": ("1 node not available for new tasks", "{} nodes not available for new tasks"),
    "resources": ("insufficient resources on 1 node", "insufficient resources on {} nodes"),
    "plugins": ("missing plugin on 1 node", "missing plugin on {} nodes"),
    "constraints": (
        "scheduling constraints not satisfied on 1 node",
        "scheduling constraints not satisfied on {} nodes",
    ),
    "platform": ("unsupported platform on 1 node", "unsupported platform on {} nodes"),
    "encryption": (
        "kernel without ESP, for an encrypted network, on 1 node",
        "kernel without ESP, for an encrypted network, on {} nodes",
    ),
    "host ports": (
        "host-mode port already in use on 1 node",
        "host-mode port already in use on {} nodes",
    ),
    "max replicas": ("max replicas per node limit exceed",) * 2,
    "privileges": (
        "1 node does not allow {asked}",
        "{} nodes do not allow {asked}",
    ),
}
_ORDER = list(_REASONS)


def step(view: StoreView, now: float, rng: Rng) -> Step:
    """Assign what can be assigned; say of the rest why not."""
    pending = view.waiting(Waiting.NODE)
    if not pending:
        return Step()
    room = Room(view, now)
    tasks = sorted(pending, key=lambda t: (not t.node_id, t.service_id, t.slot, t.id))
    placed = (
        task for demand, group in _groups(tasks) for task in _placed(demand, group, room, now)
    )
    return Step(tuple(Put(task) for task in placed))


def explain(refusals: Mapping[str, int], task: pb.Task) -> str:
    """How many nodes each filter refused, most first, in Swarm's words; "" when there are none."""
    found = sorted(
        (name for name in refusals if refusals[name]),
        key=lambda name: (-refusals[name], _ORDER.index(name)),
    )
    asked = privileges.asked(task.service_labels) if refusals.get("privileges") else None
    return "; ".join(
        _REASONS[name][refusals[name] > 1].format(refusals[name], asked=asked) for name in found
    )


def _groups(tasks: Iterable[pb.Task]) -> Iterator[tuple[Demand, list[pb.Task]]]:
    """Tasks that follow each other and take the same."""
    demand: Demand | None = None
    group: list[pb.Task] = []
    for task in tasks:
        if demand is not None and demand.is_that_of(task):
            group.append(task)
            continue
        if demand is not None:
            yield demand, group
        demand, group = Demand.of(task), [task]
    if demand is not None:
        yield demand, group


def _placed(demand: Demand, tasks: Iterable[pb.Task], room: Room, now: float) -> Iterator[pb.Task]:
    """The tasks that got a node, whose load grows, or another reason why they got none."""
    of_service = room.of_service(demand.service)
    anywhere: _Nodes | _Branches | None = None
    for task in tasks:
        if task.node_id:
            load = room.by_id.get(task.node_id)
            why = "" if load is None else refusal(demand, load, of_service[load.id])
            text = explain({why: 1}, task) if why else ""
            load = load if why is None else None
        else:
            anywhere = anywhere or (_Branches if demand.spread else _Nodes)(demand, room)
            load = anywhere.best()
            text = "" if load is not None else anywhere.reasons()
        if load is None:
            yield from _explained(task, text, now)
            continue
        new = _assigned(task, load.id, now)
        if demand.generic:
            new.generic_resources.extend(claimed(demand.generic, load.claims.free_names))
        load.add(demand, new)
        of_service[load.id] += 1
        yield new
    if isinstance(anywhere, _Nodes):
        anywhere.give_back()


_Rank: TypeAlias = tuple[int, int, int, str]
"""Failures when they are many, tasks of the service, tasks, id."""


class _Nodes:
    """The nodes that fit tasks of one specification, looked at as they are needed.

    Args:
        demand: of each of the tasks.
        room: all nodes.
    """

    def __init__(self, demand: Demand, room: Room) -> None:
        self._demand, self._room = demand, room
        self._of_service = room.of_service(demand.service)
        self._refusals = Counter({"ready": room.unready})
        self._known: list[_Rank] = []
        """Those that something of the service is on, or fails on."""
        self._taken: list[str] = []
        """Of the heap that all share."""
        failures = room.failing(demand)
        many = {name: failed for name, failed in failures.items() if failed >= MANY_FAILURES}
        self._apart = many.keys() | {name for name, tasks in self._of_service.items() if tasks}
        for load in filter(None, map(room.by_id.get, self._apart)):
            if load.ready and self._fits(load, refusal):
                tasks = self._of_service[load.id]
                self._known.append((many.get(load.id, 0), tasks, load.tasks, load.id))
        heapify(self._known)

    def best(self) -> Load | None:
        """The best node for one more task, which it gets; None: none fits any more."""
        while (load := self._room.least()) is not None:
            self._taken.append(load.id)
            if load.id not in self._apart and self._fits(load, refusal):
                heappush(self._known, (0, 1, load.tasks + 1, load.id))
                return load
        while self._known:
            many, tasks, every, name = heappop(self._known)
            load = self._room.by_id[name]
            if self._fits(load, filled):
                heappush(self._known, (many, tasks + 1, every + 1, name))
                return load
        return None

    def _fits(self, load: Load, filters: Callable[[Demand, Load, int], str | None]) -> bool:
        why = filters(self._demand, load, self._of_service[load.id])
        if why is not None:
            self._refusals[why] += 1
        return why is None

    def give_back(self) -> None:
        """Let others have the nodes that were looked at, with what they got."""
        for name in self._taken:
            self._room.give_back(name)

    def reasons(self) -> str:
        """Why there is no node, in Swarm's words."""
        return _no_node(self._refusals, self._demand)


def _no_node(refusals: Mapping[str, int], demand: Demand) -> str:
    text = explain(refusals, demand.task)
    return f"no suitable node ({text})" if text else "no suitable node"


class _Branches:
    """The nodes that fit tasks of one specification, by its spread preferences.

    Args:
        demand: of each of the tasks.
        room: all nodes.
    """

    def __init__(self, demand: Demand, room: Room) -> None:
        self._demand, self._loads = demand, room.by_id
        self._of_service = room.of_service(demand.service)
        self._refusals: Counter[str] = Counter()
        self._root = _Branch()
        failures = room.failing(demand)
        for load in room.loads:
            tasks, branch = self._of_service[load.id], self._root
            for value in _path(load, demand.spread):
                branch = branch.grown(value, tasks)
            why = refusal(demand, load, tasks)
            if why is None:
                failed = failures[load.id]
                many = failed if failed >= MANY_FAILURES else 0
                branch.nodes.append((many, tasks, load.tasks, load.id))
            else:
                self._refusals[why] += 1
        self._root.order()

    def best(self) -> Load | None:
        """The best node for one more task, which it gets; None: none fits any more."""
        return self._best(self._root)

    def reasons(self) -> str:
        """Why there is no node, in Swarm's words."""
        return _no_node(self._refusals, self._demand)

    def _best(self, branch: _Branch) -> Load | None:
        while branch.branches:
            tasks, value, inner = heappop(branch.branches)
            found = self._best(inner)
            if found is not None:
                heappush(branch.branches, (tasks + 1, value, inner))
                return found
        while branch.nodes:
            many, tasks, every, name = heappop(branch.nodes)
            load = self._loads[name]
            why = filled(self._demand, load, self._of_service[name])
            if why is None:
                heappush(branch.nodes, (many, tasks + 1, every + 1, name))
                return load
            self._refusals[why] += 1
        return None


class _Branch:
    """Nodes with the same values of some preferences; by the next one, or the nodes themselves."""

    def __init__(self) -> None:
        self.nodes: list[_Rank] = []
        self.branches: list[tuple[int, str, _Branch]] = []
        """By tasks of the service on all of their nodes, and the value."""
        self._grown: dict[str, tuple[int, _Branch]] = {}

    def grown(self, value: str, tasks: int) -> _Branch:
        """The branch of a value, with these tasks more."""
        before, branch = self._grown.get(value, (0, None))
        branch = branch or _Branch()
        self._grown[value] = before + tasks, branch
        return branch

    def order(self) -> None:
        """The best to the front, once everything has grown."""
        heapify(self.nodes)
        self.branches = [(tasks, value, inner) for value, (tasks, inner) in self._grown.items()]
        heapify(self.branches)
        for _, _, inner in self.branches:
            inner.order()


def _path(load: Load, keys: Iterable[str]) -> Iterator[str]:
    return (constraints.value_of(key, load.node) or "" for key in keys)


def _assigned(task: pb.Task, node_id: str, now: float) -> pb.Task:
    new = changed(task)
    new.status.Clear()
    new.status.state = pb.TASK_STATE_ASSIGNED
    new.status.message = CONFIRMED_MESSAGE if task.node_id else ASSIGNED_MESSAGE
    new.status.timestamp.CopyFrom(timestamp(now))
    new.node_id = node_id
    return new


def _explained(task: pb.Task, text: str, now: float) -> Iterator[pb.Task]:
    """The task with the reason why it waits; nothing when it says so already."""
    if task.status.err == text:
        return
    new = changed(task)
    new.status.err = text
    new.status.timestamp.CopyFrom(timestamp(now))
    yield new
