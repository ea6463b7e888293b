"""What gossip costs and how fast it is, at ten, a hundred and a thousand nodes."""

from __future__ import annotations

import statistics

import pytest
from gossip_figures import (
    churn_s,
    death_s,
    deaths_beside_a_stalled_one,
    evicted_s,
    healed_s,
    p99,
    population,
    rest_bytes_per_s,
    spread_s,
)
from simulated_gossip import Cluster

STEADY_BYTES_PER_S = 5_000
"""Most that a node may send at rest: datagrams and streams."""
RECORDS = 10


@pytest.mark.parametrize("size", [22, 24, 50])
def test_nodes_that_joined_each_other_come_to_rest(size: int) -> None:
    """More owners than a datagram can name are no reason to send everything again."""
    c = Cluster(size)
    for number in range(size):
        for task in range(RECORDS):
            c.engine(number).set_record(f"ep/{task}", bytes([number % 256]) * 250, c.now)
    c.run(30, until=c.agree)
    assert c.agree()
    c.run(5)
    before = c.bytes
    c.run(5)
    assert (c.bytes - before) / 5 / size < STEADY_BYTES_PER_S


@pytest.mark.parametrize("size", [10, 100])
def test_at_rest_a_node_sends_the_same_whatever_the_number_of_nodes(size: int) -> None:
    assert rest_bytes_per_s(size, 16, records=RECORDS) < STEADY_BYTES_PER_S


@pytest.mark.parametrize(("size", "changes", "limit_s"), [(10, 100, 0.3), (100, 30, 0.6)])
def test_a_change_is_everywhere_soon(size: int, changes: int, limit_s: float) -> None:
    assert p99(spread_s(population(size), changes)) <= limit_s


def test_a_thousand_nodes_at_rest_and_when_something_changes() -> None:
    size = 1000
    c = population(size, settle_s=0.5)
    before = c.bytes
    c.run(1)
    assert (c.bytes - before) / size < STEADY_BYTES_PER_S
    before = c.bytes
    assert p99(spread_s(c, 1)) <= 1.2
    assert (c.bytes - before) / size < 5_000, "one change costs no node more than a second of rest"


@pytest.mark.parametrize(("size", "kills", "limit_s"), [(10, 21, 1.5), (100, 3, 2.0)])
def test_a_dead_node_is_noticed_soon(size: int, kills: int, limit_s: float) -> None:
    assert statistics.median(death_s(size, seed) for seed in range(kills)) <= limit_s


def test_what_is_said_while_nodes_come_and_go_is_everywhere_soon() -> None:
    times = churn_s(25, 20)
    assert len(times) > 150
    assert p99(times) <= 2.0


def test_nobody_is_evicted_for_long_where_packets_get_lost() -> None:
    """One of ten, for a minute; a hundred nodes for ten minutes: ``./dev bench gossip``."""
    assert evicted_s(25, 60) < 2.0


def test_a_process_that_stalls_again_and_again_buries_nobody() -> None:
    assert deaths_beside_a_stalled_one(10, 60) == 0
    assert deaths_beside_a_stalled_one(25, 30) == 0


def test_after_a_partition_in_halves_all_are_equal_soon() -> None:
    assert healed_s(20) <= 3.0
