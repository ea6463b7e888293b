"""One task on this node: looks, asks ``step.step``, does it, looks again.

Whatever goes wrong with a task is that task's alone: what may pass is tried again and told as the
error of its present state; what does not, and what nobody thought of, ends the task with its words.

What is known is in ``picture``, what is decided in ``step``. What is done: the container is made in
``making``, the data plane told in ``announcement``, the managers in ``report``.

Be aware: a step that waits for others (image, network, drain) is given up when what is wanted or
seen changes meanwhile; calls to the engine run to their end, so nothing is left half made.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Interface
from typing import Any, Final

from meshnet.errors import MeshnetError
from meshnet_control.agent import (
    draining,
    gate,
    gate_fifo,
    host_ports,
    inspected,
    step,
    task_networks,
)
from meshnet_control.agent.announcement import Announcement
from meshnet_control.agent.host import Host
from meshnet_control.agent.hot_files import HotFiles
from meshnet_control.agent.making import Making
from meshnet_control.agent.picture import LOOK_S, Picture
from meshnet_control.agent.report import Report
from meshnet_control.agent.step import Action, Seen, TaskView
from meshnet_control.agent.task_dir import TaskDir
from meshnet_control.agent.task_memory import TaskMemory
from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.client import (
    EngineError,
    EngineGoneError,
    EngineNotFoundError,
    Event,
)

_log = logging.getLogger(__name__)

_RETRY_S: Final = 0.5
_GONE_S: Final = 10.0
"""An engine that went is asked again after this long, should nobody tell that it is back."""
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
        self._making = Making(host, self._dir, self._memory)
        self._hot = HotFiles(host, self._dir)
        self._announcement = Announcement(host, task.id)
        self._report = Report(host.report, host.wall)
        self._pulling = False
        self._stop_signal = "SIGTERM"
        spec = task.spec.container_spec
        view = TaskView(
            desired=task.desired_state,
            state=task.status.state,
            name=task_networks.name_of(task),
            lost=task.status.state >= pb.TASK_STATE_STARTING,  # unless its container is found
            wired=bool(task_networks.overlays_of(task)),
            has_health=bool(spec.healthcheck.test and spec.healthcheck.test[0] != "NONE"),
            grace_s=spec.stop_grace_period / 1e9
            if spec.HasField("stop_grace_period")
            else step.DEFAULT_GRACE_S,
        )
        # What is announced is withdrawn when its process is gone, whatever the worker waits for.
        self._picture = Picture(view, host.proc, self._withdraw)

    @property
    def view(self) -> TaskView:
        """What is known of the task."""
        return self._picture.view

    # ---- messages in ----

    def wanted(self, task: pb.Task | None) -> None:
        """The managers' newest word; None: they no longer know the task."""
        if task is None:
            self._see(desired=pb.TASK_STATE_REMOVE, forgotten=True)
            return
        self.task = host_ports.kept(task, self.task)
        outdated = self.view.container is not None and self._hot.outdated(self.task)
        state = max(self.view.state, task.status.state)
        self._see(desired=task.desired_state, state=state, outdated=outdated)

    def happened(self, event: Event) -> None:
        """The engine says something about our container."""
        self._picture.happened(event)

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
            seen = self._picture.read(found)
        opened = memory.opened or not self.view.wired
        self._announcement.gateway = gateway
        began, now = memory.draining_since, asyncio.get_running_loop().time()
        self._see(
            draining_since=None if began is None else now - max(0.0, self._host.wall() - began),
            lost=False,
            opened=opened,
            knocked=not (opened and self.view.wired),
            state=pb.TASK_STATE_STARTING if seen.started else pb.TASK_STATE_READY,
            failing=failing,
        )
        if memory.stopping:
            wanted = self.view.desired if failing else pb.TASK_STATE_SHUTDOWN
            self._see(desired=wanted, stopping_since=now)
        if found is None:
            self._see(container=seen)
            self.refresh()
        else:
            self._take(found, seen)

    def refresh(self) -> None:
        """The engine is asked for the container's state: events may have been missed."""
        self._picture.refresh()

    def close(self) -> None:
        """Stops watching; the container runs on."""
        self._picture.close()

    # ---- the loop ----

    async def run(self) -> None:
        """Until nothing of the task is left."""
        try:
            while True:
                try:
                    if await self._advance():
                        return
                except Exception as error:  # noqa: BLE001 - a task's fault is that task's alone
                    _log.exception("task %s", self.task.id)
                    self._give_up(str(error) or type(error).__name__)
                    await asyncio.sleep(_RETRY_S)
        finally:
            self.close()

    async def _advance(self) -> bool:
        """One step; True: nothing of the task is left."""
        self._picture.changed.clear()
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
                changed = asyncio.ensure_future(self._picture.changed.wait())
                try:
                    await asyncio.wait({doing, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
                if doing.done() or not self._picture.changed.is_set():
                    continue
                self._picture.changed.clear()
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
                _log.warning("task %s: %s: %s", self.task.id, action.name.lower(), error)
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
            _log.warning("task %s: %s", self.task.id, error)

    def _complain(self, why: str) -> None:
        self._report.trouble(self.task, self.view.state, why, self.view.container)

    async def _wait(self, delay: float | None) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._picture.changed.wait()
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
            await self._announcement.wired(self._complain)
            await gate_fifo.open_gate(self._dir.gate, self._memory.mark_opened)
            self._see(opened=True)
        elif action is Action.KNOCK:
            with suppress(FileNotFoundError):
                gate_fifo.knock(self._dir.gate)
            self._see(knocked=True)
        elif action is Action.REWRITE:
            await self._hot.rewrite(self.task, seen.id, runs=seen.running and self.view.opened)
            self._see(outdated=self._hot.outdated(self.task))
        elif action is Action.PUBLISH:
            self._say_endpoint(ready=True)
            self._see(published=True)
        elif action is Action.CONDEMN:
            self._see(failing=step.UNHEALTHY)
            self._memory.mark_failing(step.UNHEALTHY)
        elif action is Action.DRAIN:
            await self._drain()
            self._see(published=False)
        elif action is Action.STOP:
            self._remember(self._memory.mark_stopping)
            self._see(stopping_since=loop.time())
            await engine.kill(seen.id, self._stop_signal)
        elif action is Action.KILL:
            self._remember(self._memory.mark_stopping)
            await engine.kill(seen.id, "SIGKILL")
            self._see(killed=True, look_at=loop.time() + LOOK_S)
        elif action is Action.LOOK:
            await self._look(seen)
        elif action is Action.REMOVE:
            self._withdraw()
            await engine.remove(seen.id)
            self._dir.remove()
            self._see(container=None)

    async def _start(self, seen: Seen) -> None:
        conflict = self._announcement.port_conflict(self.task) if self.view.wired else ""
        if conflict:
            raise EngineError(conflict)
        await self._memory.mark_started()
        await self._host.engine.start(seen.id)
        if not self.view.wired:
            self._see(opened=True)
        await self._look(seen)

    async def _drain(self) -> None:
        self._say_endpoint(ready=False)
        await self._announcement.drained(self.view.grace_s)
        if self.view.draining_since is None:
            self._see(draining_since=asyncio.get_running_loop().time())
            self._remember(partial(self._memory.mark_draining, self._host.wall()))
        await self._announcement.emptied(self._waits, self._say_left)
        self._say_left(0)

    def _waits(self) -> bool:
        now = asyncio.get_running_loop().time()
        others_serve = self._announcement.others_serve()
        return draining.waits(self.task.service_labels, self.view, now, others_serve=others_serve)

    def _remember(self, mark: Callable[[], None]) -> None:
        """A disk that is full keeps nothing from being stopped."""
        try:
            mark()
        except OSError as error:
            _log.warning("task %s: %s", self.task.id, error)

    async def _create(self) -> None:
        if self._memory.started:
            self._see(lost=True)
            return
        spec = self.task.spec.container_spec
        self._pulling = True  # may take long, and leaves nothing to clean up
        try:
            image = await self._host.engine.image(spec.image, spec.pull_options.registry_auth)
        finally:
            self._pulling = False
        gateway = self._host.gateways.of(self.task.id) if self._needs_gateway() else None
        self._announcement.gateway = gateway
        if not task_networks.on_host_network(self.task):
            self.task = self._host.numbered(self.task)
        made = await self._making.make(self.task, image, gateway)
        self._see(container=Seen(made.id), outdated=self._hot.outdated(self.task))
        self._announcement.hostname = made.hostname
        self._stop_signal = inspected.stop_signal_of(self.task, image.get("Config") or {})
        host = self._host.gateways.bridge.gateway
        self._dir.write_hosts(task_networks.hosts_file(self.task, made.hostname, host))

    def _needs_gateway(self) -> bool:
        return self.view.wired and task_networks.needs_gateway(self.task)

    def _withdraw(self) -> None:
        if self.view.wired:
            self._announcement.withdraw()
        self._see(announced=False, published=False)

    def _forget(self) -> None:
        self._withdraw()
        self._dir.remove()
        self._memory.remove()

    # ---- what is seen ----

    def _see(self, **changes: Any) -> None:  # noqa: ANN401 - fields of TaskView
        self._picture.see(**changes)

    async def _look(self, seen: Seen) -> None:
        try:
            found = await self._host.engine.inspect(seen.id)
        except EngineNotFoundError:
            self._picture.lose()
            return
        now = self._picture.read(found)
        self._picture.looked(now)
        self._take(found, now)

    def _take(self, found: Mapping[str, Any], seen: Seen) -> None:
        """What the engine says of our container is what we see, and announce, from now on."""
        self._announcement.hostname = inspected.hostname_of(found)
        self._stop_signal = inspected.stop_signal_in(self.task, found)
        self._picture.take(found, seen)
        view = self.view
        if seen.running and view.wired and not view.announced and not view.ended:
            self._announcement.sandbox(self.task, inspected.netns_of(found))
            self._see(announced=True)
            healthy = not view.has_health or seen.health == "healthy"
            serving = view.opened and healthy and not view.failing
            self._say_endpoint(ready=serving and view.desired <= pb.TASK_STATE_RUNNING)
            self._see(published=serving)  # what an earlier life published is to be drained

    # ---- what is said ----

    def _say_endpoint(self, *, ready: bool) -> None:
        seen = self.view.container
        container = seen.id if seen is not None else ""
        self._announcement.endpoint(self.task, container, ready=ready)

    def _say_left(self, connections: int) -> None:
        view, now = self.view, asyncio.get_running_loop().time()
        self._report.draining(self.task, view.state, connections, view.container, now)

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
