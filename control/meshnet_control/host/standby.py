"""meshnet-manager before there is anything to manage: loaded, and waiting for a word.

On a slow host most of ``swarm init`` was a process that loads its modules. A host in no cluster
has it loaded beforehand; whoever makes a manager of the host wakes it, and a host that becomes a
worker ends it.

Be aware: it holds neither store nor port, so there is nothing to end before a store is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

SOCKET: Final = "manager.standby"
"""In the run directory; root's alone."""
_WORD: Final = b"begin"
_LATE: Final = (
    "cryptography.hazmat.backends.openssl.backend",
    "encodings.idna",
    "meshnet_control.store.sqlite",
)
"""Modules that are else imported when a key is made, a host is reached, a store is opened."""


def load() -> None:
    """Load what the beginning of a node needs and nothing before it. Blocks shortly."""
    for name in _LATE:
        importlib.import_module(name)


class Standby:
    """Who waits; a context.

    Be aware: look at what is waited for once more after entering. Who wrote it just before found
    nobody here to wake.

    Args:
        run_dir: where the socket is made.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / SOCKET
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def __enter__(self) -> Self:
        """Be there.

        Raises:
            OSError: the socket cannot be made.
        """
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._ear.bind(str(self._path))
        finally:
            os.umask(before)
        return self

    def __exit__(self, *_: object) -> None:
        """Be there no more."""
        self._path.unlink(missing_ok=True)
        self._ear.close()

    async def woken(self) -> None:
        """Until somebody wakes us."""
        await asyncio.get_running_loop().sock_recv(self._ear, len(_WORD))


def waits(run_dir: Path) -> bool:
    """Whether one is there and waits; a socket that a killed one left does not count."""
    with _to(run_dir) as mouth:
        return mouth is not None


def wake(run_dir: Path) -> bool:
    """Have one that waits begin; whether there was one."""
    with _to(run_dir) as mouth:
        if mouth is None:
            return False
        with contextlib.suppress(BlockingIOError):  # it has that word already
            mouth.send(_WORD)
        return True


@contextlib.contextmanager
def _to(run_dir: Path) -> Iterator[socket.socket | None]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as mouth:
        try:
            mouth.connect(str(run_dir / SOCKET))
        except OSError:
            yield None
        else:
            yield mouth
