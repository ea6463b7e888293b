"""Replicas: slots filled and given up; nodes that go; global services."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_swarm import Cluster, node, scale, service

from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi.tasks import shown
from meshnet_control.orchestrate.slots import live
from meshnet_control.orchestrate.store_view import Delete, changed


def _slots(cluster: Cluster) -> list[int]:
    return sorted(task.slot for task in cluster.live())


def test_a_service_gets_its_replicas_in_slots_from_one() -> None:
    cluster = Cluster(node(1), node(2), service(5))
    cluster.settle()
    assert _slots(cluster) == [1, 2, 3, 4, 5]
    assert len(cluster.running()) == 5
    task = cluster.running()[0]
    assert task.name == f"web.1.{task.id}"


def test_a_service_that_does_not_say_how_many_gets_one() -> None:
    silent = service(3)
    silent.spec.mode.replicated.ClearField("replicas")
    cluster = Cluster(node(1), silent)
    cluster.settle()
    assert _slots(cluster) == [1]


def test_scale_down_takes_from_the_fullest_node_and_the_highest_slots() -> None:
    cluster = Cluster(node(1), node(2), service(0))
    for slot, where in enumerate(["n1", "n1", "n1", "n2", "n1"], start=1):
        cluster.put(_placed(slot, where))
    cluster.edit_spec(scale(3))
    cluster.settle()
    assert _slots(cluster) == [1, 2, 4]
    assert len(cluster.view.tasks) == 3


def test_scale_down_takes_what_does_not_run_first() -> None:
    cluster = Cluster(node(1), service(0))
    for slot in (1, 2, 3):
        cluster.put(_placed(slot, "n1"))
    starting = changed(next(t for t in cluster.tasks() if t.slot == 1))
    starting.status.state = pb.TASK_STATE_PREPARING
    cluster.put(starting)
    cluster.edit_spec(scale(2))
    cluster.converge()
    assert _slots(cluster) == [2, 3]


def _placed(slot: int, where: str) -> pb.Task:
    task = pb.Task(id=f"t{slot}", service_id="svc", slot=slot, node_id=where)
    task.spec.container_spec.image = "web:1"
    task.desired_state = task.status.state = pb.TASK_STATE_RUNNING
    return task


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 4))
def test_any_scaling_ends_with_the_lowest_count_of_slots_and_nothing_left_over(
    sizes: list[int], nodes: int
) -> None:
    cluster = Cluster(*(node(n) for n in range(nodes)), service(3))
    for size in sizes:
        cluster.settle(0.3)
        cluster.edit_spec(scale(size))
    cluster.settle()
    assert len(cluster.running()) == len(cluster.view.tasks) == sizes[-1]
    assert all(count == 1 for count in Counter(_slots(cluster)).values())


def test_tasks_of_a_dead_node_are_replaced_at_once() -> None:
    cluster = Cluster(node(1), node(2), service(4))
    cluster.settle()
    dead = changed(cluster.view.nodes["n1"])
    dead.status.state = "down"
    cluster.put(dead)
    cluster.converge()
    assert [t.node_id for t in cluster.live()] == ["n2"] * 4
    assert {t.desired_state for t in cluster.live()} == {pb.TASK_STATE_RUNNING}
    lost = [t for t in cluster.tasks() if t.node_id == "n1"]
    assert {shown(t).desired_state for t in lost} == {pb.TASK_STATE_SHUTDOWN}
    cluster.settle()
    back = changed(cluster.view.nodes["n1"])
    back.status.state = "ready"
    cluster.put(back)
    cluster.settle()
    assert [t.node_id for t in cluster.running()] == ["n2"] * 4


def test_a_drained_node_is_emptied() -> None:
    cluster = Cluster(node(1), node(2), service(4))
    cluster.settle()
    drained = changed(cluster.view.nodes["n1"])
    drained.spec.availability = "drain"
    cluster.put(drained)
    cluster.settle()
    assert [t.node_id for t in cluster.running()] == ["n2"] * 4


def _global() -> pb.Service:
    made = service(0)
    made.spec.mode.ClearField("replicated")
    getattr(made.spec.mode, "global").SetInParent()
    return made


def test_a_global_service_runs_once_on_every_node_that_fits() -> None:
    made = _global()
    made.spec.task_template.placement.constraints.append("node.role==worker")
    manager = node(3)
    manager.spec.role = "manager"
    cluster = Cluster(node(1), node(2), manager, node(4, availability="pause"), made)
    cluster.settle()
    assert sorted(t.node_id for t in cluster.running()) == ["n1", "n2"]
    first = cluster.running()[0]
    assert first.name == f"web.{first.node_id}.{first.id}"
    cluster.put(node(5))
    promoted = changed(cluster.view.nodes["n2"])
    promoted.spec.role = "manager"
    cluster.put(promoted)
    cluster.view = cluster.view.apply([Delete(pb.Node, "n1")])
    cluster.settle()
    assert [t.node_id for t in cluster.view.tasks.values() if live(t)] == ["n5"]
    assert len(cluster.view.tasks) == 1


def test_a_paused_node_keeps_the_task_of_a_global_service() -> None:
    cluster = Cluster(node(1), _global())
    cluster.settle()
    paused = changed(cluster.view.nodes["n1"])
    paused.spec.availability = "pause"
    cluster.put(paused)
    cluster.settle()
    assert len(cluster.running()) == 1
