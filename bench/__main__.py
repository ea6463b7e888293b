"""``python -m bench [names…]``: measure, say ratios and verdicts, write docs/benchmarks.md.

Exit status: 0 when every goal was reached, 1 when one was missed or could not be measured.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import time

from bench.report import row, write
from bench.rounds import BenchError, Line
from meshnet.errors import MeshnetError

BENCHMARKS = {
    "overlay": "throughput from container to container across hosts",
    "vip": "new connections per second through a VIP",
    "policies": "new connections per second by each way to choose a backend",
    "mesh": "new connections and throughput through a published port",
    "dns": "DNS queries per second on one core",
    "lab_up": "seconds of meshnet lab up",
    "create20": "seconds of service create --replicas 20",
    "rest": "memory and CPU at rest with 20 tasks on the host",
    "front": "what going through docker.sock costs",
    "many": "500 containers on one host",
    "gossip": "a thousand nodes on a virtual clock: traffic, deaths, changes, loss, partition",
    "world": "whole clusters on a virtual clock: what a change, a loss, a join and rest cost",
    "scale": "a node of 1 000 to 10 000 services: what a change costs it",
    "told": "a node of 1 000 to 10 000 services: what it costs to hear of one",
    "serf": "twenty processes of our gossip, and twenty of serf",
    "vm": "us and real Docker Swarm on virtual machines (hours without KVM; only when named)",
    "vm_forming": "the same, init and join alone (many minutes without KVM; only when named)",
    "managers": "three managers: the leader lost, memory, migration, against one",
    "scale_manager": "a manager of 1 000 to 10 000 services: decisions, placement, agents, lists",
    "chaos": "requests lost while everything is taken away once",
}
ON_MACHINES = {"vm", "vm_forming"}
"""Played only when they are named."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--rounds", type=int, help="rounds of vm, vm_forming (5)")
    parser.add_argument("--dry", action="store_true", help="do not write docs/benchmarks.md")
    asked = parser.parse_args()
    if unknown := set(asked.names) - BENCHMARKS.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        parser.error("must be run as root: it makes network namespaces")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that finally blocks run
    done: dict[str, list[Line]] = {}
    failed: list[str] = []
    rounds = {} if asked.rounds is None else {"rounds": asked.rounds}
    if rounds and (not set(asked.names) <= ON_MACHINES or not asked.names or asked.rounds < 1):
        parser.error("--rounds is for vm and vm_forming, and at least 1")
    for name in asked.names or [name for name in BENCHMARKS if name not in ON_MACHINES]:
        print(f"{name}: {BENCHMARKS[name]}", flush=True)
        began = time.monotonic()
        try:
            done[name] = importlib.import_module(f"bench.{name}").measure(**rounds)
        except* (BenchError, MeshnetError, ImportError) as errors:
            failed.append(name)
            print(f"    not measured: {'; '.join(map(str, errors.exceptions))}")
        if name not in done:
            continue
        for line in done[name]:
            print("    " + row(line).strip(), flush=True)
        print(f"    ({time.monotonic() - began:.0f} s)")
        if not asked.dry:
            write({name: done[name]}, list(BENCHMARKS))
    missed = [line.what for lines in done.values() for line in lines if line.holds is False]
    if missed:
        print(f"goals missed: {'; '.join(missed)}")
    if failed:
        print(f"not measured: {', '.join(failed)}")
    return 1 if missed or failed else 0


if __name__ == "__main__":
    sys.exit(main())
