"""New connections per second through a VIP by each way to choose a backend, against strict turns.

As ``bench.vip``: a client on one host, four tasks on another, one core. Five short rounds.
"""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Address

from bench import fabric, ours
from bench.bed import Bed
from bench.rounds import Goal, Line, interleave
from bench.vip import CLIENT, PORT, TASKS, VIP
from meshnet.model.policy import Policy

POLICIES = {
    f"10.0.1.{200 + at}": policy
    for at, policy in enumerate(
        (
            Policy("random"),
            Policy("source-hash"),
            Policy("sticky", sticky_s=600),
            Policy("weighted", weights=(("h2", 3),)),
            Policy("nearest"),
        )
    )
}
ROUNDS, SECONDS = 5, 0.4


def measure() -> list[Line]:
    cluster = ours.Cluster(
        ours.network("10.0.1.0/24"),
        (CLIENT, *TASKS),
        backends=[task.name for task in TASKS],
        vip=IPv4Address(VIP),
        policies={IPv4Address(vip): policy for vip, policy in POLICIES.items()},
    )
    with Bed("q") as bed:
        fabric.lan(bed, 2)
        with ours.realised(bed, cluster):
            for task in TASKS:
                bed.serve(task.name, PORT)
            rates = {"rr": partial(bed.rate, "c", VIP, PORT, SECONDS)}
            for vip, policy in POLICIES.items():
                rates[policy.kind] = partial(bed.rate, "c", vip, PORT, SECONDS)
            seen = interleave(rates, rounds=ROUNDS)
    return [
        Line(
            f"new connections through a VIP by {policy.kind}, against strict turns",
            Goal(0.85, at_least=True),
            seen[policy.kind],
            seen["rr"],
            "conn/s",
        )
        for policy in POLICIES.values()
    ]
