"""The values of a log stream: the engine's frames, their lines, their order. Pure.

```
 engine ── bytes ──> Frames.feed ──> parse ──> LogBatch ── over gRPC ──> Merge.add ──> render ── CLI
```

A frame is 8 bytes (stream, 0 0 0, big-endian length) and a payload. Nodes ask their engine for
timestamps and details always, so a payload reads ``<time> <k=v,k=v or nothing> <text>``; what the
user did not ask for is left out by ``render``.

Be aware: the engine cuts a long line into payloads of 16 KiB, each with a time of its own; a text
without a newline at its end goes on in the next one.

Source: moby pkg/stdcopy, api/server/httputils/write_log_stream.go.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Final, Generic, TypeVar

from meshnet.errors import WireError
from meshnet_control.api import control_pb2 as pb

STDERR: Final = 2
SYSTEM_ERROR: Final = 3
"""The CLI says what comes on it as ``error from daemon in stream`` and ends with status 1."""
FRAME_BYTES: Final = 1024 * 1024
"""No frame is longer; the engine's are of 16 KiB and a little."""
_HEAD: Final = struct.Struct(">BxxxL")

K = TypeVar("K")


class Frames:
    """Cuts a stream of bytes into frames, however the bytes arrive."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Stream and payload of every frame that is whole now.

        Raises:
            WireError: a frame longer than any the engine makes.
        """
        buffer, at, found = self._rest + data, 0, []
        while len(buffer) - at >= _HEAD.size:
            stream, length = _HEAD.unpack_from(buffer, at)
            if length > FRAME_BYTES:
                raise WireError(peer="engine", why=f"a log frame of {length} bytes")
            end = at + _HEAD.size + length
            if len(buffer) < end:
                break
            found.append((stream, buffer[at + _HEAD.size : end]))
            at = end
        self._rest = buffer[at:]
        return found


def frame(stream: int, payload: bytes) -> bytes:
    """One frame."""
    return _HEAD.pack(stream, len(payload)) + payload


def parse(stream: int, payload: bytes) -> pb.LogLine:
    """The line of a payload that has time and details in front."""
    stamp, _, rest = payload.partition(b" ")
    details, _, text = rest.partition(b" ")
    return pb.LogLine(
        stream=stream,
        timestamp=stamp.decode(errors="replace"),
        details=details.decode(errors="replace"),
        data=text,
    )


def context(task: pb.Task) -> str:
    """The ids that ``docker service logs`` makes ``web.1.xxxx@h2`` of."""
    return (
        f"com.docker.swarm.node.id={task.node_id},"
        f"com.docker.swarm.service.id={task.service_id},"
        f"com.docker.swarm.task.id={task.id}"
    )


def render(line: pb.LogLine, lead: str, *, timestamps: bool, details: bool) -> bytes:
    """The payload of a line as the CLI wants it.

    Args:
        line: of a task without a terminal.
        lead: ``context`` of the task.
        timestamps: with its time in front.
        details: with ``lead`` and the log driver's attributes, sorted by key.
    """
    shown = f"{line.timestamp} " if timestamps else ""
    if details:
        own = line.details.split(",") if line.details else []
        shown += ",".join(sorted([*lead.split(","), *own]) if own else [lead]) + " "
    return shown.encode() + line.data


def incomplete(reasons: Iterable[str]) -> str:
    """What Swarm says when logs are missing.

    Source: swarmkit manager/logbroker/subscription.go Err, as moby writes it to the stream.
    """
    return (
        "Error grabbing logs: rpc error: code = Unknown desc = warning: incomplete log stream. "
        "some logs could not be retrieved for the following reasons: " + ", ".join(reasons) + "\n"
    )


class Merge(Generic[K]):
    """Puts several logs, each in order, into one by time.

    A line comes out once every other log has a later one waiting, or has ended; lines of one log
    stay in their order even when their times do not.

    Args:
        keys: of the logs.
    """

    def __init__(self, keys: Iterable[K]) -> None:
        self._waiting: dict[K, deque[pb.LogLine]] = {key: deque() for key in keys}
        self._place = {key: place for place, key in enumerate(self._waiting)}
        self._empty = set(self._waiting)
        self._heads: list[tuple[str, int, K]] = []

    @property
    def wants(self) -> frozenset[K]:
        """The logs that hold up the others: more of each is needed, or its end."""
        return frozenset(self._empty)

    def add(self, key: K, lines: Iterable[pb.LogLine]) -> None:
        """More of a log that has not ended."""
        waiting = self._waiting[key]
        waiting.extend(lines)
        if waiting and key in self._empty:
            self._show(key)

    def end(self, key: K) -> None:
        """A log that is wanted has ended."""
        self._empty.remove(key)
        del self._waiting[key]

    def ready(self) -> Iterator[tuple[K, pb.LogLine]]:
        """What can be said now, in order."""
        while self._heads and not self._empty:
            _, _, key = heappop(self._heads)
            line = self._waiting[key].popleft()
            self._show(key)
            yield key, line

    def _show(self, key: K) -> None:
        waiting = self._waiting[key]
        if waiting:
            self._empty.discard(key)
            heappush(self._heads, (waiting[0].timestamp, self._place[key], key))
        else:
            self._empty.add(key)
