"""Network namespaces: make, remove, list, and be inside one for a moment.

A named namespace is a bind mount of ``/proc/<thread>/ns/net`` on a file (ip-netns(8)). The first
``ip netns add`` of a boot mounts the directory of names on itself, over all that is there, and what
is below can neither be reached nor removed. So we do that first, as it does; it stays, as it does.

Be aware: ``inside`` moves the *calling thread*. Only the kernel thread may use it, never the
event loop's.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from meshnet.errors import KernelError, NotFoundError, kernel_error
from meshnet.kernel import syscalls

NETNS_DIR: Final = Path("/run/netns")
Identity: TypeAlias = tuple[int, int]
"""Device and inode of a network namespace: its path may lead elsewhere later."""
_THREAD_NS: Final = "/proc/thread-self/ns/net"


def create(path: Path) -> None:
    """Make a namespace and name it ``path``; one that is there stays.

    Raises:
        KernelError: no right to, or the file system refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_netns(path):
        return
    if path.parent == NETNS_DIR:
        _share(path.parent)
    path.touch(mode=0o444)
    own = os.open(_THREAD_NS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.unshare_net()
        try:
            syscalls.mount(_THREAD_NS, path, flags=syscalls.MS_BIND)
        finally:
            syscalls.setns(own)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise KernelError("make", str(path), error.errno or 0) from error
    finally:
        os.close(own)


def delete(path: Path) -> None:
    """Take the name away; the kernel removes the namespace with its last user. Idempotent.

    Raises:
        KernelError: the mount or the name cannot be taken away.
    """
    try:
        while _is_mount(path):
            syscalls.unmount(path)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise KernelError("remove", str(path), error.errno or 0) from error


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
def inside(path: str | None) -> Iterator[Identity | None]:
    """The calling thread is in the namespace ``path`` meanwhile; None: stays where it is.

    Yields:
        Which namespace that is; None: where it was.

    Raises:
        NotFoundError: it is not there (any more).
        KernelError: it cannot be entered.
    """
    if path is None:
        yield None
        return
    with ExitStack() as stack:
        own = open_netns(_THREAD_NS)
        stack.callback(os.close, own)
        target = open_netns(path)
        try:
            enter(target, path)
            found = os.fstat(target)
        finally:
            os.close(target)
        stack.callback(enter, own, "own namespace")
        yield found.st_dev, found.st_ino


def open_netns(path: str) -> int:
    """A descriptor of the namespace; the caller closes it.

    Raises:
        NotFoundError: it is not there (any more).
        KernelError: it cannot be opened, as no descriptor is left.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except NotADirectoryError as error:
        raise NotFoundError("open", path, error.errno or 0) from error
    except OSError as error:
        raise kernel_error("open", path, error.errno or 0) from error


def enter(descriptor: int, name: str) -> None:
    """Move the calling thread.

    Raises:
        NotFoundError: ``descriptor`` is a plain file: the namespace's mount is gone.
        KernelError: no right to.
    """
    try:
        syscalls.setns(descriptor)
    except OSError as error:
        gone = NotFoundError if error.errno == errno.EINVAL else KernelError
        raise gone("setns", name, error.errno or 0) from error


def _share(directory: Path) -> None:
    """Mount it on itself, unless it is or has names below already; in turn with ``ip netns``.

    Source: iproute2 ip/ipnetns.c create_netns_dir.

    Raises:
        KernelError: it cannot be.
    """
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            syscalls.mount("", directory, flags=syscalls.MS_SHARED | syscalls.MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:  # it is no mount
                raise
            if not any(is_netns(each) for each in directory.iterdir()):
                flags = syscalls.MS_BIND | syscalls.MS_REC
                syscalls.mount(str(directory), directory, flags=flags)
                syscalls.mount("", directory, flags=syscalls.MS_SHARED | syscalls.MS_REC)
    except OSError as error:
        raise KernelError("mount", str(directory), error.errno or 0) from error
    finally:
        os.close(lock)


def _is_mount(path: Path) -> bool:
    """A namespace's file is on nsfs, not on the device of its directory (nsfs has no ismount)."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False
