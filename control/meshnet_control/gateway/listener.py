"""The gateway's socket: one file, whose inode stays while meshnetd is started anew.

```
 meshnetd ── FDSTORE=1, FDNAME=docker.sock ─> who starts it again   the listening socket outlives it
 <run dir>/docker.sock ── bind mount ─> <state dir>/engine/docker.sock ── rslave ─> containers
```
A container that has docker.sock mounted has its inode, and keeps it for ever: so whoever starts
meshnetd holds the socket meanwhile, and requests wait in it (decision 40).

What containers mount is a file of its own (``lend``). It is there before meshnetd is, after a boot,
as an empty file; the socket is mounted over it, and because the containers' mounts are slaves of a
shared one, the kernel does the same in each of them (mount_namespaces(7)). Needs no mount namespace
of its own to be entered, and no engine to be asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from meshnet.kernel import syscalls
from meshnet.process.notify import Notifier
from meshnet_control.agent.engine_socket import lent_path
from meshnet_control.gateway.proxy import bind, need_unserved

_NAME: Final = "docker.sock"
_SIOCUNIXFILE: Final = 0x89E0
"""The file a unix socket is bound to, as a descriptor. Source: linux/un.h."""


class Listener:
    """Makes the socket, or takes up the one that was held.

    Args:
        notifier: who starts this process again.
        inherited: name -> descriptors that it held; those that are not ours are closed.
        lending: containers mount the socket (``lend``).
    """

    def __init__(
        self,
        notifier: Notifier | None = None,
        inherited: Mapping[str, Sequence[int]] | None = None,
        *,
        lending: bool = False,
    ) -> None:
        self._notifier, self._lending = notifier, lending
        self._left: list[socket.socket] = []
        for name, descriptors in (inherited or {}).items():
            for descriptor in descriptors:
                self._take(name, descriptor)

    def open(self, path: Path, group: int | None) -> socket.socket:
        """The socket at ``path``, as ``proxy.bind`` promises.

        Raises:
            OSError: another process serves it, or its file cannot be made.
        """
        found = next((each for each in self._left if _is_at(each, path)), None)
        for other in self._left:
            if other is not found:
                other.close()
        self._left.clear()
        if found is not None:
            if self._notifier is not None:
                self._notifier.inherited(_NAME, [found.fileno()])
            return found
        need_unserved(path)
        if self._lending and path.is_socket():  # nothing can be mounted over one that is removed
            path.rename(path.with_name(f"{path.name}.{path.stat().st_ino}"))
        path.unlink(missing_ok=True)
        made = bind(path, group)
        if self._notifier is not None:
            self._notifier.hold(_NAME, [made.fileno()])
        return made

    def closed(self, path: Path) -> None:
        """This process ends; the file stays as long as somebody holds its socket."""
        if self._notifier is None or not self._notifier.is_heard:
            path.unlink(missing_ok=True)

    def _take(self, name: str, descriptor: int) -> None:
        try:
            found = socket.socket(fileno=descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            return
        if name == _NAME and found.family == socket.AF_UNIX:
            found.setblocking(False)  # noqa: FBT003 - its only form
            self._left.append(found)
        else:
            found.close()


def _is_at(listening: socket.socket, path: Path) -> bool:
    """Whether ``path`` is still the file of a socket."""
    try:
        descriptor = fcntl.ioctl(listening.fileno(), _SIOCUNIXFILE)
        try:
            return os.path.samestat(os.fstat(descriptor), path.stat())
        finally:
            os.close(descriptor)
    except OSError:
        return False


def lend(path: Path, state_dir: Path) -> Path:
    """Has the file that containers mount be the socket at ``path``; the file.

    Args:
        path: the gateway's socket.
        state_dir: what outlives a boot.

    Raises:
        OSError: it cannot be made, or mounted over.
    """
    file = lent_path(state_dir)
    directory = file.parent
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory, file = directory.resolve(), directory.resolve() / file.name
    if not _mounted(file):
        file.touch(mode=0o600)
    if not _is_shared(directory):
        syscalls.mount(str(directory), directory, flags=syscalls.MS_BIND)
        syscalls.mount("none", directory, flags=syscalls.MS_SHARED)
    if not file.samefile(path):
        try:  # over a dead one, if it is there: containers that have that get this as well
            syscalls.mount(str(path), file, flags=syscalls.MS_BIND)
        except OSError:  # somebody removed that one's file
            _unmount(file)
            syscalls.mount(str(path), file, flags=syscalls.MS_BIND)
    return lent_path(state_dir)


def take_back(state_dir: Path) -> None:
    """Removes the mounts; the empty file stays for containers that are made already.

    Raises:
        OSError: one cannot be unmounted.
    """
    directory = lent_path(state_dir).parent.resolve()
    for point in (directory / lent_path(state_dir).name, directory):
        _unmount(point)


def _unmount(point: Path) -> None:
    while _mounted(point):
        syscalls.unmount(point)


def _mounts() -> list[tuple[str, bool]]:
    """Where something is mounted, and whether it is shared; the uppermost last (proc(5))."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split(" ")
        point = words[4].replace("\\040", " ")
        optional = words[6 : words.index("-")]
        found.append((point, any(word.startswith("shared:") for word in optional)))
    return found


def _mounted(path: Path) -> bool:
    return any(point == str(path) for point, _ in _mounts())


def _is_shared(directory: Path) -> bool:
    """Whether what is mounted below is mounted in peers and slaves, too."""
    inside = [
        (len(point), shared) for point, shared in _mounts() if directory.is_relative_to(point)
    ]
    longest = max((length for length, _ in inside), default=0)
    return [shared for length, shared in inside if length == longest][-1:] == [True]
