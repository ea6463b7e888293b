"""``/services/{id}/logs`` and ``/tasks/{id}/logs``: the output of tasks, wherever they run.

The manager brings the lines in the engine's frames, what is missing after everything else.

Be aware: the CLI ends with status 1 when something is missing, as with Swarm. Whether the client is
still there is looked at every second, and with everything written.

Source: moby api/server/router/swarm/helpers.go, daemon/cluster/services.go ServiceLogs.
"""

from __future__ import annotations

from contextlib import aclosing
from http import HTTPStatus

from aiohttp import web

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import LogOptions
from meshnet_control.api.manager_pb2 import LogRequest
from meshnet_control.controlapi.refusals import no_leader
from meshnet_control.gateway import responses
from meshnet_control.gateway.http_head import split_version
from meshnet_control.gateway.request import HandlerContext, flag, reference
from meshnet_control.gateway.routing import MAX_VERSION


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
        options = options_of(request)
        service = await api.services.inspect(reference(request), defaults=False)
        tty = service.spec.task_template.container_spec.tty
        asked = LogRequest(service=service.id, options=options, tty=tty)
        return await self._answer(request, asked)

    async def task(self, request: web.Request) -> web.StreamResponse:
        """``GET /tasks/{id}/logs``."""
        api = self._context.api()
        options = options_of(request)
        task = await api.tasks.inspect(reference(request))
        tty = task.spec.container_spec.tty
        return await self._answer(request, LogRequest(task=task.id, options=options, tty=tty))

    async def _answer(self, request: web.Request, asked: LogRequest) -> web.StreamResponse:
        logs = self._context.node.logs()
        if self._context.leaderless:  # nodes are connected with who leads
            raise no_leader()
        if logs is None:
            raise ControlError("this manager is not ready", HTTPStatus.SERVICE_UNAVAILABLE)
        version, _ = split_version(request.path)
        kind = "raw" if asked.tty or (version or MAX_VERSION) < (1, 42) else "multiplexed"
        response = web.StreamResponse(
            headers={"Content-Type": f"application/vnd.docker.{kind}-stream"}
        )
        try:
            await response.prepare(request)
            async with aclosing(logs.read(asked)) as coming:
                async for data in coming:
                    if data:
                        await response.write(data)
                    if request.transport is None or request.transport.is_closing():
                        break
        except ConnectionError:
            pass  # the client has gone
        return response


def options_of(request: web.Request) -> LogOptions:
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
