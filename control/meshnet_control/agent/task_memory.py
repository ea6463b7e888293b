"""What a node remembers of a task over the death of everything: ``<state dir>/tasks/<task id>/``.

```
 task      the task as assigned (protobuf), with the numbers it got here
 started   its container may have run: nothing else ever runs under this task's id
 opened    its gate is being opened, or is open
 draining  since when its connections are waited for, Unix seconds
 stopping  the container was told to stop: however it ended, it was not by itself
 failing   why it was ended though it was wanted
```

Be aware: only ``started`` must survive a power cut, and does (fsync(2) before the container is
started); the others matter as long as the container's processes live. "Cannot be read" is never
"not there": every error but that one is raised.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path

from google.protobuf.message import DecodeError

from meshnet_control.api import control_pb2 as pb


class TaskMemory:
    """The memory of one task. Every method raises OSError for what it cannot read or write.

    Args:
        path: its directory; its name is the task's ID.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, task: pb.Task) -> None:
        """Remembers the task, but not what its image was pulled with."""
        kept = pb.Task()
        kept.CopyFrom(task)
        if kept.spec.container_spec.HasField("pull_options"):
            kept.spec.container_spec.ClearField("pull_options")
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self._path / "task.new"
        fresh.write_bytes(kept.SerializeToString())
        fresh.replace(self._path / "task")

    def task(self) -> pb.Task | None:
        """The task as it was assigned; None when there is no memory of it, or a torn one."""
        try:
            task = pb.Task.FromString((self._path / "task").read_bytes())
        except (FileNotFoundError, DecodeError):
            return None
        return task if task.id == self._path.name else None

    @property
    def started(self) -> bool:
        """Its container may have run."""
        return self._has("started")

    async def mark_started(self) -> None:
        """Remembers, for ever, that its container may have run."""
        await asyncio.to_thread(self._mark_started)

    @property
    def opened(self) -> bool:
        """Its gate is being opened, or is open."""
        return self._has("opened")

    def mark_opened(self) -> None:
        """Remembers that the gate is being opened."""
        (self._path / "opened").touch()

    @property
    def draining_since(self) -> float | None:
        """Since when its connections are waited for, Unix seconds; None: they are not."""
        try:
            return float((self._path / "draining").read_text())
        except (FileNotFoundError, ValueError):  # none, or torn
            return None

    def mark_draining(self, since: float) -> None:
        """Remembers since when its connections are waited for, Unix seconds."""
        (self._path / "draining").write_text(repr(since))

    @property
    def stopping(self) -> bool:
        """The container was told to stop."""
        return self._has("stopping")

    def mark_stopping(self) -> None:
        """Remembers that the container was told to stop."""
        (self._path / "stopping").touch()

    @property
    def failing(self) -> str:
        """Why it was ended though it was wanted; empty: it was not."""
        try:
            return (self._path / "failing").read_text()
        except FileNotFoundError:
            return ""

    def mark_failing(self, why: str) -> None:
        """Remembers why it is ended though it is wanted."""
        (self._path / "failing").write_text(why)

    def remove(self) -> None:
        """Forgets the task; forgotten already is success."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._path)

    def _has(self, name: str) -> bool:
        try:
            (self._path / name).stat()
        except FileNotFoundError:
            return False
        return True

    def _mark_started(self) -> None:
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._path / "started").touch()
        for path in (*self._path.iterdir(), self._path, self._path.parent):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
