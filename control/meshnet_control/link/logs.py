"""Logs of tasks from meshnetd: what the manager reads of all nodes, in the engine's frames."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import grpc.aio

from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.api import manager_pb2_grpc
from meshnet_control.cluster.log_lines import SYSTEM_ERROR, frame, incomplete
from meshnet_control.identity.channel import CallEndedError, call_ends

ENDED: Final = "meshnet-manager ended, or was started again"


class RemoteLogs:
    """Reads logs through meshnet-manager.

    Args:
        channel: to it.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = manager_pb2_grpc.LogsStub(channel)

    async def read(self, asked: mpb.LogRequest) -> AsyncGenerator[bytes, None]:
        """The log, as it goes to the client; empty when nothing came for a second.

        What is missing is said at the end.
        """
        call = self._stub.Read(asked)
        try:
            while True:
                with call_ends():
                    chunk = await call.read()
                if isinstance(chunk, mpb.LogChunk):
                    yield chunk.data
                else:
                    return
        except CallEndedError:
            yield said_missing([ENDED], tty=asked.tty)
        finally:
            call.cancel()


def said_missing(missing: list[str], *, tty: bool) -> bytes:
    """What a client is told of it."""
    said = incomplete(missing).encode()
    return said if tty else frame(SYSTEM_ERROR, said)
