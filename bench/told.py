"""What it costs a node to take in what the managers say: all at first, then one service at a time.

The node is told of all: a thousand services and a hundred nodes, three and ten times as many.
Costs are processor time; the exponent says how they grow with the cluster.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

from bench.rounds import Goal, Line
from bench.scale_cluster import NODES, SERVICES
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.node_state import NodeState, merge

SIZES = (1, 3, 10)
ROUNDS = 25


def measure() -> list[Line]:
    """The rows of the table."""
    costs = [_costs(size) for size in SIZES]
    return [
        _line("the first message, of everything", 50.0, [whole for whole, _ in costs]),
        _line("a message of one service", 1.0, [one for _, one in costs]),
    ]


def _line(what: str, goal: float, costs: Sequence[float]) -> Line:
    told = ", ".join(f"{cost:.2g} at {size}x" for size, cost in zip(SIZES, costs, strict=True))
    exponent = math.log(costs[-1] / costs[0]) / math.log(SIZES[-1] / SIZES[0])
    note = f"{told}; exponent {exponent:.2f}"
    most = Goal(goal, at_least=False, unit="ms")
    return Line(f"node: {what}, into its state", most, [costs[-1]], unit="ms", note=note)


def _costs(size: int) -> tuple[float, float]:
    """Milliseconds, the medians: a full message, and one of a service."""
    services = [_service(number) for number in range(SERVICES * size)]
    nodes = [
        pb.NodeView(id=f"node{number:021}", addr=f"10.200.{number >> 8}.{number & 255}")
        for number in range(NODES * size)
    ]
    wire = pb.Assignments(full=True, services=services, nodes=nodes).SerializeToString()
    whole: list[float] = []
    one: list[float] = []
    for _ in range(5):
        message = pb.Assignments.FromString(wire)
        began = time.process_time()
        state = merge(None, message)
        whole.append(time.process_time() - began)
    state = NodeState.of(pb.Assignments.FromString(wire))
    for number in range(ROUNDS):
        message = pb.Assignments(version=number, services=[_service(7 * number)])
        began = time.process_time()
        state = merge(state, message)
        one.append(time.process_time() - began)
    return statistics.median(whole) * 1e3, statistics.median(one) * 1e3


def _service(number: int) -> pb.ServiceView:
    made = pb.ServiceView(id=f"service{number:018}", name=f"s{number}", endpoint_mode="vip")
    made.virtual_ips.add(network_id=f"net{number % 20:022}", addr="10.0.0.9/14")
    return made
