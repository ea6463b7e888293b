"""New tasks: they go where the rules say, and cost what they are, not what the cluster is."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from bench.scale_cluster import NOW, service, settled
from hypothesis import example, given
from hypothesis import strategies as st
from visits import visits

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate import folds, room, schedule, slots
from meshnet_control.orchestrate.plan import Decision, Plan, decide
from meshnet_control.orchestrate.room import MANY_FAILURES, Demand, Room, refusal
from meshnet_control.orchestrate.store_view import Put, StoreView
from meshnet_control.store.store import Object

NEW, TASKS = 5, 10


ZONE = "node.labels.zone"


def _node(name: str, *, ready: bool, cpus: int, zone: str) -> pb.Node:
    made = pb.Node(id=name)
    made.spec.labels["zone"] = zone
    made.spec.availability = "active" if ready else "drain"
    made.description.resources.nano_cpus = cpus
    made.status.state = "ready"
    return made


def _task(name: str, of: str, state: pb.TaskState, cpus: int, on: str = "") -> pb.Task:
    made = pb.Task(id=name, service_id=of, node_id=on, desired_state=pb.TASK_STATE_RUNNING)
    made.spec.resources.reservations.nano_cpus = cpus
    made.status.state, made.status.timestamp.seconds = state, int(NOW)
    return made


NODES = st.lists(
    st.tuples(st.sampled_from([True, True, False]), st.integers(1, 6), st.sampled_from("ab")),
    max_size=6,
)
STATES = st.sampled_from([pb.TASK_STATE_RUNNING, pb.TASK_STATE_FAILED])
RUNNING = st.lists(st.tuples(st.sampled_from("xyz"), STATES, st.integers(0, 5)), max_size=40)
PENDING = st.lists(st.tuples(st.sampled_from("xyz"), st.none() | st.integers(0, 5)), max_size=12)


@given(
    NODES,
    RUNNING,
    PENDING,
    st.fixed_dictionaries(dict.fromkeys("xyz", st.integers(0, 2))),
    st.frozensets(st.sampled_from("xyz")),
)
@example(
    has=[(True, 6, "a")] * 3,
    there=[],
    new=[("x", None), ("y", None), ("z", None)],
    asks=dict.fromkeys("xyz", 0),
    spread=frozenset("y"),
).via("one with preferences between two without, which share a heap")
def test_each_task_goes_to_the_node_that_is_best_of_all(
    has: list[tuple[bool, int, str]],
    there: list[tuple[str, pb.TaskState, int]],
    new: list[tuple[str, int | None]],
    asks: dict[str, int],
    spread: frozenset[str],
) -> None:
    nodes = [
        _node(f"n{at}", ready=ready, cpus=cpus, zone=zone)
        for at, (ready, cpus, zone) in enumerate(has)
    ]
    tasks = [
        _task(f"r{at}", of, state, 1, f"n{on}")
        for at, (of, state, on) in enumerate(there)
        if on < len(nodes)
    ]
    pending = [
        _task(f"p{at:02}", of, pb.TASK_STATE_PENDING, asks[of], "" if on is None else f"n{on}")
        for at, (of, on) in enumerate(new)
    ]
    for each in pending:
        if each.service_id in spread:
            each.spec.placement.preferences.add().spread.spread_descriptor = ZONE
    view = StoreView.of([*nodes, *tasks, *pending])
    writes = schedule.step(view, NOW, random.Random(1)).writes
    written = [write.message for write in writes if isinstance(write, Put)]
    got = {each.id: each for each in written if isinstance(each, pb.Task)}
    left = Room(view, NOW)
    for task in sorted(pending, key=lambda t: (not t.node_id, t.service_id, t.id)):
        demand, of_service = Demand.of(task), left.of_service(task.service_id)
        failed = left.failing(demand)
        why = {load.id: refusal(demand, load, of_service[load.id]) for load in left.loads}
        fits = [name for name in why if why[name] is None and task.node_id in {"", name}]
        zones = {load.id: load.node.spec.labels["zone"] for load in left.loads}
        in_zone: Counter[str] = Counter()
        for name, zone in zones.items():
            in_zone[zone] += of_service[name]
        best = min(
            fits,
            key=lambda name: (
                (in_zone[zones[name]], zones[name]) if demand.spread else (),
                failed[name] if failed[name] >= MANY_FAILURES else 0,
                of_service[name],
                left.by_id[name].tasks,
                name,
            ),
            default=None,
        )
        if best is not None:
            assert got[task.id].node_id == best
            left.by_id[best].add(demand, got[task.id])
            of_service[best] += 1
        elif not task.node_id:
            refused = schedule.explain(Counter(each for each in why.values() if each), task)
            text = f"no suitable node ({refused})" if refused else "no suitable node"
            assert got[task.id].status.err == text


def _plan(nodes: int) -> Plan:
    """New services of ten tasks, beside twenty that run, on so many nodes."""
    view = StoreView.of(settled(nodes / 100, 20 * 100 / nodes))
    there: list[Object] = [*view.nodes.values(), *view.services.values(), *view.tasks.values()]
    for each in there:
        each.version.index = 1
    plan = Plan(view.rested())
    plan.view.indexes.settle()
    asked = [service(1000 + number, TASKS) for number in range(NEW)]
    return plan.noted([Put(each) for each in asked])


@pytest.mark.parametrize("nodes", [100, 400])
def test_as_many_nodes_are_looked_at_as_get_a_task(nodes: int) -> None:
    plan = _plan(nodes)
    assert len(plan.view.nodes) == nodes
    looks = visits(lambda: decide(plan, NOW, random.Random(1)), room.refusal, room.filled)
    assert looks == [NEW * TASKS, 0]


def _decided(plan: Plan, *counted: Callable[..., Any]) -> tuple[Plan, list[int]]:
    """The plan after one decision, all of it written, and calls of functions meanwhile."""
    found: list[Decision] = []
    rng = random.Random(len(plan.view.tasks))
    calls = visits(lambda: found.append(decide(plan, NOW, rng)), *counted)
    writes = [write for batch in found[0].batches for write in batch]
    for write in writes:
        if isinstance(write, Put):
            write.message.version.index = 2
    return found[0].after.written(writes), calls


def test_a_new_task_is_entered_where_it_is_looked_for_alone() -> None:
    by_slot, of_one = slots._of_slot, folds._held
    plan = _plan(100)
    after, entered = _decided(plan, by_slot, of_one)
    assert entered == [0, NEW * (TASKS + 1)]  # new tasks before they have addresses, and services
    assert visits(after.view.indexes.settle, by_slot)[0] == NEW * TASKS * 2  # empty, then not
    assert len(after.view.tasks) == len(plan.view.tasks) + NEW * TASKS


def test_no_decision_works_out_anew_what_those_before_it_have_changed() -> None:
    plan = _plan(100)
    counts: list[int] = []
    for number in range(5):
        plan = plan.noted([Put(service(2000 + number, TASKS))])
        while plan.due_at() == 0:
            plan, calls = _decided(plan, folds.takes_room)
            counts += calls
    assert len(set(counts[-3:])) == 1
