"""Network namespaces: make, remove, list, and be inside one for a moment.

A named namespace is a bind mount of ``/proc/<thread>/ns/net`` on a file (ip-netns(8)).

Be aware: ``inside`` moves the *calling thread*. Only the kernel thread may use it, never the
event loop's.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from meshnet.errors import KernelError, NotFoundError

NETNS_DIR: Final = Path("/run/netns")
Identity: TypeAlias = tuple[int, int]
"""Device and inode of a network namespace: its path may lead elsewhere later."""
_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 0x1000
_MNT_DETACH: Final = 2
_THREAD_NS: Final = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


def create(path: Path) -> None:
    """Make a namespace and name it ``path``; one that is there stays.

    Raises:
        KernelError: no right to, or the file system refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_netns(path):
        return
    path.touch(mode=0o444)
    own = os.open(_THREAD_NS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", str(path), _libc.unshare(_CLONE_NEWNET))
        try:
            source = _THREAD_NS.encode()
            _call("mount", str(path), _libc.mount(source, bytes(path), b"none", _MS_BIND, None))
        finally:
            _call("setns", "own namespace", _libc.setns(own, _CLONE_NEWNET))
    except KernelError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(own)


def delete(path: Path) -> None:
    """Take the name away; the kernel removes the namespace with its last user. Idempotent.

    Raises:
        KernelError: the mount cannot be taken away.
    """
    try:
        while _is_mount(path):
            _call("umount", str(path), _libc.umount2(bytes(path), _MNT_DETACH))
    finally:
        path.unlink(missing_ok=True)


def is_netns(path: Path) -> bool:
    """True when ``path`` names a living namespace and is not a plain file that was left."""
    return path.exists() and _is_mount(path)


def identity_of(path: str) -> Identity | None:
    """Which namespace ``path`` leads to now; None: there is nothing."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called for every namespace every second
    except OSError:
        return None
    return found.st_dev, found.st_ino


def names(directory: Path, prefix: str) -> list[str]:
    """Names in ``directory`` that begin with ``prefix``, ascending."""
    if not directory.is_dir():
        return []
    return sorted(entry.name for entry in directory.iterdir() if entry.name.startswith(prefix))


@contextmanager
def inside(path: str | None) -> Iterator[None]:
    """The calling thread is in the namespace ``path`` meanwhile; None: stays where it is.

    Raises:
        NotFoundError: it is not there (any more).
    """
    if path is None:
        yield
        return
    target = open_netns(path)
    own = os.open(_THREAD_NS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(target, path)
        try:
            yield
        finally:
            enter(own, "own namespace")
    finally:
        os.close(own)
        os.close(target)


def open_netns(path: str) -> int:
    """A descriptor of the namespace; the caller closes it.

    Raises:
        NotFoundError: it is not there (any more).
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFoundError("open", path, error.errno or 0) from error


def enter(descriptor: int, name: str) -> None:
    """Move the calling thread.

    Raises:
        NotFoundError: ``descriptor`` is a plain file: the namespace's mount is gone.
    """
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise NotFoundError("setns", name, ctypes.get_errno())


def _is_mount(path: Path) -> bool:
    """A namespace's file is on nsfs, not on the device of its directory (nsfs has no ismount)."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


def _call(op: str, target: str, result: int) -> None:
    if result:
        raise KernelError(op, target, ctypes.get_errno())
