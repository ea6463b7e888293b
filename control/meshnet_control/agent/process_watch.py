"""Tells when a container's first process ends: the kernel's word (pidfd_open(2)).

The engine's own word comes later, and not at all while the engine itself is being restarted, which
is just when its containers end.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger(__name__)


def is_of(pid: int, container: str) -> bool:
    """Whether a process is one of a container's, as the cgroup that the engine gave it says.

    An engine in another pid namespace counts in numbers of its own, which mean others here.

    Args:
        pid: as the engine says it; 0 is none.
        container: its ID, 64 hex digits.
    """
    try:
        return container in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


class ProcessWatch:
    """Follows one process at a time.

    Args:
        ended: called on the loop once for each followed process that has ended.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._pid = 0
        self._descriptor = -1

    def follow(self, pid: int) -> None:
        """Follow another process; the same one again, or 0, changes nothing.

        One that cannot be followed (it is not there any more, no descriptor is free) is left to
        the engine's word.
        """
        if pid in {0, self._pid}:
            return
        self.close()
        try:
            self._descriptor = os.pidfd_open(pid)
        except OSError as error:
            _log.info("process %d cannot be followed: %s", pid, error.strerror)
            return
        self._pid = pid
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    def close(self) -> None:
        """Follow nothing."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
        self._pid, self._descriptor = 0, -1

    def _end(self) -> None:
        self.close()
        self._ended()
