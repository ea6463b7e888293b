"""A task's directory on this host: ``<run dir>/tasks/<task id>/``.

```
 task      the task as assigned (protobuf), so that a restarted process adopts its container
 gate      FIFO the container's shell waits at
 opening   is there from before the gate is opened: the program may run
 opened    is there once the gate was opened
 stopping  is there once the container was told to stop; holds why, if it was wanted
 hosts     /etc/hosts of the container
 files/<n> secrets and configs, on a tmpfs of their own; only when the task has some
```

Be aware: secrets are never on a disk: ``files`` is a tmpfs whatever the run directory is on. A
container's program may be any user, so files are readable by all; ``tasks`` itself is root's only,
so nobody on the host gets to them (a bind mount does not ask the directories above it).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from meshnet.errors import KernelError
from meshnet.kernel import syscalls
from meshnet_control.agent import gate_fifo
from meshnet_control.api import control_pb2 as pb

TASKS: Final = "tasks"
"""In the run directory: the directories of all tasks."""

_TMPFS_FLAGS: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


class TaskDir:
    """The files of one task.

    Args:
        path: its directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gate = path / "gate"

    def make(self, task: pb.Task) -> None:
        """Makes the directory and the gate, and remembers the task."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.mkdir(exist_ok=True, mode=0o711)
        gate_fifo.make(self.gate)
        fresh = self.path / "task.new"
        fresh.write_bytes(task.SerializeToString())
        fresh.replace(self.path / "task")

    def task(self) -> pb.Task | None:
        """The task as it was assigned; None when there is no memory of it.

        Raises:
            OSError: it cannot be read now (out of descriptors, say), which tells nothing of it.
        """
        try:
            return pb.Task.FromString((self.path / "task").read_bytes())
        except (FileNotFoundError, NotADirectoryError, DecodeError):
            return None

    @property
    def opened(self) -> bool:
        """The gate was opened."""
        return (self.path / "opened").exists()

    @property
    def opening(self) -> bool:
        """The gate was about to be opened: the program may run, whatever ``opened`` says."""
        return (self.path / "opening").exists()

    def mark_opening(self) -> None:
        """Remembers that the gate is about to be opened."""
        (self.path / "opening").touch()

    def mark_opened(self) -> None:
        """Remembers that the gate was opened."""
        (self.path / "opened").touch()

    @property
    def stopping(self) -> bool:
        """The container was told to stop: however it ended, it was not by itself."""
        return (self.path / "stopping").exists()

    def mark_stopping(self, cause: str) -> None:
        """Remembers that the container was told to stop, and why if it was wanted."""
        (self.path / "stopping").write_text(cause)

    @property
    def stopping_cause(self) -> str:
        """Why a container that was wanted was told to stop; empty: it was not wanted."""
        try:
            return (self.path / "stopping").read_text()
        except FileNotFoundError:
            return ""

    def write_hosts(self, text: str) -> None:
        """Writes the container's /etc/hosts in place (it may be bind-mounted already)."""
        (self.path / "hosts").write_text(text)

    def write_files(self, files: list[tuple[pb.FileTarget, bytes]]) -> None:
        """Writes secrets and configs as ``files/0``, ``files/1`` … on a tmpfs.

        Raises:
            KernelError: the tmpfs cannot be mounted.
        """
        if not files:
            return
        directory = self.path / "files"
        directory.mkdir(mode=0o711, exist_ok=True)
        if not directory.is_mount():
            try:
                syscalls.mount(
                    "tmpfs", directory, kind="tmpfs", flags=_TMPFS_FLAGS, data="mode=0711"
                )
            except OSError as error:
                raise KernelError("mount tmpfs on", str(directory), error.errno or 0) from error
        for number, (target, data) in enumerate(files):
            path_of = directory / str(number)
            path_of.write_bytes(data)
            os.chown(path_of, _number(target.uid), _number(target.gid))
            path_of.chmod(target.mode or 0o444)

    def remove(self) -> None:
        """Removes everything; gone already is success.

        Raises:
            KernelError: the tmpfs cannot be unmounted.
        """
        directory = self.path / "files"
        if directory.is_mount():
            try:
                syscalls.unmount(directory)
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: not mounted any more
                    raise KernelError("unmount", str(directory), error.errno or 0) from error
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
