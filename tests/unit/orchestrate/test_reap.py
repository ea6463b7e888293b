"""What the store forgets: history beyond five, removed services, orphans."""

from __future__ import annotations

import pytest
from simulated_swarm import Cluster, node, service

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.store_view import Delete, changed
from meshnet_control.orchestrate.tasks import stamp


@pytest.mark.parametrize(("limit", "kept"), [(None, 5), (2, 2), (0, 1), (-1, 12)])
def test_history_limit(limit: int | None, kept: int) -> None:
    made = service(1)
    made.spec.task_template.restart_policy.delay = 0
    cluster = pb.Cluster(id="c")
    if limit is not None:
        cluster.spec.orchestration.task_history_retention_limit = limit
    world = Cluster(node(1), made, cluster)
    for _ in range(11):
        world.settle(1)
        [task] = world.running()
        world.put(world.reported(task, pb.TASK_STATE_FAILED))
    world.settle(1)
    assert len(world.view.tasks) == kept
    assert len(world.running()) == 1


def test_restart_attempts_keep_the_history_they_are_counted_from() -> None:
    made = service(1)
    made.spec.task_template.restart_policy.delay = 0
    made.spec.task_template.restart_policy.max_attempts = 8
    world = Cluster(node(1), made)
    world.broken = lambda _: True
    world.settle(20)
    assert len(world.view.tasks) == 9


def test_tasks_of_a_removed_service_are_stopped_and_then_forgotten() -> None:
    world = Cluster(node(1), service(3))
    world.settle()
    world.view = world.view.apply([Delete(pb.Service, "svc")])
    world.converge()
    assert {t.desired_state for t in world.tasks()} == {pb.TASK_STATE_REMOVE}
    world.settle(0.5)
    assert not world.view.tasks


def gone_with_its_service(node_state: str) -> Cluster:
    """A cluster whose service was removed while its only node was down, or is no more."""
    world = Cluster(node(1), service(3))
    world.settle()
    down = changed(world.view.nodes["n1"])
    down.status.state = node_state
    world.put(down)
    world.view = world.view.apply([Delete(pb.Service, "svc")])
    world.converge()
    return world


def test_a_removed_task_on_a_down_node_is_kept_until_the_node_says_that_it_ended() -> None:
    world = gone_with_its_service("down")
    assert {t.desired_state for t in world.tasks()} == {pb.TASK_STATE_REMOVE}
    world.put(node(1))
    world.settle()
    assert not world.view.tasks


def test_a_removed_task_on_a_down_node_is_forgotten_with_the_node() -> None:
    world = gone_with_its_service("down")
    world.view = world.view.apply([Delete(pb.Node, "n1")])
    world.converge()
    assert not world.view.tasks


def test_an_orphan_is_kept_for_its_addresses_as_long_as_its_node_is_down() -> None:
    world = gone_with_its_service("down")
    world.now += 25 * 3600
    world.converge()
    assert {t.status.state for t in world.tasks()} == {pb.TASK_STATE_ORPHANED}
    world.put(node(1))
    world.converge()
    assert not world.view.tasks


def test_a_task_on_a_node_down_for_a_day_is_orphaned() -> None:
    world = Cluster(node(1), node(2), service(1))
    world.settle()
    [task] = world.running()
    down = changed(world.view.nodes[task.node_id])
    down.status.state = "down"
    world.put(down)
    world.converge()
    assert world.wake_at == pytest.approx(world.now + 24 * 3600)
    world.now += 24 * 3600
    world.converge()
    assert world.view.tasks[task.id].status.state == pb.TASK_STATE_ORPHANED


def test_a_task_of_a_removed_node_is_orphaned_and_replaced() -> None:
    world = Cluster(node(1), node(2), service(2))
    world.settle()
    world.view = world.view.apply([Delete(pb.Node, "n1")])
    world.settle()
    assert [t.node_id for t in world.running()] == ["n2", "n2"]
    assert {t.status.state for t in world.tasks() if t.node_id == "n1"} == {pb.TASK_STATE_ORPHANED}


def test_a_container_attached_by_hand_is_left_alone() -> None:
    task = pb.Task(id="a", node_id="n1", created_at=stamp(1))
    task.desired_state = task.status.state = pb.TASK_STATE_RUNNING
    world = Cluster(node(1))
    world.put(task)
    assert world.converge() == 0
