"""System calls that Python has no function for before 3.12, or at all: namespaces, mounts, inotify.

Each raises ``OSError`` with the call's errno; which typed error that is, the caller knows.

Be aware: ``setns`` and ``unshare_net`` concern the *calling thread* alone.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

_CLONE_NEWNET: Final = 0x40000000
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_SHARED: Final = 0x100000
_MNT_DETACH: Final = 2
_libc: Final = ctypes.CDLL(None, use_errno=True)


def setns(descriptor: int) -> None:
    """Move the calling thread into a network namespace (setns(2))."""
    _check(_libc.setns(descriptor, _CLONE_NEWNET))


def unshare_net() -> None:
    """Move the calling thread into a new network namespace (unshare(2))."""
    _check(_libc.unshare(_CLONE_NEWNET))


def mount(source: str, target: Path, *, kind: str = "none", flags: int = 0, data: str = "") -> None:
    """Mount a file system of ``kind`` with the options ``data`` (mount(2))."""
    options = data.encode() or None
    where = os.fsencode(target)
    _check(_libc.mount(source.encode(), where, kind.encode(), ctypes.c_ulong(flags), options))


def unmount(target: Path) -> None:
    """Take a mount from the tree; it ends with its last user (umount2(2), MNT_DETACH)."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH))


def inotify() -> int:
    """Make what tells of files (inotify_init1(2)): its descriptor, which does not block."""
    descriptor: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    _check(min(descriptor, 0))
    return descriptor


def inotify_watch(descriptor: int, path: Path, events: int) -> int:
    """Tell of these events at what ``path`` is now: the number of its watch, one for each file."""
    watch: int = _libc.inotify_add_watch(descriptor, os.fsencode(path), events)
    _check(min(watch, 0))
    return watch


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
