"""One task on this node: looks, asks ``step.step``, does it, looks again.

Whatever goes wrong with a task is that task's alone: what may pass is tried again and told as the
error of its present state; what does not, and what nobody thought of, ends the task with its words.

Longer than most modules: everything that is done for a task is here, in one class that owns the
task's picture. What is decided is in ``step``, what is read in ``inspected``, what is said in
``report``.

Be aware: a step that waits for others (image, network, drain) is given up when what is wanted or
seen changes meanwhile; calls to the engine run to their end, so nothing is left half made.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Interface
from typing import Any, Final

from meshnet.errors import ControlError, MeshnetError
from meshnet.model.ids import TaskId
from meshnet.model.snapshot import Endpoint
from meshnet_control.agent import (
    container,
    gate,
    gate_fifo,
    host_ports,
    inspected,
    process_watch,
    step,
)
from meshnet_control.agent.host import Host
from meshnet_control.agent.report import Report
from meshnet_control.agent.step import Action, Seen, TaskView
from meshnet_control.agent.task_dir import TaskDir
from meshnet_control.agent.task_memory import TaskMemory
from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.client import (
    TASK_LABEL,
    EngineConflictError,
    EngineError,
    EngineGoneError,
    EngineNotFoundError,
    Event,
)

_log = logging.getLogger(__name__)

_RETRY_S: Final = 0.5
_GONE_S: Final = 10.0
"""An engine that went is asked again after this long, should nobody tell that it is back."""
_LOOK_S: Final = 1.0
"""How long the engine may take to tell of an end that we know of, before it is asked."""
_TROUBLE_S: Final = 2.0
"""A network that is not wired by then is told of, and again as often."""
_INTERRUPTIBLE: Final = frozenset({Action.OPEN, Action.DRAIN})
_STARVED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN})
"""This process or host has none left for now: it says nothing of the task."""


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
        self._memory = TaskMemory(host.memories_dir / task.id)
        self._died: int | None = None
        self._process: process_watch.Process | None = None
        self._report = Report(host.report)
        self._id = TaskId(task.id)
        self._hostname = ""
        self._pulling = False
        self._changed = asyncio.Event()
        self._gateway: IPv4Interface | None = None
        spec = task.spec.container_spec
        self.view = TaskView(
            desired=task.desired_state,
            state=task.status.state,
            name=container.name_of(task),
            lost=task.status.state >= pb.TASK_STATE_STARTING,  # unless its container is found
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
        elif event.action == "start" and self._died is not None:
            self._died = None  # somebody started it again: it is to be ended
            self.refresh()
        elif event.action == "destroy" and seen is not None:
            self._lose()
        elif event.action.startswith("health_status: ") and seen is not None:
            self._see(container=replace(seen, health=event.action.partition(": ")[2]))

    def adopt(
        self, container_id: str, found: Mapping[str, Any] | None, gateway: IPv4Interface | None
    ) -> None:
        """Takes over a container that is there already: nothing is restarted.

        Args:
            container_id: of the container.
            found: ``GET /containers/{id}/json``; None: the engine does not say now, and is asked
                until it does.
            gateway: its address on docker_gwbridge.

        Raises:
            EngineError: the engine describes no container.
            OSError: what is remembered of it cannot be read.
        """
        memory, failing = self._memory, self._memory.failing
        seen = Seen(container_id, running=True, started=True)
        if found is not None:
            seen = inspected.seen_of(found, self._died)
        opened = memory.opened or not self.view.wired
        self._gateway = gateway
        self._see(
            lost=False,
            opened=opened,
            knocked=not (opened and self.view.wired),
            state=pb.TASK_STATE_STARTING if seen.started else pb.TASK_STATE_READY,
            failing=failing,
        )
        if memory.stopping:
            now = asyncio.get_running_loop().time()
            wanted = self.view.desired if failing else pb.TASK_STATE_SHUTDOWN
            self._see(desired=wanted, stopping_since=now)
        if found is None:
            self._see(container=seen)
            self.refresh()
        else:
            self._take(found, seen)

    def refresh(self) -> None:
        """The engine is asked for the container's state: events may have been missed."""
        self._see(look_at=asyncio.get_running_loop().time())

    def close(self) -> None:
        """Stops watching; the container runs on."""
        if self._process is not None:
            self._process.close()
            self._process = None

    # ---- the loop ----

    async def run(self) -> None:
        """Until nothing of the task is left."""
        try:
            while True:
                try:
                    if await self._advance():
                        return
                except Exception as error:  # noqa: BLE001 - a task's fault is that task's alone
                    _log.exception("task %s", self._id)
                    self._give_up(str(error) or type(error).__name__)
                    await asyncio.sleep(_RETRY_S)
        finally:
            self.close()

    async def _advance(self) -> bool:
        """One step; True: nothing of the task is left."""
        self._changed.clear()
        now = asyncio.get_running_loop().time()
        following = step.step(self.view, now)
        if following.state is not None:
            await self._say(following.state, following.err)
        if following.action is not Action.NONE:
            return await self._act(following.action) and following.action is Action.FORGET
        await self._wait(None if following.until is None else following.until - now)
        return False

    async def _act(self, action: Action) -> bool:
        """Does it; whether it was done."""
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
        return not doing.cancelled() and await self._judge(action, doing)

    async def _judge(self, action: Action, done: asyncio.Future[None]) -> bool:
        try:
            done.result()
        except EngineGoneError as error:  # which the engine's client says, once for all tasks
            self._complain(str(error))
            await asyncio.sleep(_RETRY_S)
            await self._host.engine.answers(_GONE_S)
        except (MeshnetError, OSError) as error:
            passing = getattr(error, "errno", None) in _STARVED
            if action is Action.CREATE and not passing:
                self._give_up(str(error))
            elif action is Action.START and isinstance(error, EngineError):
                self._not_started(error)
            else:
                _log.warning("task %s: %s: %s", self._id, action.name.lower(), error)
                self._complain(str(error))
                await asyncio.sleep(_RETRY_S)
        else:
            return True
        return False

    def _not_started(self, error: EngineError) -> None:
        seen = self.view.container
        if seen is not None:
            words = f"starting container failed: {error}"
            self._see(container=replace(seen, error=words))

    def _give_up(self, why: str) -> None:
        """The task ends, with these words; one that has ended or is ending does not again."""
        if self.view.failing or step.final(self.view.state):
            return
        self._see(failing=why)
        try:
            if self.view.container is None:
                self._dir.remove()
            else:
                self._memory.mark_failing(why)
        except (MeshnetError, OSError) as error:
            _log.warning("task %s: %s", self._id, error)

    def _complain(self, why: str) -> None:
        self._report.trouble(self.task, self.view.state, why, self.view.container)

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
        elif action is Action.FORGET:
            self._forget()
        elif seen is not None:
            await self._do_to(action, seen)

    async def _do_to(self, action: Action, seen: Seen) -> None:
        engine, loop = self._host.engine, asyncio.get_running_loop()
        if action is Action.START:
            await self._start(seen)
        elif action is Action.OPEN:
            await self._wired()
            await gate_fifo.open_gate(self._dir.gate, self._memory.mark_opened)
            self._see(opened=True)
        elif action is Action.KNOCK:
            with suppress(FileNotFoundError):
                gate_fifo.knock(self._dir.gate)
            self._see(knocked=True)
        elif action is Action.PUBLISH:
            self._publish(ready=True)
        elif action is Action.CONDEMN:
            self._see(failing=step.UNHEALTHY)
            self._memory.mark_failing(step.UNHEALTHY)
        elif action is Action.DRAIN:
            self._host.dataplane.endpoint(self._id, self._endpoint(ready=False))
            await self._host.dataplane.drained(self._id, self.view.grace_s)
            self._see(published=False)
        elif action is Action.STOP:
            self._mark_stopping()
            self._see(stopping_since=loop.time())
            await engine.kill(seen.id, self._stop_signal)
        elif action is Action.KILL:
            self._mark_stopping()
            await engine.kill(seen.id, "SIGKILL")
            self._see(killed=True, look_at=loop.time() + _LOOK_S)
        elif action is Action.LOOK:
            await self._look(seen)
        elif action is Action.REMOVE:
            self._withdraw()
            await engine.remove(seen.id)
            self._dir.remove()
            self._see(container=None)

    async def _start(self, seen: Seen) -> None:
        await self._memory.mark_started()
        await self._host.engine.start(seen.id)
        if not self.view.wired:
            self._see(opened=True)
        await self._look(seen)

    def _mark_stopping(self) -> None:
        """A disk that is full keeps nothing from being stopped."""
        try:
            self._memory.mark_stopping()
        except OSError as error:
            _log.warning("task %s: %s", self._id, error)

    async def _wired(self) -> None:
        """Returns when the task's network is; tells what is in its way meanwhile."""
        ready = asyncio.ensure_future(self._host.dataplane.ready(self._id))
        try:
            while not (await asyncio.wait({ready}, timeout=_TROUBLE_S))[0]:
                self._complain(self._host.dataplane.trouble(self._id))
        finally:
            ready.cancel()
        await ready

    async def _create(self) -> None:
        if self._memory.started:
            self._see(lost=True)
            return
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
        self._memory.write(self.task)
        self._dir.make()
        self._dir.write_hosts("")
        self._dir.write_files(self._files())
        try:
            found = await self._host.engine.create(made.name, made.config)
        except EngineConflictError:
            if not await self._clear():
                raise
            found = await self._host.engine.create(made.name, made.config)
        self._see(container=Seen(found))
        self._hostname = made.config.get("Hostname") or found[:12]
        self._stop_signal = inspected.stop_signal_of(self.task, image.get("Config") or {})
        self._dir.write_hosts(container.hosts_file(self.task, self._hostname))

    async def _clear(self) -> bool:
        """Removes what an earlier try made, whose answer was lost; whether there was something."""
        found = await self._host.engine.containers([f"{TASK_LABEL}={self.task.id}"])
        for entry in found:
            await self._host.engine.remove(entry["Id"])
        return bool(found)

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
        self._memory.remove()

    # ---- what is seen ----

    _stop_signal = "SIGTERM"

    def _see(self, **changes: Any) -> None:  # noqa: ANN401 - fields of TaskView
        self.view = replace(self.view, **changes)
        self._changed.set()

    def _died_seen(self, seen: Seen, code: int) -> None:
        self.close()
        self._see(container=replace(seen, running=False, started=True, exit_code=code))

    def _lose(self) -> None:
        """The container is gone, and we did not remove it."""
        self.close()
        self._see(container=None, lost=True, look_at=None)

    async def _look(self, seen: Seen) -> None:
        try:
            found = await self._host.engine.inspect(seen.id)
        except EngineNotFoundError:
            self._lose()
            return
        now = inspected.seen_of(found, self._died)
        again = asyncio.get_running_loop().time() + _LOOK_S
        # An end that we know of and the engine does not: it is about to.
        doubt = now.running and (self.view.ended or self.view.killed)
        self._see(look_at=again if doubt else None)
        self._take(found, now)

    def _take(self, found: Mapping[str, Any], seen: Seen) -> None:
        """What the engine says of our container is what we see from now on."""
        self._hostname = inspected.hostname_of(found)
        self._stop_signal = inspected.stop_signal_in(self.task, found)
        view = self.view
        if not seen.running:
            self.close()
        elif self._process is None and not view.ended:
            self._process = process_watch.watch(seen.pid, seen.id, self._gone, self._host.proc)
        self._see(container=seen)
        if seen.running and view.wired and not view.announced and not view.ended:
            healthy = not view.has_health or seen.health == "healthy"
            self._announce(found, ready=view.opened and healthy and not view.failing)

    def _gone(self) -> None:
        """The kernel says that the container's first process has ended."""
        self._process = None
        self._see(ended=True, look_at=asyncio.get_running_loop().time() + _LOOK_S)
        self._withdraw()  # now, whatever else the worker waits for

    def _announce(self, found: Mapping[str, Any], *, ready: bool) -> None:
        """Says sandbox and endpoint; the container must run."""
        sandbox = container.sandbox_of(self.task, inspected.netns_of(found), self._gateway)
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

    async def _say(self, state: int, err: str) -> None:
        """Reports a state once; it only grows."""
        if state <= self.view.state:
            return
        seen = self.view.container
        if seen is not None and self._gate_failed(state, seen):
            line = await self._host.engine.last_line(seen.id)
            if line.startswith(gate.FAILED_PREFIX):
                err = line
        self._report.state(self.task, state, err, seen)
        self._see(state=state)

    def _gate_failed(self, state: int, seen: Seen) -> bool:
        failed = state == pb.TASK_STATE_FAILED
        return failed and self.view.wired and seen.exit_code in gate.FAILED_CODES
