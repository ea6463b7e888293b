"""What nodes have left for tasks, and which of them a task does not fit on. Pure.

Each node goes through the filters in this order and fails at the first that refuses it:

    ready and active | resources | plugins | constraints | platform | encryption | privileges |
    host ports | max replicas

Be aware: only reservations are counted, never what a container really uses.
Source: swarmkit manager/scheduler (filter.go, nodeinfo.go).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import encryption, node_local, privileges
from meshnet_control.orchestrate import constraints
from meshnet_control.orchestrate.folds import Usage
from meshnet_control.orchestrate.generic import Name, amounts, names
from meshnet_control.orchestrate.store_view import StoreView

MANY_FAILURES = 5
"""A node with fewer recent failures of a service counts as one without."""
FAILURE_WINDOW_S = 300.0

Port: TypeAlias = tuple[str, int]


@dataclass(frozen=True)
class Demand:
    """What tasks of one specification take of a node."""

    task: pb.Task
    """One of them."""
    service: str
    cpus: int
    memory: int
    generic: Counter[str]
    """Amounts by kind."""
    host_ports: tuple[Port, ...]
    max_replicas: int
    spread: tuple[str, ...]
    """Keys of the spread preferences, the widest first."""
    anywhere: bool
    """It asks nothing of a node but room."""

    @classmethod
    def of(cls, task: pb.Task) -> Demand:
        """What a task takes."""
        reserved, placement = task.spec.resources.reservations, task.spec.placement
        return cls(
            task=task,
            service=task.service_id,
            cpus=reserved.nano_cpus,
            memory=reserved.memory_bytes,
            generic=amounts(reserved.generic_resources),
            host_ports=tuple(_host_ports(task)),
            max_replicas=placement.max_replicas,
            spread=tuple(p.spread.spread_descriptor for p in placement.preferences),
            anywhere=not (
                placement.constraints
                or placement.platforms
                or task.spec.container_spec.mounts
                or task.spec.log_driver.name
                or node_local.of_task(task)
                or privileges.LABELS & task.service_labels.keys()
                or encryption.of_task(task)
            ),
        )

    def is_that_of(self, task: pb.Task) -> bool:
        """Another task takes just the same."""
        return (
            self.task.service_id == task.service_id
            and self.task.spec_version == task.spec_version
            and (self.task.desired_state <= pb.TASK_STATE_READY)
            == (task.desired_state <= pb.TASK_STATE_READY)
            and self.task.endpoint_spec == task.endpoint_spec
            and self.task.spec == task.spec
        )


@dataclass
class Claims:
    """Ports and generic resources that are left of a node."""

    generic: Counter[str]
    """Free amounts; below zero when the node shrank."""
    free_names: set[Name]
    """Named resources that no task has."""
    host_ports: dict[Port, list[pb.Task]] = field(default_factory=dict)

    def add(self, task: pb.Task) -> None:
        """Count a task that is not over yet."""
        self.generic.subtract(amounts(task.spec.resources.reservations.generic_resources))
        self.free_names -= names(task.generic_resources)
        for port in _host_ports(task):
            self.host_ports.setdefault(port, []).append(task)


class Load:
    """A node and what its tasks leave of it, kept up to date while a step assigns.

    Args:
        view: with the node.
        node_id: of it.
    """

    def __init__(self, view: StoreView, node_id: str) -> None:
        self._view = view
        self.id = node_id
        self.ready, cpus, memory = view.indexes.facts[node_id]
        used = view.indexes.usage.get(node_id, Usage())
        self.cpus, self.memory, self.tasks = cpus - used.cpus, memory - used.memory, used.tasks

    @property
    def node(self) -> pb.Node:
        """The node."""
        return self._view.nodes[self.id]

    @cached_property
    def claims(self) -> Claims:
        """Ports and generic resources that are left."""
        has = self.node.description.resources.generic_resources
        found = Claims(amounts(has), names(has))
        for _, task in sorted(self._view.indexes.claims.get(self.id, {}).items()):
            found.add(task)
        return found

    def add(self, demand: Demand, task: pb.Task) -> None:
        """Count a task that was given the node."""
        self.cpus -= demand.cpus
        self.memory -= demand.memory
        self.tasks += 1
        if demand.generic or demand.host_ports or task.generic_resources:
            self.claims.add(task)


class Room:
    """All nodes while a step assigns.

    Args:
        view: the cluster.
        now: Unix seconds.
    """

    def __init__(self, view: StoreView, now: float) -> None:
        self._view, self._now = view, now
        self._service: tuple[str, Counter[str]] = "", Counter()

    @cached_property
    def loads(self) -> Sequence[Load]:
        """Every node, in the order of their ids."""
        return [Load(self._view, name) for name in sorted(self._view.nodes)]

    @cached_property
    def by_id(self) -> dict[str, Load]:
        """The same by id."""
        return {load.id: load for load in self.loads}

    @cached_property
    def unready(self) -> int:
        """Nodes that take no tasks."""
        return sum(not load.ready for load in self.loads)

    @cached_property
    def _least(self) -> list[tuple[int, str]]:
        """A heap of the nodes that take tasks, by how many they have."""
        found = [(load.tasks, load.id) for load in self.loads if load.ready]
        heapify(found)
        return found

    def least(self) -> Load | None:
        """The node with fewest tasks, and the lowest id, which is taken out; None: all are out.

        A node that got tasks while it was in is put where it belongs as it is met: it has only
        more of them than the heap says.
        """
        while self._least:
            tasks, name = heappop(self._least)
            load = self.by_id[name]
            if tasks == load.tasks:
                return load
            self.give_back(name)
        return None

    def give_back(self, node_id: str) -> None:
        """Put a node back that was taken out, with the tasks that it has now."""
        heappush(self._least, (self.by_id[node_id].tasks, node_id))

    def of_service(self, service_id: str) -> Counter[str]:
        """Tasks of a service by node; to be kept up to date while they are assigned."""
        if self._service[0] != service_id:
            self._service = service_id, Counter(self._view.indexes.spread.get(service_id, {}))
        return self._service[1]

    def failing(self, demand: Demand) -> Counter[str]:
        """Recent failures of tasks of a specification, by node."""
        version = demand.task.spec_version
        return Counter(
            task.node_id
            for task in self._view.indexes.failed.get(demand.service, {}).values()
            if task.spec_version == version
            and self._now - (task.status.timestamp.seconds + task.status.timestamp.nanos / 1e9)
            < FAILURE_WINDOW_S
        )


def refusal(demand: Demand, load: Load, of_service: int) -> str | None:
    """The first filter that refuses a node; None: it fits."""
    why = _no_room(demand, load)
    if why is None and not demand.anywhere:
        why = _unfit(demand, load.node)
    return why or _crowded(demand, load, of_service)


def filled(demand: Demand, load: Load, of_service: int) -> str | None:
    """The filter that refuses a node that fitted before it got more tasks; None: it still fits."""
    return _no_room(demand, load) or _crowded(demand, load, of_service)


def _no_room(demand: Demand, load: Load) -> str | None:
    if not load.ready:
        return "ready"
    if (demand.cpus and demand.cpus > load.cpus) or (demand.memory and demand.memory > load.memory):
        return "resources"
    if demand.generic and any(
        amount > load.claims.generic[kind] for kind, amount in demand.generic.items()
    ):
        return "resources"
    return None


def _unfit(demand: Demand, node: pb.Node) -> str | None:
    spec = demand.task.spec
    if not _has_plugins(demand.task, node):
        return "plugins"
    if not all(constraints.satisfied(text, node) for text in spec.placement.constraints):
        return "constraints"
    if not constraints.runs_platform(node, list(spec.placement.platforms)):
        return "platform"
    if encryption.of_task(demand.task) and not node.description.esp:
        return "encryption"
    engine = node.description.engine
    return None if privileges.fits(demand.task.service_labels, engine.labels) else "privileges"


def _crowded(demand: Demand, load: Load, of_service: int) -> str | None:
    if demand.host_ports and any(
        _port_taken(demand.task, holder)
        for port in demand.host_ports
        for holder in load.claims.host_ports.get(port, ())
    ):
        return "host ports"
    if demand.max_replicas and of_service >= demand.max_replicas:
        return "max replicas"
    return None


def _has_plugins(task: pb.Task, node: pb.Node) -> bool:
    """Drivers of volumes, of the log and of networks; the overlay driver is ours and everywhere."""
    spec = task.spec
    plugins = {(p.type, p.name.removesuffix(":latest")) for p in node.description.engine.plugins}
    drivers = {
        mount.volume_options.driver_config.name
        for mount in spec.container_spec.mounts
        if mount.type == "volume"
    }
    wanted = {("Volume", name.removesuffix(":latest")) for name in drivers - {"", "local"}}
    log = spec.log_driver.name
    if log not in {"", "none"} and any(kind == "Log" for kind, _ in plugins):
        wanted.add(("Log", log))
    if any(kind == "Network" for kind, _ in plugins):
        local = node_local.of_task(task)
        wanted |= {("Network", node_local.driver_of(each.network)) for each in local}
    return wanted <= plugins


def _host_ports(task: pb.Task) -> Iterator[Port]:
    return (
        (port.protocol or "tcp", port.published_port)
        for port in task.endpoint_spec.ports
        if port.publish_mode == "host" and port.published_port
    )


def _port_taken(task: pb.Task, holder: pb.Task) -> bool:
    """False when the holder is on its way out and the task waits (READY) to take its place."""
    return not (
        holder.desired_state > pb.TASK_STATE_COMPLETE
        and holder.service_id == task.service_id
        and task.desired_state <= pb.TASK_STATE_READY
    )
