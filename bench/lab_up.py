"""Seconds of ``meshnet lab up`` with three hosts, from nothing to three hosts serving.

The command itself is run, as a user runs it; taking the lab down is not counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.rounds import BenchError, Goal, Line

NAME = "mbup"
ROUNDS = 5
MESHNET = (sys.executable, "-c", "from meshnet_control.cli.main import main; main()", "lab")


def meshnet_lab(*argv: str) -> float:
    """Run a lab command; seconds it took."""
    began = time.monotonic()
    done = subprocess.run(
        [*MESHNET, *argv],
        env=os.environ | {"MESHNET_LAB": NAME},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise BenchError(f"meshnet lab {' '.join(argv)}: {done.stderr.strip()[-500:]}")
    return time.monotonic() - began


def measure() -> list[Line]:
    seconds = []
    try:
        for _ in range(ROUNDS):
            seconds.append(meshnet_lab("up", "--hosts", "3"))
            print(f"    {seconds[-1]:.2f} s")
            meshnet_lab("down")
    finally:
        meshnet_lab("down")
    return [
        Line("`meshnet lab up`, 3 hosts", Goal(20, at_least=False, unit="s"), seconds, unit="s")
    ]
