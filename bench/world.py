"""Whole clusters of some sizes on a virtual clock (``tests/sim``): what their lives take and cost.

Managers, agents, gossip and data planes are the product's own; engines, kernels and the network are
in memory. Every figure is a count or of the virtual clock, and says nothing of this machine.
"""

from __future__ import annotations

import importlib
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from bench.rounds import Goal, Line

SIZES: Final = (10, 30, 100)
WHOLE: Final = 4
"""Nodes that plan for a kernel; the others know and say the same."""
_TESTS: Final = Path(__file__).parents[1] / "tests"
_GOALS: Final = {
    "deployed": (3.0, "s"),
    "changed": (2.0, "s"),
    "commits of one change": (4.0, ""),
    "changes to a kernel of another host": (24.0, ""),
    "gossip, bytes a second and node": (5000.0, "B/s"),
    "control, bytes a second and node": (20.0, "B/s"),
    "a host's loss is known": (4.0, "s"),
    "one more node": (5.0, "s"),
}


def measure() -> list[Line]:
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        lives = dict(zip(SIZES, pool.map(_life, SIZES), strict=True))
    return [
        Line(
            f"whole cluster of {size} nodes, simulated: {what}",
            Goal(limit, at_least=False, unit=unit),
            [figures[what]],
            unit=unit,
        )
        for size, figures in lives.items()
        for what, (limit, unit) in _GOALS.items()
    ]


def _life(size: int) -> dict[str, float]:
    for folder in ("sim", "support"):
        sys.path.insert(0, str(_TESTS / folder))
    world = importlib.import_module("simulated_world")
    figures = importlib.import_module("world_figures")
    found: dict[str, float] = world.play(figures.life, size, whole=WHOLE)
    return found
