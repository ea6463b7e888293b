"""A log on its way to a client of a gateway: read here, or at the manager that leads.

The nodes' streams are at the leader, so it alone can ask them for their logs.
"""

from __future__ import annotations

import logging
from typing import Final, TypeAlias

import grpc
import grpc.aio

from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.api import manager_pb2_grpc
from meshnet_control.cluster.log_lines import context as context_of
from meshnet_control.cluster.log_lines import frame, render
from meshnet_control.identity.channel import CallEndedError, call_ends, channel
from meshnet_control.identity.identity import Certificates
from meshnet_control.link.logs import said_missing
from meshnet_control.manager.authority import AnyContext
from meshnet_control.manager.log_broker import LogBroker
from meshnet_control.manager.log_reader import Line, LogReader, Selector

AnyCall: TypeAlias = grpc.aio.UnaryStreamCall[mpb.LogRequest, mpb.LogChunk]
_LOOK_S: Final = 1.0
_NO_LEADER: Final = "no manager leads"
_LEADER_WENT: Final = "the manager that led has gone: ask again"
_log = logging.getLogger(__name__)


async def read(logs: LogBroker, request: mpb.LogRequest, context: AnyContext) -> None:
    """One reader's log, in the engine's frames; each second a sign of life."""
    selector = Selector(service=request.service, task=request.task)
    reader = LogReader(logs, selector, request.options)
    try:
        while (lines := await reader.read(_LOOK_S)) is not None:
            data = b"".join(_bytes(line, request) for line in lines)
            with call_ends():
                await context.write(mpb.LogChunk(data=data))
        if reader.missing:
            await _say(reader.missing, request, context)
    except CallEndedError:
        return  # the client has gone
    finally:
        reader.close()


async def pass_on(
    leader: str, certs: Certificates, request: mpb.LogRequest, context: AnyContext
) -> None:
    """The same, as the manager that leads reads it.

    Args:
        leader: ``host:port`` of its port 2377; empty: unknown.
        certs: of this manager.
        request: what is to be read.
        context: of the call.
    """
    try:
        if not leader:
            await _say([_NO_LEADER], request, context)
            return
        async with channel(leader, certs) as link:
            call = manager_pb2_grpc.LogsStub(link).Read(request)
            try:
                await _copied(call, request, context)
            finally:
                call.cancel()
    except CallEndedError:
        return  # the client has gone


async def _copied(call: AnyCall, request: mpb.LogRequest, context: AnyContext) -> None:
    while True:
        try:
            with call_ends():
                chunk = await call.read()
                code = None if isinstance(chunk, mpb.LogChunk) else await call.code()
        except CallEndedError as error:
            _log.info("logs from the manager that leads: %s", error)
            await _say([_LEADER_WENT], request, context)
            return
        if not isinstance(chunk, mpb.LogChunk):
            if code is not grpc.StatusCode.OK:
                _log.info("logs from the manager that leads: %s", code)
                await _say([_LEADER_WENT], request, context)
            return
        with call_ends():
            await context.write(chunk)


async def _say(missing: list[str], request: mpb.LogRequest, context: AnyContext) -> None:
    with call_ends():
        await context.write(mpb.LogChunk(data=said_missing(missing, tty=request.tty)))


def _bytes(line: Line, asked: mpb.LogRequest) -> bytes:
    """A line as it goes to the client; of a terminal as it came."""
    task, said = line
    if task.spec.container_spec.tty:
        return said.data
    options = asked.options
    text = render(said, context_of(task), timestamps=options.timestamps, details=options.details)
    return frame(said.stream, text)
