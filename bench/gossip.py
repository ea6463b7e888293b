"""Gossip at 10, 100 and 1 000 nodes: the engines that run in meshnetd, on a network in memory.

The clock is virtual, so the figures say what the protocol does where machines and networks keep up:
0.5 to 4.5 ms from node to node, no loss unless said. Bytes are of sealed datagrams and frames,
without the headers of IP, UDP and TCP. A node has ten records of 250 bytes, of 1 000 nodes one.

Be aware: it takes some six minutes of one core.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.rounds import Goal, Line

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "sim"))

import gossip_figures as figures

STEADY_BYTES_PER_S = 5_000
_REST_S = {10: 60.0, 100: 30.0, 1000: 4.0}
_RECORDS = {10: 10, 100: 10, 1000: 1}
_DEATHS = {10: (60, 1.5), 100: (15, 2.0), 1000: (3, 3.0)}
_CHANGES = {10: (500, 0.3), 100: (100, 0.6), 1000: (10, 1.2)}
_SOON = "gossip, 25 nodes, one killed every 2 s: a change until all have it, 99 of 100 within"
_LOSS = "gossip, 100 nodes, one packet of ten lost for 10 min: longest that one was held dead"
_STALLS = "gossip, 25 nodes, one stalled for 5 s again and again for 10 min: others held dead"
_HALVES = "gossip, 100 nodes, 60 s in halves, both changing: until all are equal"


def measure() -> list[Line]:
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        evicted = pool.submit(figures.evicted_s, 100, 600.0)  # the longest first
        halves = pool.submit(figures.healed_s, 100)
        deaths = {
            size: [pool.submit(figures.death_s, size, seed) for seed in range(kills)]
            for size, (kills, _) in reversed(_DEATHS.items())
        }
        rest = {
            size: pool.submit(figures.rest_bytes_per_s, size, seconds, records=_RECORDS[size])
            for size, seconds in _REST_S.items()
        }
        spread = {n: pool.submit(_changes, n, many) for n, (many, _) in _CHANGES.items()}
        churn = pool.submit(figures.churn_s, 25, 120.0)
        stalls = pool.submit(figures.deaths_beside_a_stalled_one, 25, 600.0)
    lines = []
    for size, told in rest.items():
        what = f"gossip, {size} nodes: sent by a node at rest"
        lines.append(Line(what, _at_most(STEADY_BYTES_PER_S, "B/s"), [told.result()], unit="B/s"))
    for size, (_, limit_s) in _DEATHS.items():
        what = f"gossip, {size} nodes: a killed node until half of the others know"
        times = [each.result() for each in deaths[size]]
        lines.append(Line(what, _at_most(limit_s), times, unit="s"))
    for size, (many, limit_s) in _CHANGES.items():
        what = f"gossip, {size} nodes: a change until all have it, 99 of 100 within"
        times = [figures.p99(spread[size].result())]
        lines.append(Line(what, _at_most(limit_s), times, unit="s", note=f"of {many}"))
    times = churn.result()
    note = f"of {len(times)}"
    lines.append(Line(_SOON, _at_most(2.0), [figures.p99(times)], unit="s", note=note))
    lines.append(Line(_LOSS, _at_most(2.0), [evicted.result()], unit="s"))
    lines.append(Line(_STALLS, _at_most(0, "times"), [stalls.result()], unit="times"))
    lines.append(Line(_HALVES, _at_most(3.0), [halves.result()], unit="s"))
    return lines


def _changes(size: int, many: int) -> list[float]:
    return figures.spread_s(figures.population(size), many)


def _at_most(value: float, unit: str = "s") -> Goal:
    return Goal(value, at_least=False, unit=unit)
