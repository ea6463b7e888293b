"""``/services/{id}/logs`` and ``/tasks/{id}/logs``: container logs of this node, merged.

Frames of the engine (8 bytes of head: stream, 0 0 0, big-endian length) are passed on; with
``details`` each line is led by the swarm ids that ``docker service logs`` puts names to.

Be aware: the logs of tasks on other nodes are not read yet. Each such task gets one line on stderr
that says where its logs are, so that nothing is silently missing.

Source: moby daemon/cluster/services.go ServiceLogs, api/server/httputils/write_log_stream.go.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp import web

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import TASK_STATE_RUNNING, Task
from meshnet_control.controlapi.access import task_name
from meshnet_control.controlapi.api import ControlApi
from meshnet_control.gateway import answers
from meshnet_control.gateway.desk import Desk, flag, reference

_HEAD: Final = struct.Struct(">BxxxL")
_STDERR: Final = 2
_POLL_S: Final = 1.0
"""How soon a follower sees a new task, and we see that the client has gone."""
_PASSED_ON: Final = ("stdout", "stderr", "follow", "since", "until", "tail", "timestamps")


class LogRoutes:
    """Handlers of logs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> answers.Routes:
        """Method, path and handler."""
        return [
            ("GET", "/services/{id}/logs", self.service),
            ("GET", "/tasks/{id}/logs", self.task),
        ]

    async def service(self, request: web.Request) -> web.StreamResponse:
        """``GET /services/{id}/logs``."""
        _check_streams(request)
        api = self._desk.api()
        service = await api.services.inspect(reference(request), defaults=False)
        tty = service.spec.task_template.container_spec.tty
        return await self._answer(request, api, service=service.id, tty=tty)

    async def task(self, request: web.Request) -> web.StreamResponse:
        """``GET /tasks/{id}/logs``."""
        _check_streams(request)
        api = self._desk.api()
        task = await api.tasks.inspect(reference(request))
        tty = task.spec.container_spec.tty
        return await self._answer(request, api, task=task.id, tty=tty)

    async def _answer(
        self, request: web.Request, api: ControlApi, *, tty: bool, service: str = "", task: str = ""
    ) -> web.StreamResponse:
        newest = (await self._desk.engine.version()).api
        kind = "raw" if tty or newest < (1, 42) else "multiplexed"
        response = web.StreamResponse(
            headers={"Content-Type": f"application/vnd.docker.{kind}-stream"}
        )
        await response.prepare(request)
        merge = _Merge(self._desk, request, response, tty=tty)
        hosts = {n.id: n.description.hostname for n in await api.nodes.select(None)}
        async with asyncio.TaskGroup() as group:
            while True:
                tasks = [await api.tasks.inspect(task)] if task else await _of(api, service)
                merge.start(group, tasks, hosts)
                if not flag(request, "follow"):
                    break
                await asyncio.sleep(_POLL_S)
                if request.transport is None or request.transport.is_closing():
                    merge.stop()
                    break
        return response


class _Merge:
    """Writes the logs of several tasks into one answer, a line at a time."""

    def __init__(
        self, desk: Desk, request: web.Request, response: web.StreamResponse, *, tty: bool
    ) -> None:
        self._engine = desk.engine
        self._here = desk.node.swarm_info().node_id
        self._params = {k: request.query[k] for k in _PASSED_ON if k in request.query}
        self._details = flag(request, "details")
        self._timestamps = flag(request, "timestamps")
        self._response = response
        self._tty = tty
        self._running: dict[str, asyncio.Task[None]] = {}

    def start(
        self, group: asyncio.TaskGroup, tasks: Iterable[Task], hosts: Mapping[str, str]
    ) -> None:
        """Begin with every task that was not seen yet and has a container."""
        for task in tasks:
            container = task.status.container_status.container_id
            if task.id in self._running or not container:
                continue
            if task.node_id == self._here:
                work = self._copy(task, container)
            elif task.status.state == TASK_STATE_RUNNING:
                work = self._elsewhere(task, hosts.get(task.node_id, task.node_id))
            else:
                continue
            self._running[task.id] = group.create_task(work)

    def stop(self) -> None:
        """End all of them."""
        for running in self._running.values():
            running.cancel()

    async def _copy(self, task: Task, container: str) -> None:
        lead = (details_of(task) + " ").encode() if self._details else b""
        try:
            async with self._engine.stream(f"/containers/{container}/logs", self._params) as answer:
                if answer.status != HTTPStatus.OK:
                    return  # the container is gone, and its logs with it
                if self._tty:
                    async for chunk in answer.content.iter_any():
                        await self._response.write(chunk)
                    return
                async for stream, line in frames(answer.content):
                    await self._write(stream, line, lead)
        except (ControlError, aiohttp.ClientError, ConnectionError):
            return  # the engine or the client has gone: what was there has been sent

    async def _elsewhere(self, task: Task, host: str) -> None:
        if self._tty:
            return
        said = f"(on node {host}: docker logs {task_name(task)})\n"
        stamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        line = f"{stamp} {said}" if self._timestamps else said
        lead = (details_of(task) + " ").encode() if self._details else b""
        try:
            await self._write(_STDERR, line.encode(), lead)
        except ConnectionError:
            return

    async def _write(self, stream: int, line: bytes, lead: bytes) -> None:
        if lead and self._timestamps:
            stamp, _, rest = line.partition(b" ")
            line = stamp + b" " + lead + rest
        else:
            line = lead + line
        await self._response.write(_HEAD.pack(stream, len(line)) + line)


def details_of(task: Task) -> str:
    """The swarm ids of a task as log details; PURE. Source: moby write_log_stream.go."""
    return (
        f"com.docker.swarm.node.id={task.node_id},"
        f"com.docker.swarm.service.id={task.service_id},"
        f"com.docker.swarm.task.id={task.id}"
    )


async def frames(content: aiohttp.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Stream number and payload of each frame, until the end of the answer."""
    while True:
        try:
            stream, length = _HEAD.unpack(await content.readexactly(_HEAD.size))
            yield stream, await content.readexactly(length)
        except asyncio.IncompleteReadError:
            return


async def _of(api: ControlApi, service: str) -> list[Task]:
    found = await api.tasks.select(None)
    return [t for t in found if t.service_id == service]


def _check_streams(request: web.Request) -> None:
    if not flag(request, "stdout") and not flag(request, "stderr"):
        raise ControlError("Bad parameters: you must choose at least one stream")
