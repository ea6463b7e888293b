"""Us and real Docker Swarm on two virtual machines, ``swarm init`` and ``swarm join`` alone.

Rounds as of ``bench/vm.py``, which take minutes instead of a quarter of an hour.
"""

from __future__ import annotations

from bench import vm
from bench.rounds import Line
from bench.vm import Cluster


def measure(rounds: int = vm.ROUNDS) -> list[Line]:
    """So many rounds, the order turned in each.

    Raises:
        BenchError: not even one round could be played.
    """
    return vm.measure(rounds, rows=vm.FORMING, part=Cluster.form)
