"""Thirty nodes, whole: the laws of the small ones, and what their life costs.

Four of them plan for their kernels; all gossip, run tasks and know everything. More of them:
``./dev bench world``.
"""

from __future__ import annotations

from simulated_world import play
from world_figures import life

LIMITS = {
    "deployed": 3.0,
    "changed": 2.0,
    "a host's loss is known": 4.0,
    "one more node": 5.0,
    "commits of one change": 4,
    "changes to a kernel of another host": 24,
    "gossip, bytes a second and node": 5_000,
    "control, bytes a second and node": 20,
}
"""Seconds, virtual, and counts."""


def test_the_life_of_thirty_nodes() -> None:
    figures = play(life, 30, whole=4)
    assert figures.keys() == LIMITS.keys()
    for what, limit in LIMITS.items():
        assert figures[what] <= limit, what
