"""A node's side of the log broker: reads the engine's container logs and sends them to a manager.

```
 manager ── Listen: subscriptions ──> run ── one task each ──> GET /containers/{id}/logs
         <── Publish: batches ────────────────────────────────┘
```

Be aware: gRPC's flow control is the only limit: a batch is read from the engine once the one before
is on its way. When ``Listen`` breaks, every log ends; the manager asks again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import grpc.aio

from meshnet.errors import WireError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.cluster.log_lines import Frames, parse
from meshnet_control.engine.client import EngineClient, EngineError
from meshnet_control.engine.connection import Request, message
from meshnet_control.identity.channel import CallEndedError, call_ends
from meshnet_control.node import orders

_log = logging.getLogger(__name__)

AGAIN_S: Final = 0.5
SILENT_S: Final = 30.0
"""An engine that says nothing for so long while nobody follows is stuck."""
BATCH_BYTES: Final = 64 * 1024
GATHER_S: Final = 0.005
"""Between two reads of the engine, which sends line by line: what comes meanwhile goes as one."""

Call = grpc.aio.StreamUnaryCall[pb.LogBatch, pb.PublishReply]


class LogSource:
    """The logs of this node's containers.

    Args:
        engine: the local engine.
    """

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine

    async def run(self, link: grpc.aio.Channel) -> None:
        """Serve one manager until cancelled."""
        stub = control_pb2_grpc.LogBrokerStub(link)
        await orders.follow(
            lambda: stub.Listen(pb.ListenRequest()),
            pb.LogSubscription,
            lambda wanted: self._publish(stub, wanted),
            "log",
            AGAIN_S,
        )

    async def _publish(
        self, stub: control_pb2_grpc.LogBrokerStub, wanted: pb.LogSubscription
    ) -> None:
        call = stub.Publish()
        reading = asyncio.current_task()
        if reading is not None:  # a log that says nothing more does not see that nobody reads it
            call.add_done_callback(partial(_stop, reading))
        try:
            await _send(call, pb.LogBatch(subscription_id=wanted.id))
            try:
                async with aclosing(self._read(wanted)) as batches:
                    async for batch in batches:
                        await _send(call, batch)
            except (EngineError, WireError) as error:
                await _send(call, pb.LogBatch(last=True, error=f"{_short(wanted)}: {error}"))
            with call_ends():
                await call.done_writing()
                await call
        except CallEndedError as error:
            _log.debug("log %s: its reader has gone: %s", wanted.id, error)
        finally:
            call.cancel()

    async def _read(self, wanted: pb.LogSubscription) -> AsyncGenerator[pb.LogBatch, None]:
        options = wanted.options
        request = Request(
            "GET",
            f"/containers/{quote(wanted.container_id, safe='')}/logs",
            query(options, tty=wanted.tty),
            limit_s=None,
            silent_s=None if options.follow else SILENT_S,
        )
        async with self._engine.open(request) as answer:
            if answer.status != HTTPStatus.OK:
                words = f"{_short(wanted)}: {message(await answer.read())}"
                gone = answer.status == HTTPStatus.NOT_FOUND
                yield pb.LogBatch(last=True, error=words, gone=gone)
                return
            frames = Frames()
            async for data in answer.chunks(BATCH_BYTES):
                if wanted.tty:
                    yield pb.LogBatch(lines=[pb.LogLine(stream=1, data=data)])
                    continue
                lines = [parse(stream, payload) for stream, payload in frames.feed(data)]
                if lines:
                    yield pb.LogBatch(lines=lines)
                if len(data) < BATCH_BYTES:
                    await asyncio.sleep(GATHER_S)
            yield pb.LogBatch(last=True)


async def _send(call: Call, batch: pb.LogBatch) -> None:
    with call_ends():
        await call.write(batch)


def _stop(reading: asyncio.Task[None], _call: object) -> None:
    reading.cancel()


def query(options: pb.LogOptions, *, tty: bool) -> dict[str, str]:
    """Parameters of ``GET /containers/{id}/logs``; PURE. A terminal's log cannot be taken apart."""
    flags = {
        "stdout": options.stdout,
        "stderr": options.stderr,
        "follow": options.follow,
        "timestamps": options.timestamps or not tty,
        "details": options.details or not tty,
    }
    texts = {"since": options.since, "until": options.until, "tail": options.tail}
    return {key: "1" for key, value in flags.items() if value} | {
        k: v for k, v in texts.items() if v
    }


def _short(wanted: pb.LogSubscription) -> str:
    return f"container {wanted.container_id[:12]}"
