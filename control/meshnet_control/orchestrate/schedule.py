"""Gives every PENDING task a node: PENDING -> ASSIGNED. Pure.

Each node goes through the filters in this order and fails at the first that refuses it:

    ready and active | resources | plugins | constraints | platform | host ports | max replicas

Of the nodes left the task goes to the one with, in this order: the least loaded branch for every
spread preference; fewest recent failures of the service (counted from five in five minutes on);
fewest tasks of the service; fewest tasks; lowest id.

Be aware: only reservations are counted, never what a container really uses. Nothing is moved once
it runs. A task that finds no node stays PENDING and says why in Status.Err; a changed node or task
wakes the leader, which tries again.
Source: swarmkit manager/scheduler (pipeline.go, filter.go, nodeinfo.go, scheduler.go nodeLess).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate import constraints
from meshnet_control.orchestrate.allocate import timestamp
from meshnet_control.orchestrate.store_view import Put, Step, StoreView, Write, changed

ASSIGNED_MESSAGE = "scheduler assigned task to node"
CONFIRMED_MESSAGE = "scheduler confirmed task can run on preassigned node"
MANY_FAILURES = 5
"""A node with fewer recent failures of a service counts as one without."""
FAILURE_WINDOW_S = 300.0

_REASONS = {  # of one node, of several; in the order of the filters
    "ready": ("1 node not available for new tasks", "{} nodes not available for new tasks"),
    "resources": ("insufficient resources on 1 node", "insufficient resources on {} nodes"),
    "plugins": ("missing plugin on 1 node", "missing plugin on {} nodes"),
    "constraints": (
        "scheduling constraints not satisfied on 1 node",
        "scheduling constraints not satisfied on {} nodes",
    ),
    "platform": ("unsupported platform on 1 node", "unsupported platform on {} nodes"),
    "host ports": (
        "host-mode port already in use on 1 node",
        "host-mode port already in use on {} nodes",
    ),
    "max replicas": ("max replicas per node limit exceed",) * 2,
}
_ORDER = list(_REASONS)


def step(view: StoreView, now: float, rng: Rng) -> Step:
    """Assign what can be assigned; say of the rest why not."""
    pending = [task for task in view.tasks.values() if _pending(task)]
    if not pending:
        return Step()
    nodes = [_Load.of(view, node, now) for _, node in sorted(view.nodes.items())]
    static: _Static = {}
    writes: list[Write] = []
    for task in sorted(pending, key=lambda t: (not t.node_id, t.service_id, t.slot, t.id)):
        new = _placed(_Demand.of(task), nodes, static, now)
        if new != task:
            writes.append(Put(new))
    return Step(tuple(writes))


def _placed(demand: _Demand, nodes: Sequence[_Load], static: _Static, now: float) -> pb.Task:
    """The task on a node, whose load grows, or with the reason why it got none."""
    task = demand.task
    refusals: Counter[str] = Counter()
    fitting: list[_Load] = []
    for load in nodes:
        if task.node_id and load.node.id != task.node_id:
            continue
        refusal = _refusal(demand, load, static)
        if refusal is None:
            fitting.append(load)
        else:
            refusals[refusal] += 1
    if not fitting:
        return _explained(task, explain(refusals), now)
    chosen = _best(demand, fitting, nodes)
    new = _assigned(task, chosen.node.id, now)
    chosen.add(demand)
    return new


def explain(refusals: Counter[str]) -> str:
    """How many nodes each filter refused, most first, in Swarm's words; "" when there are none."""
    found = sorted(
        (name for name in refusals if refusals[name]),
        key=lambda name: (-refusals[name], _ORDER.index(name)),
    )
    return "; ".join(_REASONS[name][refusals[name] > 1].format(refusals[name]) for name in found)


@dataclass(frozen=True)
class _Demand:
    """What a task takes of a node, read once from its spec."""

    task: pb.Task
    service: str
    version: tuple[str, int]
    """Service and version of its spec."""
    cpus: int
    memory: int
    generic: Counter[str]
    host_ports: tuple[tuple[str, int], ...]
    max_replicas: int
    spread: tuple[str, ...]
    """Keys of the spread preferences, the widest first."""

    @classmethod
    def of(cls, task: pb.Task) -> _Demand:
        reserved, placement = task.spec.resources.reservations, task.spec.placement
        return cls(
            task=task,
            service=task.service_id,
            version=(task.service_id, task.spec_version),
            cpus=reserved.nano_cpus,
            memory=reserved.memory_bytes,
            generic=_generic(reserved),
            host_ports=tuple(_host_ports(task)),
            max_replicas=placement.max_replicas,
            spread=tuple(p.spread.spread_descriptor for p in placement.preferences),
        )


