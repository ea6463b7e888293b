"""Memory and processor time of meshnet's processes at rest, with 20 tasks on the host.

A lab of one host, so that all tasks are on it: manager, worker and data plane together, which is
the most a host can have. Each window is six seconds, five in a row, half a minute in all.

Be aware: the first row is the sum of the processes' RSS: a page that four of them share counts four
times, against us. The second counts it once (PSS): what the host would have back without us.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from bench.create20 import LIMIT_S, REPLICAS, Api, spec
from bench.engines import Engines, engines, until
from bench.rounds import BenchError, Goal, Line

PROCESSES = ("meshnetd", "meshnet-manager", "meshnet-resolver", "meshnet-supervisor")
WINDOW_S = 6.0
WINDOWS = 5
SETTLE_S = 10.0
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def memory(pids: Sequence[int]) -> float:
    """RSS of processes together, in MB of 10^6 bytes (proc(5), statm)."""
    pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return sum(pages) * _PAGE / 1e6


def own_memory(pids: Sequence[int]) -> float:
    """PSS of processes together, in MB of 10^6 bytes (proc(5), smaps_rollup, kB)."""
    texts = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(text.partition("\nPss:")[2].split()[0]) for text in texts) * 1024 / 1e6


def cpu(pids: Sequence[int]) -> float:
    """Seconds of processor time used so far, user and system, children waited for included."""
    used = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += sum(int(word) for word in words[11:15])
    return used / _TICK


def at_rest(lab: Engines, settle_s: float = SETTLE_S) -> tuple[list[int], list[float], list[float]]:
    """meshnet's processes on h1, and of each window their memory (MB) and load (% of a core)."""
    pids = [pid for name in PROCESSES for pid in lab.pids("h1", name)]
    if len(pids) < len(PROCESSES):
        raise BenchError(f"{len(pids)} of {', '.join(PROCESSES)} run")
    time.sleep(settle_s)
    sizes, loads = [], []
    for _ in range(WINDOWS):
        before = cpu(pids)
        time.sleep(WINDOW_S)
        loads.append((cpu(pids) - before) / WINDOW_S * 100)
        sizes.append(memory(pids))
        print(f"    {sizes[-1]:.0f} MB   {loads[-1]:.2f} %")
    return pids, sizes, loads


def measure() -> list[Line]:
    with engines("mbrest", 1, engine_only=False) as lab:
        lab.swarm()
        api = Api(lab.socket("h1"))
        body = {"Name": "bench", "Driver": "overlay", "Attachable": True}
        network = api.call("POST", "/networks/create", body)["Id"]
        api.call("POST", "/services/create", spec("many", network, REPLICAS, 8080))
        until("20 tasks RUNNING", lambda: running(api) == REPLICAS, LIMIT_S, every=0.2)
        pids, sizes, loads = at_rest(lab)
        own = [own_memory(pids) for _ in range(WINDOWS)]
    return [
        Line(
            "memory of all processes of a manager at rest, 20 tasks on the host",
            Goal(150, at_least=False, unit="MB"),
            sizes,
            unit="MB",
        ),
        Line("the same, pages that they share counted once (PSS)", None, own, unit="MB"),
        Line(
            "processor time of all four at rest",
            Goal(2, at_least=False, unit="% of a core"),
            loads,
            unit="% of a core",
        ),
    ]


def running(api: Api) -> int:
    tasks = api.call("GET", "/tasks") or []
    return sum(task["Status"]["State"] == "running" for task in tasks)
