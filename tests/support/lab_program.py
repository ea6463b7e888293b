"""A program that serves on a host of a lab while a test goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshnet_control.lab.play import Play


@contextmanager
def program_on(play: Play, host: str, argv: list[str], log: Path) -> Iterator[None]:
    """Run it there until the block ends; what it complains of is in ``log``."""
    # nsenter's child would outlive nsenter: it is told of its parent's end.
    words = play.lab.command(host, ["setpriv", "--pdeathsig", "TERM", *argv])
    with log.open("wb") as complaints:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=complaints)
    assert process.stdout is not None
    try:
        yield
    finally:
        process.terminate()
        process.stdout.read()  # ends with the last who could write there
        process.stdout.close()
        process.wait()
