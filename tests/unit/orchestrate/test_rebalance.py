"""The fewest moves that spread services evenly: a law over clusters, and what is left alone."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.rebalance import moves, settled
from meshnet_control.orchestrate.store_view import Put, StoreView
from meshnet_control.orchestrate.tasks import new_task

NOW = 1_700_000_000.0


def node(name, *, availability="active", state="ready", memory=0):
    made = pb.Node(id=name)
    made.spec.role, made.spec.availability = "worker", availability
    made.description.hostname = name
    made.description.resources.memory_bytes = memory
    made.status.state = state
    return made


def service(name, replicas, **more):
    made = pb.Service(id=name, spec_version=1)
    made.spec.name = name
    made.spec.mode.replicated.replicas = replicas
    for key, value in more.items():
        getattr(made.spec.task_template.placement, key).extend(value)
    return made


def cluster(services, nodes, where):
    """``where``: service -> the node of each of its slots; all of them run."""
    rng = random.Random(1)
    view = StoreView.of([pb.Cluster(id="c"), *nodes, *services])
    for each in services:
        for slot, name in enumerate(where[each.id], 1):
            task = new_task(each, slot, view, NOW, rng)
            task.node_id, task.status.state = name, pb.TASK_STATE_RUNNING
            task.desired_state = pb.TASK_STATE_RUNNING
            view = view.apply([Put(task)])
    return view


NODES = ["n0", "n1", "n2"]


def plan(where, nodes=None, **more):
    view = cluster([service("web", len(where), **more)], nodes or map(node, NODES), {"web": where})
    return [(move.task.slot, move.task.node_id, move.to) for move in moves(view, NOW)]


@given(st.lists(st.sampled_from(NODES), min_size=1, max_size=12), st.integers(3, 5))
def test_the_moves_are_the_fewest_and_leave_it_even(where, number):
    nodes = [node(f"n{n}") for n in range(number)]
    found = plan(where, nodes)
    counts = Counter(where)
    for _, source, to in found:
        counts[source] -= 1
        counts[to] += 1
    every = [counts[each.id] for each in nodes]
    assert max(every) - min(every) <= 1
    low, rest = divmod(len(where), number)
    before = sorted((Counter(where)[each.id] for each in nodes), reverse=True)
    wanted = [low + 1] * rest + [low] * (number - rest)
    assert len(found) == sum(max(0, had - has) for had, has in zip(before, wanted, strict=True))
    assert len({slot for slot, _, _ in found}) == len(found), "nobody is moved twice"


def test_a_node_that_joined_gets_what_is_its_share():
    assert plan(["n0", "n0", "n0", "n1", "n1", "n1"]) == [(6, "n1", "n2"), (3, "n0", "n2")]
    assert plan(["n0", "n1", "n2", "n0"]) == []


@pytest.mark.parametrize(
    "other",
    [node("n1", availability="pause"), node("n1", availability="drain"), node("n1", state="down")],
    ids=["paused", "drained", "down"],
)
def test_nothing_goes_where_nothing_new_may_be(other):
    assert plan(["n0"] * 4, [node("n0"), other]) == []


def test_constraints_and_the_most_of_a_node_hold():
    assert plan(["n0"] * 4, constraints=["node.hostname!=n1"]) == [(4, "n0", "n2"), (3, "n0", "n2")]


def test_preferences_are_left_alone():
    spread = pb.PlacementPreference()
    spread.spread.spread_descriptor = "node.labels.zone"
    assert plan(["n0"] * 4, preferences=[spread]) == []


@pytest.mark.parametrize("state", ["updating", "paused", "rollback_started", "rollback_paused"])
def test_a_service_in_an_update_is_left_alone(state):
    view = cluster([service("web", 4)], map(node, NODES), {"web": ["n0"] * 4})
    busy = service("web", 4)
    busy.update_status.state = state
    assert moves(view.apply([Put(busy)]), NOW) == []


def test_a_service_that_does_not_run_whole_is_left_alone():
    view = cluster([service("web", 5)], map(node, NODES), {"web": ["n0"] * 4})
    assert not settled(view.services["web"], view)
    assert moves(view, NOW) == []
    everywhere = service("all", 1)
    getattr(everywhere.spec.mode, "global").SetInParent()
    view = cluster([everywhere], map(node, NODES), {"all": ["n0"] * 4})
    assert moves(view, NOW) == []


def test_a_task_that_is_moved_is_to_shut_down_and_nothing_else_of_it_changes():
    view = cluster([service("web", 4)], map(node, NODES), {"web": ["n0"] * 4})
    (move, *_) = moves(view, NOW)
    written = move.ended
    assert written.desired_state == pb.TASK_STATE_SHUTDOWN
    assert (written.id, written.node_id) == (move.task.id, "n0")
