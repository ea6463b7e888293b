"""One reader of logs: the tasks of a service, or one task, through the log broker.

```
 not following:  every task that has run, all feeds at once, merged by time, then the end
 following:      as it comes; new tasks are added, a node that was away is taken up again
```

Be aware: a log that cannot be had never holds up the others for longer than it takes to know
(``log_broker.ANSWER_S``, or the node set Down). What is missing is said: in ``missing`` at the end,
or, to a follower, as a line on stderr where it happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.log_lines import STDERR, Merge
from meshnet_control.manager.log_broker import Feed, LogBroker

RETRY_S: Final = 1.0
_SECONDS: Final = len("2026-11-21T08:32:01")

Line = tuple[pb.Task, pb.LogLine]


@dataclass(frozen=True, slots=True)
class Selector:
    """Whose logs: all tasks of a service, or one task."""

    service: str = ""
    task: str = ""

    def has(self, task: pb.Task) -> bool:
        """The task is one of them."""
        return task.id == self.task if self.task else task.service_id == self.service


class LogReader:
    """Reads until ``read`` says None; ``close`` it in any case.

    Args:
        broker: of this manager.
        selector: whose logs.
        options: of the request.
    """

    def __init__(self, broker: LogBroker, selector: Selector, options: pb.LogOptions) -> None:
        self._broker, self._selector, self._options = broker, selector, options
        self._wake = asyncio.Event()
        self._feeds: dict[str, Feed] = {}
        self._finished: set[str] = set()
        self._retry_at: dict[str, float] = {}
        self._last: dict[str, str] = {}
        self._skip: dict[str, str] = {}
        self._tail: dict[str, str] = {}
        self._missing: list[str] = []
        broker.watch(self._wake)
        self._begin(tail=options.tail)
        self._merge = Merge(self._feeds)

    @property
    def missing(self) -> list[str]:
        """Why there is not everything; complete once ``read`` has said None."""
        return list(dict.fromkeys(self._missing))

    def close(self) -> None:
        """End every subscription; twice is fine."""
        self._broker.unwatch(self._wake)
        for feed in self._feeds.values():
            self._broker.close(feed)

    async def read(self, limit_s: float) -> list[Line] | None:
        """What has come, in order; nothing after ``limit_s``; None: that was all."""
        self._wake.clear()
        lines = self._followed() if self._options.follow else self._merged()
        if lines:
            return lines
        if not self._options.follow and not self._feeds:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._wake.wait()
        return []

    # ---- inside ----

    def _begin(self, tail: str) -> None:
        """Ask for every log that is wanted and not asked for yet."""
        objects, now = self._broker.objects, time.monotonic()
        for task in objects.tasks.values():
            if not self._selector.has(task) or task.id in self._feeds.keys() | self._finished:
                continue
            if self._wanted(task) and now >= self._retry_at.get(task.id, 0.0):
                self._tail.setdefault(task.id, tail)
                asked = self._asked(task.id)
                self._feeds[task.id] = self._broker.subscribe(task, asked, self._wake)

    def _wanted(self, task: pb.Task) -> bool:
        if task.node_id and task.node_id not in self._broker.objects.nodes:
            return False  # removed from the cluster, with all it had
        if not task.status.container_status.container_id:
            if self._selector.task and not task.node_id and not self._options.follow:
                self._missing.append(f"task {task.id} has not been scheduled")
            return False
        if task.status.state < pb.TASK_STATE_RUNNING:
            return (
                False  # the log of a container that has not started ends at once, followed or not
            )
        again = task.id in self._retry_at
        return self._broker.available(task.node_id) if again else True

    def _asked(self, task_id: str) -> pb.LogOptions:
        """The options for one task: a follower goes on after the last line it has."""
        asked = pb.LogOptions()
        asked.CopyFrom(self._options)
        asked.tail = self._tail[task_id]
        last = self._last.get(task_id)
        if last:
            self._skip[task_id] = last
            began = datetime.fromisoformat(last[:_SECONDS]).replace(tzinfo=UTC)
            asked.since, asked.tail = str(int(began.timestamp())), "all"
        return asked

    def _merged(self) -> list[Line]:
        tasks = {key: feed.task for key, feed in self._feeds.items()}
        for key in self._merge.wants:
            feed = self._feeds[key]
            batch = feed.take()
            if batch is not None:
                self._merge.add(key, batch.lines)
            elif feed.done:
                self._merge.end(key)
                self._over(key)
        return [(tasks[key], line) for key, line in self._merge.ready()]

    def _followed(self) -> list[Line]:
        self._begin(tail="all")
        lines: list[Line] = []
        for key, feed in list(self._feeds.items()):
            while (batch := feed.take()) is not None:
                lines += [(feed.task, line) for line in batch.lines if self._is_new(key, line)]
                self._last[key] = batch.lines[-1].timestamp
            if feed.done:
                said = len(self._missing)
                self._over(key)
                lines += [(feed.task, _note(why)) for why in self._missing[said:]]
        return lines

    def _is_new(self, key: str, line: pb.LogLine) -> bool:
        """Not one of those that came before the node was lost: their second is asked for again."""
        if line.timestamp <= self._skip.get(key, ""):
            return not line.timestamp
        self._skip.pop(key, None)
        return True

    def _over(self, key: str) -> None:
        """A feed is done: close it, and see whether it was everything."""
        feed = self._feeds.pop(key)
        self._broker.close(feed)
        if self._options.follow and feed.lost:
            known = key in self._retry_at
            self._retry_at[key] = time.monotonic() + RETRY_S
            if known and not feed.opened:
                return  # said before
        else:
            self._finished.add(key)
        if feed.error and not (feed.gone and self._selector.service):
            self._missing.append(feed.error)


def _note(why: str) -> pb.LogLine:
    """What a follower is told in between."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
    return pb.LogLine(
        stream=STDERR, timestamp=now, data=f"warning: incomplete log stream: {why}\n".encode()
    )
