"""The agent: runs the tasks the managers assigned to this node.

```
 assign() ──> one Worker per task <── engine events (die, destroy, health_status)
                 │ step by step (agent.step)
                 ├─> engine: create, start, kill, remove
                 ├─> data plane: sandbox, endpoint (ready or not)
                 └─> report: status, only growing
```

Be aware: a restart of this process restarts no task. Containers are found by their labels, and the
tasks they belong to are in the run directory; only what the managers no longer know is removed, and
only after they have spoken. No task runs twice: what is left of one that ran before the host booted
is a task that ended, and the managers' restart policy decides.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any, Final

from meshnet.model.snapshot import Gwbridge
from meshnet_control.agent import container, host_ports
from meshnet_control.agent.collaborators import DataPlane, Engine
from meshnet_control.agent.step import final
from meshnet_control.agent.task_dir import TASKS, TaskDir
from meshnet_control.agent.worker import Host, Worker
from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.client import (
    NODE_LABEL,
    RESYNC,
    TASK_LABEL,
    EngineError,
    EngineGoneError,
    EngineNotFoundError,
)

_log = logging.getLogger(__name__)

_RETRY_S: Final = 0.5


class Agent:
    """Runs tasks.

    Args:
        engine: the local engine.
        dataplane: wires the containers.
        report: gets (task ID, status) for every change of a task's state.
        node_id: this node.
        hostname: its name, for templates.
        run_dir: directory for what lives as long as the host is up; ``tasks`` in it is ours.
        gwbridge: docker_gwbridge of the local engine.
    """

    def __init__(
        self,
        engine: Engine,
        dataplane: DataPlane,
        report: Callable[[str, pb.TaskStatus], None],
        *,
        node_id: str,
        hostname: str,
        run_dir: Path,
        gwbridge: Gwbridge,
    ) -> None:
        self._engine = engine
        self._dataplane = dataplane
        self._node_id = node_id
        self._gwbridge = gwbridge
        self._gateways: dict[str, IPv4Interface] = {}
        self._files: dict[tuple[str, str], bytes] = {}
        self._published: set[host_ports.PortKey] = set()
        self._assigned: dict[str, pb.Task] | None = None
        self._workers: dict[str, tuple[Worker, asyncio.Task[None]]] = {}
        self._remains: dict[str, Mapping[str, Any]] = {}
        """Task ID to the container of a task whose files are gone, until the managers speak."""
        self._refused: set[str] = set()
        """Assigned tasks that no worker could be made for."""
        self._group: asyncio.TaskGroup | None = None
        self._adopted = False
        self._leaving = False
        self._idle = asyncio.Event()
        self._host = Host(
            engine=engine,
            dataplane=dataplane,
            report=report,
            place=container.Place(node_id, hostname, platform.machine()),
            tasks_dir=run_dir / TASKS,
            gateway=self._allocate,
            numbered=self._numbered,
            file_data=lambda kind, object_id: self._files.get((kind, object_id)),
        )

    # ---- messages in ----

    def assign(self, assignments: pb.Assignments) -> None:
        """All tasks of this node, with their secrets and configs."""
        self._files = {("secret", s.id): s.data for s in assignments.secrets}
        self._files |= {("config", c.id): c.data for c in assignments.configs}
        self._published = host_ports.of(p for s in assignments.services for p in s.ports)
        self._assigned = {
            task.id: task
            for task in assignments.tasks
            if not task.node_id or task.node_id == self._node_id
        }
        self._sync()

    @property
    def running(self) -> int:
        """Tasks that run on this host."""
        return sum(
            worker.view.state == pb.TASK_STATE_RUNNING for worker, _ in self._workers.values()
        )

    async def run(self) -> None:
        """Adopts what runs already, then follows assignments and events until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await self._adopt()
                self._adopted = True
                self._dataplane.adopted()
                self._sync()
                await self._follow()
            finally:
                self._adopted = False
                self._group = None
                for _, running in self._workers.values():
                    running.cancel()

    async def stop_all(self) -> None:
        """Stops and removes every task container of this node; for a node that leaves.

        ``run`` must still be running: it does the work.
        """
        self._leaving = True
        self._sync()
        while self._workers:
            self._idle.clear()
            await self._idle.wait()

    async def close(self) -> None:
        """Stops looking after the tasks; their containers run on."""
        tasks = [running for _, running in self._workers.values()]
        for running in tasks:
            running.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- inside ----

    def _sync(self) -> None:
        """Gives every worker the newest word; makes and ends workers. Level-triggered.

        Not before all containers of an earlier life have their workers: a second one would take a
        running container for a stranger's.
        """
        if not self._adopted or (self._assigned is None and not self._leaving):
            return
        assigned = {} if self._leaving else self._assigned or {}
        for task_id, (worker, _) in self._workers.items():
            worker.wanted(assigned.get(task_id))
        self._refused &= assigned.keys()
        for task in assigned.values():
            known = task.id in self._workers or task.id in self._refused
            if not known and not final(task.status.state):
                self._begin(task)
        remains, self._remains = self._remains, {}
        for task_id, found in remains.items():
            _log.warning("container %s: its task is not known any more", found["Id"])
            self._spawn(self._engine.remove(found["Id"]), f"remove {task_id}")

    def _begin(self, task: pb.Task) -> None:
        try:
            worker = Worker(self._host, task)
            remains = self._remains.pop(task.id, None)
            if remains is not None:
                worker.adopt_remains(remains)
        except Exception as error:  # noqa: BLE001 - ends one task, never the agent
            _log.exception("task %s: an error that nobody expected", task.id)
            self._refused.add(task.id)
            words = f"{type(error).__name__}: {error}"
            rejected = pb.TaskStatus(state=pb.TASK_STATE_REJECTED, message="preparing", err=words)
            rejected.timestamp.GetCurrentTime()
            self._host.report(task.id, rejected)
        else:
            self._employ(worker)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        async def logged() -> None:
            try:
                await work
            except EngineError as error:
                _log.warning("%s: %s", name, error)

        if self._group is not None:
            self._group.create_task(logged(), name=name)

    def _employ(self, worker: Worker) -> None:
        if self._group is None:
            return
        task_id = worker.task.id
        running = self._group.create_task(worker.run(), name=f"task {task_id}")
        self._workers[task_id] = (worker, running)
        running.add_done_callback(lambda _: self._dismiss(task_id))

    def _dismiss(self, task_id: str) -> None:
        self._workers.pop(task_id, None)
        self._gateways.pop(task_id, None)
        self._idle.set()

    def _allocate(self, task_id: str) -> IPv4Interface:
        found = self._gateways.get(task_id)
        if found is None:
            found = container.free_gateway_address(self._gwbridge, list(self._gateways.values()))
            self._gateways[task_id] = found
        return found

    def _numbered(self, task: pb.Task) -> pb.Task:
        here = [worker.task for worker, _ in self._workers.values()]
        taken = host_ports.of(port for other in here for port in other.endpoint_spec.ports)
        return host_ports.numbered(task, taken | self._published | host_ports.open_ports())

    async def _adopt(self) -> None:
        """Finds the containers of an earlier life."""
        found = await self._ours()
        await asyncio.gather(*(self._adopt_surely(entry["Id"]) for entry in found))

    async def _ours(self) -> list[dict[str, Any]]:
        """Task containers of this node; waits for an engine that is not up yet."""
        labels = [container.TASK_LABEL, f"{NODE_LABEL}={self._node_id}"]
        while True:
            try:
                return await self._engine.containers(labels)
            except EngineGoneError:
                await asyncio.sleep(_RETRY_S)

    async def _adopt_surely(self, container_id: str) -> None:
        """What cannot be looked at now is looked at again: it is no reason to take it for gone."""
        while True:
            try:
                return await self._adopt_one(container_id)
            except EngineNotFoundError:
                return None
            except (EngineError, OSError) as error:
                _log.warning("container %s: %s", container_id, error)
            await asyncio.sleep(_RETRY_S)

    async def _adopt_one(self, container_id: str) -> None:
        found: Mapping[str, Any] = await self._engine.inspect(container_id)
        labels = found["Config"]["Labels"]
        task_id = labels[TASK_LABEL]
        task = TaskDir(self._host.tasks_dir / task_id).task()
        if task is None and task_id not in self._remains and has_run(found):
            self._remains[task_id] = found
            return
        if task is None or task_id in self._workers:
            _log.warning("container %s: its task is not known any more", container_id)
            await self._engine.remove(container_id)
            return
        task.desired_state = pb.TASK_STATE_RUNNING
        task.status.Clear()
        text = labels.get(container.GATEWAY_LABEL, "")
        gateway = IPv4Interface(text) if text else None
        if gateway is not None:
            self._gateways[task_id] = gateway
        worker = Worker(self._host, task)
        worker.adopt(found, gateway)
        self._employ(worker)

    async def _follow(self) -> None:
        async with aclosing(self._engine.events()) as events:
            async for event in events:
                if event.action == RESYNC:
                    await self._refresh()
                elif event.task in self._workers:
                    self._workers[event.task][0].happened(event)

    async def _refresh(self) -> None:
        try:
            await asyncio.gather(*(worker.refresh() for worker, _ in self._workers.values()))
        except EngineError as error:
            _log.warning("%s", error)


def has_run(found: Mapping[str, Any]) -> bool:
    """Whether an inspected container has been started, ever. Pure."""
    return not str(found["State"]["StartedAt"]).startswith("0001-")


async def remove_task_containers(engine: Engine) -> int:
    """Removes every task container of ours, whatever node it was made by; how many there were."""
    found = await engine.containers([container.TASK_LABEL])
    await asyncio.gather(*(engine.remove(entry["Id"]) for entry in found))
    return len(found)