@dataclass
class _Load:
    """A node and what its tasks leave of it, kept up to date while a step assigns."""

    node: pb.Node
    ready: bool
    cpus: int
    memory: int
    generic: Counter[str]
    """Free amounts; below zero when the node shrank."""
    tasks: int = 0
    of_service: Counter[str] = field(default_factory=Counter)
    failures: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Recent failures by service and version of its spec."""
    host_ports: dict[tuple[str, int], list[pb.Task]] = field(default_factory=dict)

    @classmethod
    def of(cls, view: StoreView, node: pb.Node, now: float) -> _Load:
        has = node.description.resources
        load = cls(
            node=node,
            ready=node.status.state == "ready" and node.spec.availability in {"", "active"},
            cpus=has.nano_cpus,
            memory=has.memory_bytes,
            generic=_generic(has),
        )
        for task in view.tasks_on_node(node.id):
            if task.status.state <= pb.TASK_STATE_RUNNING and not _pending(task):
                load.add(_Demand.of(task))
            elif task.status.state in {pb.TASK_STATE_FAILED, pb.TASK_STATE_REJECTED}:
                at = task.status.timestamp.seconds + task.status.timestamp.nanos / 1e9
                if now - at < FAILURE_WINDOW_S:
                    load.failures[task.service_id, task.spec_version] += 1
        return load

    def add(self, demand: _Demand) -> None:
        """Count a task that is not over yet."""
        self.cpus -= demand.cpus
        self.memory -= demand.memory
        self.generic.subtract(demand.generic)
        if demand.task.desired_state <= pb.TASK_STATE_COMPLETE:
            self.tasks += 1
            self.of_service[demand.service] += 1
        for port in demand.host_ports:
            self.host_ports.setdefault(port, []).append(demand.task)


_Static: TypeAlias = dict[tuple[tuple[str, int], str], str | None]
"""Answers, by spec and node, of the filters that look at nothing else."""


def _pending(task: pb.Task) -> bool:
    return bool(
        task.status.state == pb.TASK_STATE_PENDING and task.desired_state <= pb.TASK_STATE_COMPLETE
    )


def _refusal(demand: _Demand, load: _Load, static: _Static) -> str | None:
    """The first filter that refuses the node; None: it fits."""
    if not load.ready:
        return "ready"
    if not _has_room(demand, load):
        return "resources"
    key = (demand.version, load.node.id)
    if key not in static:
        static[key] = _static_refusal(demand.task, load.node)
    if static[key] is not None:
        return static[key]
    holders = (holder for port in demand.host_ports for holder in load.host_ports.get(port, ()))
    if any(_port_taken(demand.task, holder) for holder in holders):
        return "host ports"
    if demand.max_replicas and load.of_service[demand.service] >= demand.max_replicas:
        return "max replicas"
    return None


def _static_refusal(task: pb.Task, node: pb.Node) -> str | None:
    placement = task.spec.placement
    if not _has_plugins(task.spec, node):
        return "plugins"
    if not all(constraints.satisfied(text, node) for text in placement.constraints):
        return "constraints"
    if not constraints.runs_platform(node, list(placement.platforms)):
        return "platform"
    return None


def _has_room(demand: _Demand, load: _Load) -> bool:
    return (
        (not demand.cpus or demand.cpus <= load.cpus)
        and (not demand.memory or demand.memory <= load.memory)
        and all(amount <= load.generic[kind] for kind, amount in demand.generic.items())
    )


def _generic(resources: pb.NodeResources) -> Counter[str]:
    """Amounts by kind; every named resource is one."""
    amounts: Counter[str] = Counter()
    for resource in resources.generic_resources:
        if resource.HasField("named_resource_spec"):
            amounts[resource.named_resource_spec.kind] += 1
        else:
            discrete = resource.discrete_resource_spec
            amounts[discrete.kind] += discrete.value
    return amounts


def _has_plugins(spec: pb.TaskSpec, node: pb.Node) -> bool:
    """Volume drivers and the log driver; the overlay driver is ours and everywhere."""
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
    return wanted <= plugins


def _host_ports(task: pb.Task) -> list[tuple[str, int]]:
    return [
        (port.protocol or "tcp", port.published_port)
        for port in task.endpoint_spec.ports
        if port.publish_mode == "host" and port.published_port
    ]


def _port_taken(task: pb.Task, holder: pb.Task) -> bool:
    """False when the holder is on its way out and the task waits (READY) to take its place."""
    return not (
        holder.desired_state > pb.TASK_STATE_COMPLETE
        and holder.service_id == task.service_id
        and task.desired_state <= pb.TASK_STATE_READY
    )


def _best(demand: _Demand, fitting: Sequence[_Load], nodes: Sequence[_Load]) -> _Load:
    """The node to take, of those that fit; all nodes count for the load of a branch."""
    branches: Counter[tuple[str, ...]] = Counter()
    if demand.spread:
        for load in nodes:
            path = _path(load, demand.spread)
            for depth in range(1, len(path) + 1):
                branches[path[:depth]] += load.of_service[demand.service]

    def rank(load: _Load) -> tuple[list[tuple[int, str]], int, int, int, str]:
        path = _path(load, demand.spread)
        spread = [(branches[path[: i + 1]], value) for i, value in enumerate(path)]
        failures = load.failures.get(demand.version, 0)
        return (
            spread,
            failures if failures >= MANY_FAILURES else 0,
            load.of_service[demand.service],
            load.tasks,
            load.node.id,
        )

    return min(fitting, key=rank)


def _path(load: _Load, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(constraints.value_of(key, load.node) or "" for key in keys)


def _assigned(task: pb.Task, node_id: str, now: float) -> pb.Task:
    new = changed(task)
    new.status.Clear()
    new.status.state = pb.TASK_STATE_ASSIGNED
    new.status.message = CONFIRMED_MESSAGE if task.node_id else ASSIGNED_MESSAGE
    new.status.timestamp.CopyFrom(timestamp(now))
    new.node_id = node_id
    return new


def _explained(task: pb.Task, reasons: str, now: float) -> pb.Task:
    """The task with the reason why it waits; unchanged when it says so already."""
    if task.node_id:
        text = reasons
    else:
        text = f"no suitable node ({reasons})" if reasons else "no suitable node"
    if task.status.err == text:
        return task
    new = changed(task)
    new.status.err = text
    new.status.timestamp.CopyFrom(timestamp(now))
    return new
