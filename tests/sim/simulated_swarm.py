"""A cluster in memory: the whole orchestration, and agents that do as told.

The store is the StoreView; writes get their times here as the store would set them. Agents follow
the desired state one observed state a tick.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from copy import deepcopy

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate import pipeline
from meshnet_control.orchestrate.slots import SECOND, live, terminal
from meshnet_control.orchestrate.store_view import Put, StoreView, changed
from meshnet_control.orchestrate.tasks import stamp
from meshnet_control.store.store import Object

_NEXT = {
    pb.TASK_STATE_ASSIGNED: pb.TASK_STATE_PREPARING,
    pb.TASK_STATE_PREPARING: pb.TASK_STATE_READY,
    pb.TASK_STATE_READY: pb.TASK_STATE_RUNNING,
}


def node(number: int, availability: str = "active") -> pb.Node:
    return pb.Node(
        id=f"n{number}",
        spec=pb.NodeSpec(role="worker", availability=availability),
        status=pb.NodeStatus(state="ready"),
        updated_at=stamp(1),
    )


def service(replicas: int, **spec: object) -> pb.Service:
    made = pb.Service(id="svc")
    made.spec.name = "web"
    made.spec.mode.replicated.replicas = replicas
    made.spec.task_template.container_spec.image = "web:1"
    for name, value in spec.items():
        getattr(made.spec, name).CopyFrom(value)
    return made


class Cluster:
    """Objects and a clock."""

    def __init__(self, *objects: pb.Node | pb.Service | pb.Cluster, seed: int = 1) -> None:
        self.view = StoreView.of(objects)
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.index = 10
        self.wake_at: float | None = None
        self.broken: Callable[[pb.Task], bool] = lambda _: False

    @property
    def service(self) -> pb.Service:
        return self.view.services["svc"]

    def tasks(self) -> list[pb.Task]:
        return sorted(
            self.view.tasks.values(), key=lambda t: (t.slot, t.created_at.ToNanoseconds())
        )

    def live(self) -> list[pb.Task]:
        return [task for task in self.tasks() if live(task)]

    def running(self) -> list[pb.Task]:
        return [t for t in self.tasks() if t.status.state == pb.TASK_STATE_RUNNING]

    def put(self, *objects: Object) -> None:
        self.view = self.view.apply([self._stored(each) for each in objects])

    def edit_spec(self, change: Callable[[pb.ServiceSpec], None]) -> None:
        """``docker service update``, as the control API does it."""
        new = changed(self.service)
        new.previous_spec.CopyFrom(new.spec)
        new.previous_spec_version = new.spec_version
        change(new.spec)
        new.ClearField("update_status")
        if new.spec.task_template != new.previous_spec.task_template:
            self.index += 1
            new.spec_version = self.index
        self.put(new)

    def converge(self) -> int:
        """What the leader does on a change; how many writes that took."""
        result = pipeline.converge(self.view, self.now, self.rng)
        self.wake_at = result.wake_at
        self.view = self.view.apply(
            [self._stored(w.message) if isinstance(w, Put) else w for w in result.writes]
        )
        return len(result.writes)

    def _stored(self, message: Object) -> Put:
        copy = deepcopy(message)
        copy.updated_at.CopyFrom(stamp(self.now))
        return Put(copy)

    def agents(self) -> None:
        """Every agent on a node that is up moves each of its tasks on by one state."""
        for task in self.tasks():
            up = self.view.nodes.get(task.node_id)
            if up is not None and up.status.state == "ready":
                self.put(*self._moved(task))

    def _moved(self, task: pb.Task) -> Iterator[pb.Task]:
        state = task.status.state
        if terminal(task) or state < pb.TASK_STATE_ASSIGNED:
            return
        after = _NEXT.get(state, state)
        if not live(task):
            after = pb.TASK_STATE_SHUTDOWN
        elif state == pb.TASK_STATE_READY and task.desired_state == pb.TASK_STATE_READY:
            after = state
        elif state >= pb.TASK_STATE_READY and self.broken(task):
            after = pb.TASK_STATE_FAILED
        if after != state:
            yield self.reported(task, after)

    def reported(self, task: pb.Task, state: pb.TaskState) -> pb.Task:
        moved = changed(task)
        moved.status.state = state
        moved.status.timestamp.CopyFrom(stamp(self.now))
        return moved

    def tick(self, passing_s: float = 0.1) -> None:
        """Converge, which a second time must want nothing; the agents act; time passes."""
        self.converge()
        assert self.converge() == 0
        self.agents()
        self.now += passing_s

    def run(self, for_s: float, passing_s: float = 0.1) -> Iterator[None]:
        end = self.now + for_s
        while self.now < end:
            self.tick(passing_s)
            yield

    def settle(self, for_s: float = 3.0) -> None:
        for _ in self.run(for_s):
            pass


def update_config(**values: object) -> pb.UpdateConfig:
    config = pb.UpdateConfig(parallelism=1, monitor=SECOND)
    for name, value in values.items():
        setattr(config, name, value)
    return config


def image(name: str) -> Callable[[pb.ServiceSpec], None]:
    def change(spec: pb.ServiceSpec) -> None:
        spec.task_template.container_spec.image = name

    return change


def scale(replicas: int) -> Callable[[pb.ServiceSpec], None]:
    def change(spec: pb.ServiceSpec) -> None:
        spec.mode.replicated.replicas = replicas

    return change


def images(tasks: list[pb.Task]) -> set[str]:
    return {task.spec.container_spec.image for task in tasks}
