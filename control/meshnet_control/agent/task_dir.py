"""A task's directory on this host: ``<run dir>/tasks/<task id>/``, for as long as the host is up.

```
 gate      FIFO the container's shell waits at
 hosts     /etc/hosts of the container
 files/<n> secrets and configs, on a tmpfs of their own; only when the task has some
 signals   of a hot update, that the container was not sent yet
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
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from meshnet.errors import ControlError, KernelError
from meshnet.kernel import syscalls
from meshnet_control.agent import container, gate_fifo
from meshnet_control.agent.task_files import TaskFile
from meshnet_control.api import control_pb2 as pb

TASKS: Final = container.TASKS
"""In the run directory: the directories of all tasks."""

_LAST_OWNER: Final = 2**32 - 2
"""chown(2): 32 bits, and all of them set means "leave it"."""
_LONGEST_OWNER: Final = len(str(_LAST_OWNER))
_MODE_BITS: Final = 0o7777

_TMPFS_FLAGS: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


class TaskDir:
    """The files of one task.

    Args:
        path: its directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gate = path / "gate"

    def make(self) -> None:
        """Makes the directory and the gate."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.mkdir(exist_ok=True, mode=0o711)
        gate_fifo.make(self.gate)

    @property
    def made(self) -> bool:
        """It is there: made since the host came up.

        Raises:
            OSError: it cannot be said.
        """
        try:
            self.gate.stat()
        except FileNotFoundError:
            return False
        return True

    def write_hosts(self, text: str) -> None:
        """Writes the container's /etc/hosts in place (it may be bind-mounted already)."""
        (self.path / "hosts").write_text(text)

    def write_files(self, files: list[TaskFile]) -> None:
        """Writes secrets and configs as ``files/0``, ``files/1`` … on a tmpfs.

        Raises:
            ControlError: a file's owner is no user or group there can be.
            KernelError: the tmpfs cannot be mounted.
        """
        if not files:
            return
        owners = [_owner(file.target) for file in files]
        directory = self.path / "files"
        directory.mkdir(mode=0o711, exist_ok=True)
        if not directory.is_mount():
            try:
                syscalls.mount(
                    "tmpfs", directory, kind="tmpfs", flags=_TMPFS_FLAGS, data="mode=0711"
                )
            except OSError as error:
                raise KernelError("mount tmpfs on", str(directory), error.errno or 0) from error
        for number, file in enumerate(files):
            path_of = directory / str(number)
            path_of.write_bytes(file.data)
            os.chown(path_of, *owners[number])
            path_of.chmod(file.target.mode & _MODE_BITS or 0o444)

    def has(self, number: int, data: bytes) -> bool:
        """Whether ``files/<number>`` is that.

        Raises:
            OSError: it cannot be read.
        """
        return (self.path / "files" / str(number)).read_bytes() == data

    def rewrite(self, number: int, data: bytes) -> None:
        """Makes ``files/<number>`` that, owner and mode as they are.

        In place, for it is bind-mounted: another file of that name would not reach the container.
        All of it is one write(2), so a program that watches it hears of it once.

        Raises:
            OSError: it cannot be written.
        """
        descriptor = os.open(self.path / "files" / str(number), os.O_WRONLY | os.O_NOFOLLOW)
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(descriptor, data[done:], done)
            os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)

    @property
    def signals(self) -> list[str]:
        """What the container was not sent yet."""
        try:
            return (self.path / "signals").read_text().split()
        except FileNotFoundError:
            return []

    def owe(self, signals: Iterable[str]) -> None:
        """Remembers what the container is to be sent; nothing: it was."""
        text = "\n".join(signals)
        if text:
            (self.path / "signals").write_text(text)
        else:
            (self.path / "signals").unlink(missing_ok=True)

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


def _owner(target: pb.FileTarget) -> tuple[int, int]:
    """User and group of a file; empty: root's.

    Raises:
        ControlError: one is no number, or out of range.
    """
    numbers: list[int] = []
    for kind, text in (("uid", target.uid), ("gid", target.gid)):
        digits = text or "0"
        short = digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST_OWNER
        if not short or int(digits) > _LAST_OWNER:
            raise ControlError(f"file {target.name}: {kind} {text!r} is not a number in range")
        numbers.append(int(digits))
    return numbers[0], numbers[1]
