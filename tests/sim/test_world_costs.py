"""What a cluster pays: nothing much at rest, and for a change what follows from the change.

Counts alone, of the virtual clock: messages, bytes, commits, changes to kernels. Two sizes are
compared wherever a cost must not follow the size; a bound is what was counted and a little more.
"""

from __future__ import annotations

import asyncio

from simulated_world import Cluster, play
from world_figures import Meter, Paid

from meshnet_control.api import control_pb2 as pb

REST_S = 20.0


async def settled(c: Cluster, services: int, replicas: int = 2) -> str:
    """Services on a few networks; one of them."""
    networks = [await c.network(f"net{n}") for n in range(3)]
    found = ""
    for number in range(services):
        found = await c.service(f"s{number}", replicas, networks[number % 3])
    await c.converged()
    await c.quiet()
    await asyncio.sleep(3)
    return found


async def rest(c: Cluster) -> Paid:
    await settled(c, 6)
    await asyncio.sleep(5)
    meter = Meter(c)
    await asyncio.sleep(REST_S)
    return meter.read()


async def grown(c: Cluster) -> Paid:
    """One task more of one service, after which everything holds still again."""
    return await _grown(c, 4)


async def grown_among_many(c: Cluster) -> Paid:
    """The same among four times as many services."""
    return await _grown(c, 16)


async def _grown(c: Cluster, services: int) -> Paid:
    service = await settled(c, services)
    meter = Meter(c)
    await c.change(service, lambda spec: _replicas(spec, 3))
    await c.converged()
    await c.quiet()
    await asyncio.sleep(2)
    return meter.read()


def _replicas(spec: pb.ServiceSpec, number: int) -> None:
    spec.mode.replicated.replicas = number


def test_a_cluster_at_rest_writes_nothing_and_says_little() -> None:
    for nodes in (5, 15):
        paid = play(rest, nodes, whole=3)
        assert paid.commits == 0, "of the store"
        assert not paid.made, "nothing in any kernel is changed"
        assert not paid.snapshots
        assert paid.gossip < 2_000, nodes
        assert paid.control < 20, "bytes of a heartbeat a second and of its answer, without gRPC's"
        assert paid.calls <= 2.1 * nodes * REST_S


def test_one_more_task_costs_the_others_the_same_among_more_services() -> None:
    few, many = play(grown, 5), play(grown_among_many, 5)
    assert few.containers.total() == many.containers.total() == 1
    for paid in (few, many):
        assert paid.commits <= 4, "assigned, and what its node says of it"
        assert paid.calls <= 5 * 5 * 2 + 12
        assert paid.others(paid.made) <= 24, "changes: rows, VIP, port and zone of one endpoint"
        assert paid.others(paid.read) <= 48, "namespaces: those that can choose it, a Snapshot"
        assert max(paid.snapshots.values()) <= 8
    assert many.call_bytes <= few.call_bytes * 1.3
    assert many.gossip_bytes <= few.gossip_bytes * 1.3


def test_one_more_task_costs_the_others_the_same_among_more_nodes() -> None:
    few, many = play(grown, 5), play(grown, 15, whole=5)
    assert many.commits <= few.commits + 1, "what a node says of it, in one or two"
    assert many.calls - 15 * 2 * 2 <= few.calls - 5 * 2 * 2 + 4, "heartbeats aside"
    assert many.others(many.made) <= few.others(few.made) + 4
    assert max(many.snapshots.values()) <= max(few.snapshots.values()) + 4
    assert many.gossip_bytes / 15 <= few.gossip_bytes / 5 * 1.5
