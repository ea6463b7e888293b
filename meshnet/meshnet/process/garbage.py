"""Python's collector of cycles in a process that holds much for long. Touches the collector.

A collection of everything stops all threads: for 150 ms with ten thousand tasks in memory, for
50 ms for the sake of meshnetd's modules alone. Nearly all that such a process drops is no cycle
and is gone at once; the cycles of exceptions are young.

    young objects ── every 20 000 ──> some ── every 50th ──> all the others ── every 1000th ──> all

What is there and stays is put aside for good (``gc.freeze``), and no collection looks at it.
"""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (20_000, 50, 1000)


def rare() -> None:
    """Collect more rarely from now on."""
    gc.set_threshold(*THRESHOLDS)


def put_aside() -> None:
    """Never look at what there is now."""
    gc.collect()
    gc.freeze()
