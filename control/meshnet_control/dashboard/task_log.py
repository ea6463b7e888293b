"""The log of one task as the page shows it: the newest lines, and then as they come.

```
 meshnet-manager's log broker ── frames ──> at most MOST_WAITING lines ──> four events a second
```
Nothing piles up: while as many lines wait as may, nothing is read, and gRPC's flow control stops
the node. The reading ends with who listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any, Final

import click

from meshnet import ends
from meshnet.errors import WireError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.cluster.log_lines import SYSTEM_ERROR, Frames
from meshnet_control.dashboard.feed import NO_STORE
from meshnet_control.store.store import Store, StoreError

TAIL: Final = 200
"""Lines of before that are shown."""
MOST_WAITING: Final = 500
"""Lines; as many are told at once at most."""
PACE_S: Final = 0.25
"""Between two events, at least."""
LONGEST: Final = 4000
"""Characters of a line that are shown."""
GONE: Final = "there is no such task any more"

Line = dict[str, Any]
Read = Callable[[mpb.LogRequest], AsyncGenerator[bytes, None]]


class TaskLogs:
    """Of this cluster.

    Args:
        store: None: this node does not manage now.
        logs: reads one, as the engine's frames; None: nobody reads logs here now.
    """

    def __init__(self, store: Callable[[], Store | None], logs: Callable[[], Read | None]) -> None:
        self._store, self._logs = store, logs

    async def of(self, task_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """``lines`` as they come; in the end ``ended``, and in ``missing`` what is missing."""
        store, read = self._store(), self._logs()
        if store is None or read is None:
            yield {"lines": [], "ended": True, "missing": NO_STORE}
            return
        try:
            task = await store.get(pb.Task, task_id)
        except StoreError as error:
            yield {"lines": [], "ended": True, "missing": str(error)}
            return
        if task is None:
            yield {"lines": [], "ended": True, "missing": GONE}
            return
        log = _Log(tty=task.spec.container_spec.tty)
        asked = mpb.LogRequest(task=task_id, options=_OPTIONS, tty=task.spec.container_spec.tty)
        reading = asyncio.create_task(log.follow(read(asked)), name="a task's log")
        try:
            while not log.ended:
                await log.wake.wait()
                yield log.take()
                await asyncio.sleep(PACE_S)
        finally:
            await ends.ended(reading)


_OPTIONS: Final = pb.LogOptions(
    stdout=True, stderr=True, follow=True, timestamps=True, tail=str(TAIL)
)


class _Log:
    """Lines between who reads and who tells."""

    def __init__(self, *, tty: bool) -> None:
        self._cut = Raw() if tty else Framed()
        self._waiting: list[Line] = []
        self._missing = ""
        self._over = False
        self._room = asyncio.Event()
        self.ended = False
        self.wake = asyncio.Event()

    async def follow(self, coming: AsyncGenerator[bytes, None]) -> None:
        """Read until it ends, or is cancelled."""
        try:
            async with aclosing(coming):
                async for data in coming:
                    for line in self._cut.lines(data):
                        await self._add(line)
        except WireError as error:
            self._missing = str(error)
        self._over = True
        self.wake.set()

    def take(self) -> dict[str, Any]:
        """What waits, and whether that was all."""
        lines, self._waiting = self._waiting, []
        self.wake.clear()
        self._room.set()
        if not self._over:
            return {"lines": lines}
        self.ended = True
        return {"lines": lines, "ended": True, "missing": self._missing}

    async def _add(self, line: Line) -> None:
        if line["stream"] == SYSTEM_ERROR:
            self._missing = line["text"]
            return
        while len(self._waiting) >= MOST_WAITING:
            self._room.clear()
            await self._room.wait()
        self._waiting.append(line)
        self.wake.set()


class Framed:
    """Lines of the engine's frames, each with its time in front."""

    def __init__(self) -> None:
        self._frames = Frames()

    def lines(self, data: bytes) -> Iterator[Line]:
        """Those that are whole now.

        Raises:
            WireError: these are no frames.
        """
        for stream, payload in self._frames.feed(data):
            if stream == SYSTEM_ERROR:
                yield {"stream": stream, "at": "", "text": payload.decode(errors="replace").strip()}
                continue
            at, _, text = payload.partition(b" ")
            yield {"stream": stream, "at": at.decode(errors="replace"), "text": shown(text)}


class Raw:
    """Lines of a terminal's output, which has no frames."""

    def __init__(self) -> None:
        self._rest = b""

    def lines(self, data: bytes) -> Iterator[Line]:
        """Those that are whole now; the last one waits for its end, up to ``LONGEST`` bytes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST:
            whole, self._rest = [*whole, self._rest], b""
        for line in whole:
            at, _, text = line.partition(b" ")
            yield {"stream": 1, "at": at.decode(errors="replace"), "text": shown(text)}


def shown(text: bytes) -> str:
    """A line without colours and other orders to a terminal, and not too long. Pure."""
    said = click.unstyle(text.decode(errors="replace")).replace("\t", "    ")
    plain = "".join(each for each in said if each.isprintable())
    return plain if len(plain) <= LONGEST else f"{plain[:LONGEST]} …"
