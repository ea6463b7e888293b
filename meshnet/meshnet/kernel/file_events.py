"""Tells of what is done to files: a sysctl that is written, a name that is taken away (inotify(7)).

The kernel tells by rtnetlink of two sysctls of IPv4 (``meshnet.kernel.events``), and by nothing of
a namespace that loses its name. What is read is watched, so no list of them has to be kept.

Be aware: a sysctl is watched as this process sees /proc: a write through another mount of proc(5)
is not told. Nor is a mount that is taken away. The reconcilers' resync finds both.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from meshnet.kernel import syscalls

_log = logging.getLogger(__name__)

WRITTEN: Final = 0x2
"""IN_MODIFY."""
REMOVED: Final = 0x200 | 0x40
"""IN_DELETE, IN_MOVED_FROM: of names in a directory."""
_EVENT: Final = struct.Struct("iIII")
"""Watch, what happened, cookie, bytes of the name that follows."""
_LOST: Final = 0x4000
"""IN_Q_OVERFLOW."""
_IGNORED: Final = 0x8000
"""IN_IGNORED: the file is gone, and so is its watch; told unasked."""
_SMALL: Final = 1 << 16


class FileEvents:
    """Watches files for one kind of event; ``happened`` is called in the event loop.

    Args:
        events: ``WRITTEN`` or ``REMOVED``.
        happened: gets the places of those to which something was done; None: it cannot be said.

    Where the host has no inotify left nothing is told, which is logged.
    """

    def __init__(
        self, events: int, happened: Callable[[frozenset[str | None] | None], None]
    ) -> None:
        self._events, self._happened = events, happened
        self._loop = asyncio.get_running_loop()
        self._blind = False
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._places: dict[int, str | None] = {}
        try:
            self._descriptor = syscalls.inotify()
        except OSError as error:
            self._lament(f"inotify: {error}")
        else:
            self._loop.add_reader(self._descriptor, self._read, self._descriptor)

    def watch(self, path: Path, place: str | None) -> None:
        """Watch what is there now, from any thread; what is not there is not watched.

        Args:
            path: of the file, or the directory.
            place: what is told of it, such as its namespace (None: the host's).
        """
        with self._lock:
            if self._descriptor is None:
                return
            try:
                watch = syscalls.inotify_watch(self._descriptor, path, self._events)
            except FileNotFoundError:
                return
            except OSError as error:
                self._lament(f"{path}: {error}")
            else:
                self._places[watch] = place

    def close(self) -> None:
        """Stop watching."""
        with self._lock:
            if self._descriptor is not None:
                self._loop.remove_reader(self._descriptor)
                os.close(self._descriptor)
            self._descriptor = None

    def _lament(self, why: str) -> None:
        if not self._blind:
            _log.warning("changes of files are found by the resync only: %s", why)
        self._blind = True

    def _read(self, descriptor: int) -> None:
        places: set[str | None] = set()
        lost = False
        with suppress(BlockingIOError):
            while data := os.read(descriptor, _SMALL):
                for watch, what in _events(data):
                    lost = lost or bool(what & _LOST)
                    if what & self._events and watch in self._places:
                        places.add(self._places[watch])
                    if what & _IGNORED:
                        self._places.pop(watch, None)
        if lost or places:
            self._happened(None if lost else frozenset(places))


def _events(data: bytes) -> Iterator[tuple[int, int]]:
    """(watch, what happened) of each event."""
    at = 0
    while at < len(data):
        watch, what, _, name = _EVENT.unpack_from(data, at)
        yield watch, what
        at += _EVENT.size + name
