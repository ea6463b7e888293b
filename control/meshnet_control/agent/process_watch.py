"""The first process of a container, watched by the kernel's word: its end is known at once.

The engine tells of an end after it has cleaned up, and an engine that restarts tells nothing at
all; a pidfd is readable the moment the process is gone (pidfd_open(2), since Linux 5.3).

Be aware: a process ID may be another's by the time we look, and an engine in another PID namespace
speaks of other numbers. So the descriptor is opened first and kept only if the process it holds is
in the container's control group, whose path has the container's ID in it (cgroups(7)).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

PROC: Final = Path("/proc")


class Process:
    """One process that is watched.

    Args:
        descriptor: its pidfd; ours to close.
        gone: called once, in the loop, when the process has ended.
    """

    def __init__(self, descriptor: int, gone: Callable[[], None]) -> None:
        self._descriptor: int | None = descriptor
        self._gone = gone
        asyncio.get_running_loop().add_reader(descriptor, self._ended)

    def close(self) -> None:
        """Stops watching."""
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _ended(self) -> None:
        self.close()
        self._gone()


def watch(pid: int, container: str, gone: Callable[[], None], proc: Path = PROC) -> Process | None:
    """Watches a container's first process; None when it cannot be: the engine's word remains.

    Args:
        pid: of the process, as the engine says.
        container: ID of its container.
        gone: called once, in the loop, when the process has ended.
        proc: where its control group is read.
    """
    if pid <= 0:
        return None
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        _log.warning("container %s: its process cannot be watched: %s", container[:12], error)
        return None
    try:
        if container in (proc / str(pid) / "cgroup").read_text():
            return Process(descriptor, gone)
    except (FileNotFoundError, ProcessLookupError):
        pass
    except OSError as error:
        _log.warning("container %s: its process cannot be watched: %s", container[:12], error)
    os.close(descriptor)
    return None
