"""The FIFO that a gated container reads (see ``gate``): made before it starts, written to once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

_RETRY_S: Final = 0.005
_OPEN_S: Final = 30.0


def make(path: Path) -> None:
    """Makes the FIFO; one that is there already is kept. Readable by any user of the container."""
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path)
    path.chmod(0o644)


async def open_gate(path: Path, passing: Callable[[], None]) -> None:
    """Lets the program start; returns once its shell has got the line.

    Args:
        path: the FIFO.
        passing: called when the shell waits at the gate, before the line is written.

    Raises:
        TimeoutError: nobody came to read within 30 s (the container ended meanwhile).
        OSError: the FIFO cannot be opened now, or ``passing`` failed; the gate is shut.
    """
    try:
        async with asyncio.timeout(_OPEN_S):
            while True:
                if knock(path, passing):
                    return
                await asyncio.sleep(_RETRY_S)
    except TimeoutError as error:
        raise TimeoutError(f"no program waits at its gate for {_OPEN_S:.0f} s") from error


def knock(path: Path, passing: Callable[[], None] = lambda: None) -> bool:
    """Writes the line if a shell waits for it; whether one does.

    Args:
        path: the FIFO.
        passing: called before the line is written.

    Raises:
        OSError: the FIFO cannot be opened now, or ``passing`` failed; the gate is shut.
    """
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # no reader (fifo(7)): not there yet, or through
            return False
        raise
    try:
        passing()
        os.write(pipe, b"\n")
    except BrokenPipeError:  # it ended just now
        return False
    finally:
        os.close(pipe)
    return True
