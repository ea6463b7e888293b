"""A task's container is made: its directory, its files, and whether its program is there at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface
from typing import Any, Final

from meshnet_control.agent import container, host_resolv, init_binary, program, task_files
from meshnet_control.agent.host import Host
from meshnet_control.agent.task_containers import task_containers
from meshnet_control.agent.task_dir import TaskDir
from meshnet_control.agent.task_memory import TaskMemory
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import node_local
from meshnet_control.engine.client import (
    TASK_LABEL,
    EngineConflictError,
    EngineError,
    EngineGoneError,
)

_log = logging.getLogger(__name__)

_KNOWN: Final = 1024
"""Programs that are known to be in their image, of all tasks."""


@dataclass(frozen=True, slots=True)
class Made:
    """A container that the engine made."""

    id: str
    hostname: str
    """Its name for itself."""


class Making:
    """Makes the container of one task.

    Args:
        host: where.
        directory: the task's.
        memory: the task's.
    """

    def __init__(self, host: Host, directory: TaskDir, memory: TaskMemory) -> None:
        self._host = host
        self._dir = directory
        self._memory = memory

    async def make(
        self, task: pb.Task, image: Mapping[str, Any], gateway: IPv4Interface | None
    ) -> Made:
        """Makes it, with an /etc/hosts that is empty so far.

        Args:
            task: with the numbers of its ports.
            image: ``GET /images/{name}/json`` of its image.
            gateway: its address on docker_gwbridge, None when it has none.

        Raises:
            ControlError: the task cannot run; ``message`` is the engine's sentence for it.
            KernelError: its secrets and configs cannot be kept.
            EngineError: the engine refuses, or nobody answers.
            OSError: the disk does not take what is kept of it.
        """
        host = self._host
        options, init = host_resolv.options(), ""
        if task.spec.container_spec.init:
            init = init_binary.path_of(await host.engine.init_binary())
        made = container.create_arguments(
            task,
            image,
            replace(host.place, dns_options=options, init=init),
            self._dir.path,
            gateway,
            host.socket if host.socket.is_socket() else None,
        )
        self._memory.write(task)
        self._dir.make()
        self._dir.write_hosts("")
        self._dir.write_files(task_files.contents(task, host.place, host.assigned))
        async with host.networks.held([each.network for each in node_local.of_task(task)]):
            found = await self._made(task.id, made, made.config)
            if made.program is not None and not await self._is_there(task.id, made.program, found):
                await host.engine.remove(found)
                found = await self._made(task.id, made, made.ungated)  # the engine says why not
        return Made(found, made.config.get("Hostname") or found[:12])

    async def _made(self, task_id: str, made: container.Created, config: Mapping[str, Any]) -> str:
        engine = self._host.engine
        try:
            found = await engine.create(made.name, config)
        except EngineConflictError:
            if not await self._clear(task_id):
                raise
            found = await engine.create(made.name, config)
        try:
            for network, endpoint in made.connections:
                await engine.connect(network, found, endpoint)
        except EngineError:
            await engine.remove(found)
            raise
        return found

    async def _clear(self, task_id: str) -> bool:
        """Removes what an earlier try made, whose answer was lost; whether there was something."""
        found = await task_containers(self._host.engine, [f"{TASK_LABEL}={task_id}"])
        for entry in found:
            await self._host.engine.remove(entry["Id"])
        return bool(found)

    async def _is_there(self, task_id: str, wanted: program.Program, made: str) -> bool:
        """Whether the container has its program; True as well when nobody can say."""
        engine, known = self._host.engine, self._host.runnable
        if wanted.key in known:
            return True
        try:
            looking = program.find(wanted)
            path = next(looking)
            while True:
                path = looking.send(await engine.file(made, path))
        except StopIteration as looked:
            if not looked.value:
                await engine.inspect(made)  # or it is the container that is not there
                return False
        except EngineGoneError:
            raise
        except EngineError as error:
            _log.debug("task %s: its program is not looked for: %s", task_id, error)
            return True
        if len(known) >= _KNOWN:
            known.clear()
        known.add(wanted.key)
        return True
