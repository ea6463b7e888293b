"""Milliseconds of the control plane's calls, and each process's memory, on one manager at rest.

    python -m bench.calls

A lab of one host with 20 tasks. ``service ls`` is what the CLI asks for: services with their
status, one request; ``service create`` is of no replicas, so that nothing but the call is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from bench.create20 import LIMIT_S, REPLICAS, Api, spec
from bench.engines import engines, until
from bench.rest import PROCESSES, SETTLE_S, memory, own_memory, running

CALLS = 200


def milliseconds(call: Callable[[int], object], times: int = CALLS) -> list[float]:
    """How long each of so many calls took."""
    took = []
    for number in range(times):
        began = time.perf_counter()
        call(number)
        took.append((time.perf_counter() - began) * 1e3)
    return took


def main() -> None:
    with engines("mbcall", 1, engine_only=False) as lab:
        lab.swarm()
        api = Api(lab.socket("h1"))
        body = {"Name": "bench", "Driver": "overlay", "Attachable": True}
        network = api.call("POST", "/networks/create", body)["Id"]
        api.call("POST", "/services/create", spec("many", network, REPLICAS, 8080))
        until("20 tasks RUNNING", lambda: running(api) == REPLICAS, LIMIT_S, every=0.2)
        time.sleep(SETTLE_S)
        total = shares = 0.0
        for name in PROCESSES:
            pids = lab.pids("h1", name)
            size, share = memory(pids), own_memory(pids)
            total, shares = total + size, shares + share
            print(f"{name}: {size:.1f} MB, shared pages shared out {share:.1f} MB")
        print(f"all: {total:.1f} MB, shared pages shared out {shares:.1f} MB")
        for what, call in (
            ("ls", lambda _: api.call("GET", "/services?status=true")),
            (
                "create",
                lambda number: api.call("POST", "/services/create", spec(f"s{number}", network, 0)),
            ),
        ):
            took = sorted(milliseconds(call))
            print(
                f"service {what}: median {statistics.median(took):.1f} ms, "
                f"19 of 20 within {took[len(took) * 19 // 20]:.1f} ms, longest {took[-1]:.1f} ms"
            )


if __name__ == "__main__":
    main()
