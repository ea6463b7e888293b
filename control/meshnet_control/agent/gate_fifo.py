"""The FIFO that a gated container reads (see ``gate``): made before it starts, written to once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from meshnet_control.agent import gate

_RETRY_S: Final = 0.005
_OPEN_S: Final = 30.0


def make(path: Path) -> None:
    """Makes the FIFO; one that is there already is kept. Readable by any user of the container."""
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path)
    path.chmod(0o644)


def passed(pid: int) -> bool:
    """Whether the first process of a gated container is past the gate: no longer our shell.

    Args:
        pid: of a container that has been running for a while.

    Raises:
        OSError: it cannot be seen now.
    """
    there = Path(f"/proc/{pid}/exe").stat()
    shell = gate.BUSYBOX.stat()
    return (there.st_dev, there.st_ino) != (shell.st_dev, shell.st_ino)


async def open_gate(path: Path) -> None:
    """Lets the program start; returns once its shell has read the line's FIFO open.

    Raises:
        TimeoutError: nobody came to read within 30 s (the container ended meanwhile).
    """
    async with asyncio.timeout(_OPEN_S):
        while True:
            try:
                pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # ENXIO: no reader yet (fifo(7))
                    raise
            else:
                os.write(pipe, b"\n")
                os.close(pipe)
                return
            await asyncio.sleep(_RETRY_S)
