"""Endpoints that are known by node are what a walk over all of them finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnet.model.ids import NodeId, TaskId
from meshnet.model.placed import Placed, tasks_on
from meshnet.model.snapshot import Endpoint

NODES = [NodeId(f"n{i}") for i in range(3)]
TASKS = [TaskId(f"t{i}") for i in range(6)]
Endpoints = st.dictionaries(st.sampled_from(TASKS), st.sampled_from(NODES)).map(
    lambda where: {task: Endpoint(task, task, node, None, {}) for task, node in where.items()}
)
Changes = st.lists(st.tuples(Endpoints, st.frozensets(st.sampled_from(TASKS))), max_size=5)


@given(Endpoints, Changes)
def test_tasks_are_found_by_node_after_any_changes(first, changes):
    plain, placed = dict(first), Placed(first)
    for put, drop in changes:
        before, was = placed, dict(plain)
        plain = {task: each for task, each in plain.items() if task not in drop} | put
        placed = placed.placed(put, drop)
        assert placed == plain
        assert (placed is before) == (plain == was)
        assert placed.on == Placed(plain).on
        assert before == was, "who holds the one before keeps it"
        for some in ({NODES[0]}, {*NODES[1:]}, set()):
            assert tasks_on(placed, some) == tasks_on(plain, some)
            assert tasks_on(before, some) == tasks_on(was, some)
