"""``/services/{id}/logs`` and ``/tasks/{id}/logs``: the output of tasks, wherever they run.

The log broker brings the lines; here they are put into the engine's frames. With ``details`` each
line is led by the swarm ids that ``docker service logs`` puts names to.

Be aware: what is missing is said on the stream the CLI takes for errors, as Swarm does, after
everything else; the CLI then ends with status 1. Whether the client is still there is looked at
every second, and with everything written.

Source: moby api/server/router/swarm/helpers.go, daemon/cluster/services.go ServiceLogs.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import LogOptions
from meshnet_control.cluster.log_lines import SYSTEM_ERROR, context, frame, incomplete, render
from meshnet_control.gateway import responses
from meshnet_control.gateway.http_head import split_version
from meshnet_control.gateway.request import HandlerContext, flag, reference
from meshnet_control.manager.log_reader import Line, LogReader, Selector

_LOOK_S: Final = 1.0


class LogRoutes:
    """Handlers of logs."""

    def __init__(self, context: HandlerContext) -> None:
        self._context = context

    def routes(self) -> responses.Routes:
        """Method, path and handler."""
        return [
            ("GET", "/services/{id}/logs", self.service),
            ("GET", "/tasks/{id}/logs", self.task),
        ]

    async def service(self, request: web.Request) -> web.StreamResponse:
        """``GET /services/{id}/logs``."""
        api = self._context.api()
        options = asked(request)
        service = await api.services.inspect(reference(request), defaults=False)
        tty = service.spec.task_template.container_spec.tty
        return await self._answer(request, Selector(service=service.id), options, tty=tty)

    async def task(self, request: web.Request) -> web.StreamResponse:
        """``GET /tasks/{id}/logs``."""
        api = self._context.api()
        options = asked(request)
        task = await api.tasks.inspect(reference(request))
        tty = task.spec.container_spec.tty
        return await self._answer(request, Selector(task=task.id), options, tty=tty)

    async def _answer(
        self, request: web.Request, selector: Selector, options: LogOptions, *, tty: bool
    ) -> web.StreamResponse:
        broker = self._context.node.log_broker()
        if broker is None:
            raise ControlError("this manager is not ready", HTTPStatus.SERVICE_UNAVAILABLE)
        newest = (await self._context.engine.version()).api
        version, _ = split_version(request.path)
        kind = "raw" if tty or (version or newest) < (1, 42) else "multiplexed"
        response = web.StreamResponse(
            headers={"Content-Type": f"application/vnd.docker.{kind}-stream"}
        )
        reader = LogReader(broker, selector, options)
        try:
            await response.prepare(request)
            while (lines := await reader.read(_LOOK_S)) is not None:
                if lines:
                    await response.write(b"".join(_bytes(line, options) for line in lines))
                if request.transport is None or request.transport.is_closing():
                    return response
            if reader.missing:
                said = incomplete(reader.missing).encode()
                await response.write(said if tty else frame(SYSTEM_ERROR, said))
        except ConnectionError:
            return response  # the client has gone
        finally:
            reader.close()
        return response


def asked(request: web.Request) -> LogOptions:
    """The options of a request.

    Raises:
        ControlError: neither stream, or a tail that is no number (400), in the engine's words.
    """
    options = LogOptions(
        **{name: flag(request, name) for name in ("stdout", "stderr", "follow", "timestamps")},
        details=flag(request, "details"),
        since=request.query.get("since", ""),
        until=request.query.get("until", ""),
        tail=request.query.get("tail", ""),
    )
    if not options.stdout and not options.stderr:
        raise ControlError("Bad parameters: you must choose at least one stream")
    if options.tail.startswith("-") and options.tail[1:].isdecimal():
        raise ControlError("negative tail values not supported")
    if options.tail not in {"", "all"} and not options.tail.isdecimal():
        raise ControlError('tail value must be a positive integer or "all"')
    return options


def _bytes(line: Line, options: LogOptions) -> bytes:
    """A line as it goes to the client; of a terminal as it came."""
    task, said = line
    if task.spec.container_spec.tty:
        return said.data
    text = render(said, context(task), timestamps=options.timestamps, details=options.details)
    return frame(said.stream, text)
