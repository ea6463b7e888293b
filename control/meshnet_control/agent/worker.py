"""One task on this node: looks, asks ``step.step``, does it, looks again.

An error that nobody expected ends this task, with its text in ``service ps``, and never the agent.

Be aware: a step that waits for others (image, network, drain) is given up when what is wanted or
seen changes meanwhile; calls to the engine run to their end, so nothing is left half made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any, Final, cast

from google.protobuf.timestamp_pb2 import Timestamp

from meshnet.errors import ControlError, MeshnetError
from meshnet.model.ids import TaskId
from meshnet.model.snapshot import Endpoint
from meshnet_control.agent import (
    container,
    gate,
    gate_fifo,
    host_ports,
    process_watch,
    step,
)
from meshnet_control.agent.collaborators import DataPlane, Engine
from meshnet_control.agent.process_watch import ProcessWatch
from meshnet_control.agent.step import Action, Seen, TaskView
from meshnet_control.agent.task_dir import TaskDir
from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.client import (
    EngineError,
    EngineGoneError,
    EngineNotFoundError,
    Event,
)

_log = logging.getLogger(__name__)

_RETRY_S: Final = 0.5
_LONGEST_RETRY_S: Final = 10.0
_EXPLAIN_S: Final = 2.0
"""A network that is not wired after this long is explained in ``service ps``."""
_GONE_S: Final = 10.0
"""An engine that went is asked again after this long, should nobody tell that it is back."""
_INTERRUPTIBLE: Final = frozenset({Action.OPEN, Action.DRAIN})


@dataclass(frozen=True, slots=True)
class Host:
    """What all workers of a node share."""

    engine: Engine
    dataplane: DataPlane
    report: Callable[[str, pb.TaskStatus], None]
    place: container.Place
    tasks_dir: Path
    gateway: Callable[[str], IPv4Interface]
    """Allocates an address of docker_gwbridge for a task ID."""
    numbered: Callable[[pb.Task], pb.Task]
    """The task with a free number for every host-mode port that has none."""
    file_data: Callable[[str, str], bytes | None]
    """Data of a secret or config: (kind, ID)."""


class Worker:
    """One task.

    Args:
        host: what it shares with the others.
        task: the task as assigned.
    """

    def __init__(self, host: Host, task: pb.Task) -> None:
        self.task = task
        self._host = host
        self._dir = TaskDir(host.tasks_dir / task.id)
        self._died: int | None = None
        self._id = TaskId(task.id)
        self._hostname = ""
        self._pulling = False
        self._changed = asyncio.Event()
        self._watch = ProcessWatch(self._process_ended)
        self._explained = ""
        lost = task.status.state >= pb.TASK_STATE_STARTING  # it began here, and nothing is left
        self._gateway: IPv4Interface | None = None
        spec = task.spec.container_spec
        self.view = TaskView(
            desired=task.desired_state,
            state=task.status.state,
            lost=lost,
            wired=bool(container.overlays_of(task)),
            has_health=bool(spec.healthcheck.test and spec.healthcheck.test[0] != "NONE"),
            grace_s=spec.stop_grace_period / 1e9
            if spec.HasField("stop_grace_period")
            else step.DEFAULT_GRACE_S,
        )

    # ---- messages in ----

    def wanted(self, task: pb.Task | None) -> None:
        """The managers' newest word; None: they no longer know the task."""
        if task is None:
            self._see(desired=pb.TASK_STATE_REMOVE)
            return
        self.task = host_ports.kept(task, self.task)
        self._see(desired=task.desired_state, state=max(self.view.state, task.status.state))

    def happened(self, event: Event) -> None:
        """The engine says something about our container."""
        seen = self.view.container
        if seen is not None and event.container != seen.id:
            return
        if event.action == "die":
            self._died = event.exit_code
            if seen is not None:
                self._died_seen(seen, event.exit_code)
        elif event.action == "destroy" and seen is not None:
            self._see(container=None, lost=True)
        elif event.action.startswith("health_status: ") and seen is not None:
            self._see(container=replace(seen, health=event.action.partition(": ")[2]))

    def adopt(self, found: Mapping[str, Any], gateway: IPv4Interface | None) -> None:
        """Takes over a container that is there already: nothing is restarted.

        Args:
            found: ``GET /containers/{id}/json``.
            gateway: its address on docker_gwbridge.
        """
        self._gateway = gateway
        seen = self._look(found)
        passed = self._dir.opening and self._passed(seen)
        self._see(
            lost=False,
            opened=self._dir.opened or passed or not self.view.wired,
            state=pb.TASK_STATE_STARTING,
        )
        if self._dir.stopping:
            cause = self._dir.stopping_cause
            wanted = self.view.desired if cause else pb.TASK_STATE_SHUTDOWN
            now = asyncio.get_running_loop().time()
            self._see(desired=wanted, cause=cause, stopping_since=now)
        if seen.running and self.view.wired:
            healthy = not self.view.has_health or seen.health == "healthy"
            self._announce(found, ready=self.view.opened and healthy)

    def adopt_remains(self, found: Mapping[str, Any]) -> None:
        """Takes over a container whose files are gone (a boot): it has run, and is not run again.

        Args:
            found: ``GET /containers/{id}/json``.
        """
        self._see(lost=False, opened=True, wired=False, state=pb.TASK_STATE_STARTING)
        if self._look(found).running:
            self._see(cause="its files on this host are gone")

    async def refresh(self) -> None:
        """Asks the engine for the container's state: events may have been missed."""
        seen = self.view.container
        if seen is None:
            return
        try:
            self._look(await self._host.engine.inspect(seen.id))
        except EngineNotFoundError:
            self._see(container=None, lost=True)

    # ---- the loop ----

    async def run(self) -> None:
        """Until nothing of the task is left."""
        retry_s = _RETRY_S
        try:
            while True:
                try:
                    return await self._run()
                except Exception as error:  # noqa: BLE001 - ends one task, never the agent
                    _log.exception("task %s: an error that nobody expected", self._id)
                    if self.view.desired <= pb.TASK_STATE_RUNNING and not self.view.cause:
                        self._see(cause=f"{type(error).__name__}: {error}")
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _LONGEST_RETRY_S)
        finally:
            self._watch.close()

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._changed.clear()
            now = clock()
            following = step.step(self.view, now)
            if following.cause:
                self._see(cause=following.cause)
            if following.state is not None:
                await self._say(following.state, following.message, following.err)
            if following.action is Action.FORGET:
                self._forget()
                return
            if following.action is not Action.NONE:
                await self._act(following.action)
            else:
                await self._wait(None if following.until is None else following.until - now)

    async def _act(self, action: Action) -> None:
        doing = asyncio.ensure_future(self._do(action))
        try:
            while not doing.done():
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({doing, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if doing.done() or not self._changed.is_set():
                    continue
                self._changed.clear()
                now = asyncio.get_running_loop().time()
                other = step.step(self.view, now).action is not action
                if other and (action in _INTERRUPTIBLE or self._pulling):
                    break
        finally:
            if not doing.done():
                doing.cancel()
            await asyncio.wait({doing})
        if not doing.cancelled():
            await self._judge(action, doing)

    async def _judge(self, action: Action, done: asyncio.Future[None]) -> None:
        try:
            done.result()
        except EngineGoneError:  # which the engine's client says, once for all tasks
            await asyncio.sleep(_RETRY_S)
            await self._host.engine.answers(_GONE_S)
        except (MeshnetError, OSError) as error:
            if action is Action.CREATE:
                self._see(cause=str(error))
            else:
                _log.warning("task %s: %s: %s", self._id, action.name.lower(), error)
                await asyncio.sleep(_RETRY_S)

    async def _wait(self, delay: float | None) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._changed.wait()
        except TimeoutError:
            return

    # ---- what a step does ----

    async def _do(self, action: Action) -> None:
        seen = self.view.container
        if action is Action.CREATE:
            await self._create()
        elif action is Action.WITHDRAW:
            self._withdraw()
        elif seen is not None:
            await self._do_to(action, seen)

    async def _do_to(self, action: Action, seen: Seen) -> None:
        engine, loop = self._host.engine, asyncio.get_running_loop()
        if action is Action.START:
            if not await self._start(seen):
                return
            found = await engine.inspect(seen.id)
            if self._look(found).running and self.view.wired:
                self._announce(found, ready=False)
            if not self.view.wired:
                self._see(opened=True)
        elif action is Action.OPEN:
            await self._wired()
            self._dir.mark_opening()
            await gate_fifo.open_gate(self._dir.gate)
            self._dir.mark_opened()
            self._see(opened=True)
        elif action is Action.PUBLISH:
            self._publish(ready=True)
        elif action is Action.DRAIN:
            self._host.dataplane.endpoint(self._id, self._endpoint(ready=False))
            await self._host.dataplane.drained(self._id, self.view.grace_s)
            self._see(published=False)
        elif action is Action.STOP:
            self._see(stopping_since=loop.time())
            self._mark_stopping()
            await engine.kill(seen.id, self._stop_signal)
        elif action is Action.KILL:
            self._mark_stopping()
            await engine.kill(seen.id, "SIGKILL")
            self._see(killed=True)
        elif action is Action.REMOVE:
            self._withdraw()
            await engine.remove(seen.id)
            self._see(container=None)

    async def _start(self, seen: Seen) -> bool:
        """Whether the engine started it; if not, its words are kept."""
        try:
            await self._host.engine.start(seen.id)
        except EngineGoneError:
            raise
        except EngineError as error:
            self._see(container=replace(seen, error=f"starting container failed: {error}"))
            return False
        return True

    async def _wired(self) -> None:
        """Returns when the sandbox is wired; says in ``service ps`` why it is not yet."""
        ready = asyncio.ensure_future(self._host.dataplane.ready(self._id))
        try:
            while not (await asyncio.wait({ready}, timeout=_EXPLAIN_S))[0]:
                self._explain(self._host.dataplane.trouble(self._id))
            ready.result()
        finally:
            ready.cancel()

    def _mark_stopping(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # the task's files went with a boot
            self._dir.mark_stopping(self.view.cause)

    async def _create(self) -> None:
        reference = self.task.spec.container_spec.image
        self._pulling = True  # may take long, and leaves nothing to clean up
        try:
            image = await self._host.engine.image(reference)
        finally:
            self._pulling = False
        gateway = self._host.gateway(self.task.id) if self._needs_gateway() else None
        self._gateway = gateway
        if not container.on_host_network(self.task):
            self.task = self._host.numbered(self.task)
        made = container.create_arguments(
            self.task, image, self._host.place, self._dir.path, gateway
        )
        self._dir.make(self.task)
        self._dir.write_hosts("")
        self._dir.write_files(self._files())
        found = await self._host.engine.create(made.name, made.config)
        self._see(container=Seen(found))
        self._hostname = made.config.get("Hostname") or found[:12]
        self._stop_signal = self._stop_signal_of(image.get("Config") or {})
        self._dir.write_hosts(container.hosts_file(self.task, self._hostname))

    def _needs_gateway(self) -> bool:
        return self.view.wired and container.needs_gateway(self.task)

    def _files(self) -> list[tuple[pb.FileTarget, bytes]]:
        files: list[tuple[pb.FileTarget, bytes]] = []
        for kind, object_id, target, _ in container.file_targets(self.task):
            data = self._host.file_data(kind, object_id)
            if data is None:
                raise ControlError(f"{kind} {target.name} ({object_id}) not found on this node")
            files.append((target, data))
        return files

    def _withdraw(self) -> None:
        if self.view.wired:
            self._host.dataplane.endpoint(self._id, None)
            self._host.dataplane.sandbox_removed(self._id)
        self._see(announced=False, published=False)

    def _forget(self) -> None:
        self._withdraw()
        self._dir.remove()

    # ---- what is seen ----

    _stop_signal = "SIGTERM"

    def _stop_signal_of(self, config: Mapping[str, Any]) -> str:
        return self.task.spec.container_spec.stop_signal or config.get("StopSignal") or "SIGTERM"

    def _see(self, **changes: Any) -> None:  # noqa: ANN401 - fields of TaskView
        self.view = replace(self.view, **changes)
        self._changed.set()

    def _passed(self, seen: Seen) -> bool:
        """Whether a container that was being let through the gate is past it."""
        if not seen.running:
            return True
        return process_watch.is_of(seen.pid, seen.id) and gate_fifo.passed(seen.pid)

    def _process_ended(self) -> None:
        """The kernel's word, before the engine's: nobody answers there any more."""
        seen = self.view.container
        if seen is not None and seen.running:
            self._see(container=replace(seen, gone=True))

    def _died_seen(self, seen: Seen, code: int) -> None:
        self._see(container=replace(seen, running=False, started=True, exit_code=code))

    def _look(self, found: Mapping[str, Any]) -> Seen:
        state = found["State"]
        running = bool(state["Running"]) and self._died is None
        seen = Seen(
            id=found["Id"],
            running=running,
            started=running or not str(state["StartedAt"]).startswith("0001-"),
            exit_code=self._died if self._died is not None else int(state["ExitCode"]),
            health=str((state.get("Health") or {}).get("Status", "")),
            error=str(state.get("Error") or ""),
            pid=int(state.get("Pid") or 0),
        )
        self._hostname = found["Config"]["Hostname"] or seen.id[:12]
        self._stop_signal = self._stop_signal_of(found["Config"])
        self._see(container=seen)
        if running and process_watch.is_of(seen.pid, seen.id):
            self._watch.follow(seen.pid)
        return seen

    def _announce(self, found: Mapping[str, Any], *, ready: bool) -> None:
        """Says sandbox and endpoint; the container must run."""
        netns = found["NetworkSettings"]["SandboxKey"]
        sandbox = container.sandbox_of(self.task, netns, self._gateway)
        self._host.dataplane.sandbox_added(sandbox)
        self._see(announced=True)
        self._publish(ready=ready)

    def _publish(self, *, ready: bool) -> None:
        self._host.dataplane.endpoint(self._id, self._endpoint(ready=ready))
        self._see(published=ready)

    def _endpoint(self, *, ready: bool) -> Endpoint:
        seen = self.view.container
        return container.endpoint_of(
            self.task,
            self._host.place.node_id,
            seen.id if seen is not None else "",
            hostname=self._hostname,
            ready=ready,
        )

    async def _say(self, state: int, message: str, err: str) -> None:
        """Reports a state once; it only grows."""
        if state <= self.view.state:
            return
        seen = self.view.container
        if seen is not None and self._gate_failed(state, seen):
            line = await self._host.engine.last_line(seen.id)
            if line.startswith(gate.FAILED_PREFIX):
                err = line
        status = pb.TaskStatus(
            timestamp=_timestamp(), state=cast("pb.TaskState", state), message=message, err=err
        )
        if seen is not None:
            status.container_status.container_id = seen.id
            status.container_status.pid = seen.pid if seen.running else 0
            status.container_status.exit_code = seen.exit_code
        if state == pb.TASK_STATE_RUNNING and not container.on_host_network(self.task):
            ports = [p for p in self.task.endpoint_spec.ports if p.publish_mode == "host"]
            status.port_status.ports.extend(ports)
        self._see(state=state)
        self._host.report(self.task.id, status)

    def _explain(self, why: str) -> None:
        """Says in the task's status why it is not further than it is."""
        if why == self._explained:
            return
        self._explained = why
        state = cast("pb.TaskState", self.view.state)
        message = step.Step(Action.NONE, self.view.state).message
        status = pb.TaskStatus(timestamp=_timestamp(), state=state, message=message, err=why)
        self._host.report(self.task.id, status)

    def _gate_failed(self, state: int, seen: Seen) -> bool:
        failed = state == pb.TASK_STATE_FAILED
        return failed and self.view.wired and seen.exit_code in gate.FAILED_CODES


def _timestamp() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp
