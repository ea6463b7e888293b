"""New connections per second to a service's VIP, against straight to one of its tasks.

The client is a container on one host, the four tasks are on another, so both ways cross the same
overlay; all of it is on one core.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from bench import fabric, ours
from bench.bed import Bed
from bench.fabric import Place
from bench.rounds import Goal, Line, interleave

TASKS = tuple(Place(f"t{n}", 2, f"10.0.1.{10 + n}") for n in range(4))
CLIENT = Place("c", 1, "10.0.1.9")
VIP = "10.0.1.2"
PORT = 9000


def measure() -> list[Line]:
    cluster = ours.Cluster(
        ours.network("10.0.1.0/24"),
        (CLIENT, *TASKS),
        backends=[task.name for task in TASKS],
        vip=IPv4Address(VIP),
    )
    with Bed("v") as bed:
        fabric.lan(bed, 2)
        with ours.realised(bed, cluster):
            for task in TASKS:
                bed.serve(task.name, PORT)
            seen = interleave(
                {
                    "vip": lambda: bed.rate("c", VIP, PORT, 0.5),
                    "direct": lambda: bed.rate("c", TASKS[0].address, PORT, 0.5),
                },
                rounds=15,
            )
    return [
        Line(
            "new connections through a VIP, against direct to the task",
            Goal(0.70, at_least=True),
            seen["vip"],
            seen["direct"],
            "conn/s",
        )
    ]
