"""The agent: runs the tasks the managers assigned to this node.

```
 assign() ──> one Worker per task <── engine events (die, destroy, health_status)
                 │ step by step (step)
                 ├─> engine: create, start, kill, remove
                 ├─> data plane: sandbox, endpoint (ready or not)
                 └─> report: status, only growing
```

Be aware: a restart of this process restarts no task. Containers are found by their labels, and the
tasks they belong to are remembered in the state directory; only what the managers no longer know is
removed, and only after they have spoken. A task whose container may have run before and is gone has
failed, whatever was lost with it: it never runs a second time (``step``).
"""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Final

from meshnet import ends
from meshnet.errors import MeshnetError
from meshnet.kernel import host_sockets
from meshnet.model.snapshot import Gwbridge
from meshnet_control.agent import container, engine_socket, host_ports, inspected, step
from meshnet_control.agent.attachments import Attachments
from meshnet_control.agent.collaborators import DataPlane, Engine
from meshnet_control.agent.gateway_addresses import GatewayAddresses, gateway_in
from meshnet_control.agent.host import Host
from meshnet_control.agent.node_networks import NodeNetworks
from meshnet_control.agent.process_watch import PROC
from meshnet_control.agent.report import Report
from meshnet_control.agent.step import final
from meshnet_control.agent.task_containers import task_containers
from meshnet_control.agent.task_dir import TASKS, TaskDir
from meshnet_control.agent.task_files import Assigned
from meshnet_control.agent.task_memory import TaskMemory
from meshnet_control.agent.worker import Worker
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.attachments import is_attachment
from meshnet_control.cluster.node_state import ById, NodeState
from meshnet_control.engine.client import (
    NODE_LABEL,
    RESYNC,
    TASK_LABEL,
    EngineError,
    EngineGoneError,
    EngineNotFoundError,
    Event,
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
        state_dir: directory for what outlives a reboot; ``tasks`` in it is ours.
        gwbridge: docker_gwbridge of the local engine; None: ``attach`` gives it.
        proc: proc(5) with the processes of the engine's containers.
        wall: Unix time, seconds.
        allows_privileged: services may ask for more of this host (``cluster/privileges``).
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
        state_dir: Path,
        gwbridge: Gwbridge | None = None,
        proc: Path = PROC,
        wall: Callable[[], float] = time.time,
        allows_privileged: bool = False,
    ) -> None:
        self._engine = engine
        self._dataplane = dataplane
        self._node_id = node_id
        self._gateways = GatewayAddresses(gwbridge)
        self._files: dict[tuple[str, str], Assigned] = {}
        self._published: set[host_ports.PortKey] = set()
        self._publishing: ById[pb.ServiceView] | None = None
        self._assigned: dict[str, pb.Task] | None = None
        self._workers: dict[str, tuple[Worker, asyncio.Task[None]]] = {}
        self._refused: set[str] = set()
        """Assigned tasks that no worker could be made for."""
        self._group: asyncio.TaskGroup | None = None
        self._adopted = False
        self._swept = False
        self._leaving = False
        self._idle = asyncio.Event()
        self.attachments = Attachments(
            engine,
            dataplane,
            node_id=node_id,
            state_dir=state_dir,
            run_dir=run_dir,
            gateways=self._gateways,
        )
        """Containers of ``docker run`` on networks of the cluster."""
        self.networks = NodeNetworks(engine)
        """Networks of the cluster that this node's engine makes."""
        self._host = Host(
            engine=engine,
            dataplane=dataplane,
            report=report,
            place=container.Place(
                node_id, hostname, platform.machine(), allows_privileged=allows_privileged
            ),
            tasks_dir=run_dir / TASKS,
            memories_dir=state_dir / TASKS,
            proc=proc,
            socket=engine_socket.lent_path(state_dir),
            gateways=self._gateways,
            numbered=self._numbered,
            assigned=lambda kind, object_id: self._files.get((kind, object_id)),
            networks=self.networks,
            runnable=set(),
            wall=wall,
        )

    # ---- messages in ----

    def attach(self, gwbridge: Gwbridge) -> None:
        """Gives the agent the local engine's docker_gwbridge; before ``run``."""
        self._gateways.bridge = gwbridge

    def assign(self, assignments: NodeState) -> None:
        """All tasks of this node, with their secrets and configs."""
        self._files = {("secret", s.id): s for s in assignments.secrets}
        self._files |= {("config", c.id): c for c in assignments.configs}
        if assignments.published is not self._publishing:
            self._publishing = assignments.published
            self._published = host_ports.of(p for s in self._publishing for p in s.ports)
        self._assigned = {
            task.id: task
            for task in assignments.tasks
            if (not task.node_id or task.node_id == self._node_id) and not is_attachment(task)
        }
        self.attachments.assign(assignments.tasks)
        self._sync()

    @property
    def running(self) -> int:
        """Tasks that run on this host."""
        return sum(
            worker.view.state == pb.TASK_STATE_RUNNING for worker, _ in self._workers.values()
        )

    @property
    def states(self) -> Counter[str]:
        """How many tasks of this host are in each state, in words."""
        return Counter(step.word(worker.view.state) for worker, _ in self._workers.values())

    async def run(self) -> None:
        """Adopts what runs already, then follows assignments and events until cancelled."""
        sweeping: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                if self._has_booted():
                    self._dataplane.nothing_ran()
                await self._adopt()
                await self.attachments.adopt()
                self._adopted = True
                self._dataplane.adopted()
                self._sync()
                sweeping = group.create_task(self.networks.run(), name="networks of this node")
                await self._follow()
            finally:
                self._adopted = False
                self._group = None
                if sweeping is not None:
                    sweeping.cancel()
                for _, running in self._workers.values():
                    running.cancel()
                await self.attachments.close()

    async def stop_all(self) -> None:
        """Stops and removes every task container of this node; for a node that leaves.

        ``run`` must still be running: it does the work.
        """
        self._leaving = True
        await self.attachments.leave()
        self._sync()
        while self._workers:
            self._idle.clear()
            await self._idle.wait()
        with suppress(EngineError):
            await self.networks.sweep()

    async def close(self) -> None:
        """Stops looking after the tasks; their containers run on."""
        await self.attachments.close()
        await ends.ended(*(running for _, running in self._workers.values()))

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
        if not self._swept:
            self._swept = True
            self._sweep()

    def _begin(self, task: pb.Task) -> None:
        try:
            self._employ(Worker(self._host, task))
        except Exception as error:  # noqa: BLE001 - ends one task, never the agent
            _log.exception("task %s", task.id)
            self._refused.add(task.id)
            words = str(error) or type(error).__name__
            Report(self._host.report, self._host.wall).state(
                task, pb.TASK_STATE_REJECTED, words, None
            )

    def _employ(self, worker: Worker) -> None:
        if self._group is None:
            return
        task_id = worker.task.id
        running = self._group.create_task(worker.run(), name=f"task {task_id}")
        self._workers[task_id] = (worker, running)
        running.add_done_callback(lambda _: self._dismiss(task_id))

    def _dismiss(self, task_id: str) -> None:
        self._workers.pop(task_id, None)
        self._gateways.release(task_id)
        self._idle.set()

    def _numbered(self, task: pb.Task) -> pb.Task:
        here = [worker.task for worker, _ in self._workers.values()]
        taken = host_ports.of(port for other in here for port in other.endpoint_spec.ports)
        return host_ports.numbered(task, taken | self._published | host_sockets.open_ports())

    def _sweep(self) -> None:
        """Forgets what is left of tasks that nobody looks after: they ended while we were away."""
        for parent in (self._host.tasks_dir, self._host.memories_dir):
            try:
                left = [path for path in parent.iterdir() if path.name not in self._workers]
                for path in left:
                    TaskDir(path).remove()
            except FileNotFoundError:
                continue
            except (MeshnetError, OSError) as error:
                _log.warning("files of tasks that are gone: %s", error)

    def _has_booted(self) -> bool:
        """Nothing was made since the host came up, so no container runs, whatever was said."""
        if self.attachments.survived:
            return False
        try:
            return next(self._host.tasks_dir.iterdir(), None) is None
        except FileNotFoundError:
            return True
        except OSError as error:
            _log.warning("files of tasks: %s", error)
            return False

    async def _adopt(self) -> None:
        """Finds the containers of an earlier life."""
        found = await self._ours()
        await asyncio.gather(*(self._adopt_one(entry) for entry in found))

    async def _ours(self) -> list[dict[str, Any]]:
        """Task containers of this node; waits for an engine that is not up yet."""
        labels = [container.IS_TASK_LABEL, f"{NODE_LABEL}={self._node_id}"]
        said = ""
        while True:
            try:
                return await task_containers(self._engine, labels)
            except EngineError as error:
                if not isinstance(error, EngineGoneError) and str(error) != said:
                    said = str(error)
                    _log.warning("containers of tasks cannot be listed: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _adopt_one(self, entry: Mapping[str, Any]) -> None:
        """Until it is known what becomes of a container: no task is made before."""
        said = ""
        while True:
            try:
                await self._take_over(str(entry["Id"]), entry["Labels"])
            except (EngineError, OSError) as error:
                if not isinstance(error, EngineGoneError) and str(error) != said:
                    said = str(error)
                    _log.warning("container %s: %s", entry["Id"], error)
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _take_over(self, container_id: str, labels: Mapping[str, str]) -> None:
        task_id = labels[TASK_LABEL]
        memory = TaskMemory(self._host.memories_dir / task_id)
        found: Mapping[str, Any] | None = None
        started = True
        try:
            found = await self._engine.inspect(container_id)
            started = inspected.seen_of(found, None).started
        except EngineNotFoundError:
            return
        except EngineGoneError:
            raise
        except EngineError as error:
            _log.warning("container %s is looked at later: %s", container_id, error)
            found = None
        task = memory.task()
        # What was made for a host that went down before it was started is nobody's, too.
        ours = started or TaskDir(self._host.tasks_dir / task_id).made
        if task is not None and ours and task_id not in self._workers:
            task.desired_state = pb.TASK_STATE_RUNNING
            task.status.Clear()
            gateway = gateway_in(labels)
            if gateway is not None:
                self._gateways.hold(task_id, gateway)
            worker = Worker(self._host, task)
            worker.adopt(container_id, found, gateway)
            self._employ(worker)
            return
        _log.warning("container %s: nobody looks after it any more", container_id)
        if started and task_id not in self._workers:
            await memory.mark_started()
        await self._engine.remove(container_id)

    async def _follow(self) -> None:
        async with aclosing(self._engine.events()) as events:
            async for event in events:
                self._heard(event)

    def _heard(self, event: Event) -> None:
        self.networks.heard(event)
        if event.action == RESYNC:
            for worker, _ in self._workers.values():
                worker.refresh()
            self.attachments.refresh()
            return
        self.attachments.heard(event)  # whose labels may be of a task that its image was made of
        if event.task in self._workers:
            worker = self._workers[event.task][0]
            try:
                worker.happened(event)
            except Exception:  # noqa: BLE001 - an odd event is odd for one container alone
                _log.exception("%s", event)
                worker.refresh()


async def remove_task_containers(engine: Engine) -> int:
    """Removes every task container of ours, whatever node it was made by; how many there were.

    And the networks that the engine made for them.
    """
    found = await task_containers(engine, [container.IS_TASK_LABEL])
    await asyncio.gather(*(engine.remove(entry["Id"]) for entry in found))
    await NodeNetworks(engine).sweep()
    return len(found)
