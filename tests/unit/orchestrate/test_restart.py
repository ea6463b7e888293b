"""Restarts: the delay, the condition, the attempts and waiting for the old task."""

from __future__ import annotations

import pytest
from simulated_swarm import Cluster, node, service

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.slots import SECOND, seconds
from meshnet_control.orchestrate.store_view import changed


def _cluster(**policy: object) -> Cluster:
    made = service(1)
    for name, value in policy.items():
        setattr(made.spec.task_template.restart_policy, name, value)
    cluster = Cluster(node(1), node(2), made)
    cluster.settle()
    return cluster


def _end(cluster: Cluster, state: pb.TaskState = pb.TASK_STATE_FAILED) -> float:
    [task] = cluster.running()
    cluster.put(cluster.reported(task, state))
    cluster.converge()
    return cluster.now


def test_a_failed_task_is_replaced_after_five_seconds() -> None:
    cluster = _cluster()
    failed_at = _end(cluster)
    [fresh] = cluster.live()
    assert fresh.desired_state == pb.TASK_STATE_READY
    assert seconds(fresh.not_before) == pytest.approx(failed_at + 5)
    assert cluster.wake_at == pytest.approx(failed_at + 5)
    cluster.settle(4.8)
    assert not cluster.running()
    cluster.settle(0.6)
    assert [t.id for t in cluster.running()] == [fresh.id]


def test_the_step_starts_a_task_exactly_when_it_asked_to_be_woken() -> None:
    cluster = _cluster(delay=SECOND // 3)
    _end(cluster)
    assert cluster.wake_at is not None
    cluster.now = cluster.wake_at
    cluster.converge()
    assert [t.desired_state for t in cluster.live()] == [pb.TASK_STATE_RUNNING]


def test_a_task_rejected_before_its_turn_is_replaced_when_its_turn_comes() -> None:
    """An image that does not exist is tried once in five seconds."""
    cluster = _cluster()
    began = _end(cluster, pb.TASK_STATE_REJECTED)
    tried: list[float] = []
    while len(tried) < 4:
        [waiting] = cluster.live()
        tried.append(cluster.now - began)
        cluster.put(cluster.reported(waiting, pb.TASK_STATE_REJECTED))
        cluster.converge()
        assert [task.id for task in cluster.live()] == [waiting.id]
        assert cluster.wake_at == pytest.approx(seconds(waiting.not_before))
        cluster.now = seconds(waiting.not_before)
        cluster.converge()
    assert tried == pytest.approx([0, 5, 10, 15], abs=0.1)


@pytest.mark.parametrize(
    ("condition", "state", "again"),
    [
        ("any", pb.TASK_STATE_COMPLETE, True),
        ("on-failure", pb.TASK_STATE_COMPLETE, False),
        ("on-failure", pb.TASK_STATE_FAILED, True),
        ("on-failure", pb.TASK_STATE_REJECTED, True),
        ("none", pb.TASK_STATE_FAILED, False),
    ],
)
def test_condition(condition: str, state: pb.TaskState, again: bool) -> None:  # noqa: FBT001
    cluster = _cluster(condition=condition, delay=0)
    _end(cluster, state)
    cluster.settle()
    assert bool(cluster.running()) is again
    assert len(cluster.view.tasks) == 1 + again


def test_max_attempts_bounds_the_restarts_of_one_specification() -> None:
    cluster = _cluster(max_attempts=3, delay=0)
    cluster.broken = lambda _: True
    cluster.settle(10)
    assert len(cluster.view.tasks) == 4
    assert not cluster.live()
    cluster.edit_spec(lambda spec: setattr(spec.task_template, "force_update", 1))
    cluster.broken = lambda _: False
    cluster.settle()
    assert len(cluster.running()) == 1


def test_attempts_outside_the_window_are_forgotten() -> None:
    cluster = _cluster(max_attempts=1, delay=0, window=60 * SECOND)
    for _ in range(3):
        _end(cluster)
        cluster.settle()
        assert len(cluster.running()) == 1
        cluster.now += 100
    _end(cluster)
    cluster.settle()
    _end(cluster)
    cluster.settle()
    assert not cluster.live()


def test_used_up_attempts_do_not_keep_a_task_on_a_dead_node() -> None:
    cluster = _cluster(max_attempts=1, delay=0)
    _end(cluster)
    cluster.settle()
    [task] = cluster.running()
    down = pb.Node()
    down.CopyFrom(cluster.view.nodes[task.node_id])
    down.status.state = "down"
    cluster.put(down)
    cluster.settle()
    assert {t.node_id for t in cluster.live()} == {"n1", "n2"} - {task.node_id}


def test_a_new_task_waits_a_minute_at_most_for_one_that_does_not_stop() -> None:
    cluster = _cluster()
    [old] = cluster.running()
    cluster.edit_spec(lambda spec: setattr(spec.task_template, "force_update", 1))
    cluster.converge()
    assert cluster.wake_at == pytest.approx(cluster.now + 60)
    [fresh] = cluster.live()
    assert fresh.desired_state == pb.TASK_STATE_READY
    cluster.now += 60
    cluster.converge()
    assert cluster.live()[0].desired_state == pb.TASK_STATE_RUNNING
    assert cluster.view.tasks[old.id].status.state == pb.TASK_STATE_RUNNING


def test_a_task_leaves_a_node_whose_labels_no_longer_fit() -> None:
    made = service(2)
    made.spec.task_template.placement.constraints.append("node.labels.zone!=b")
    cluster = Cluster(node(1), node(2), made)
    cluster.settle()
    kept = next(t for t in cluster.running() if t.node_id == "n2")
    relabelled = changed(cluster.view.nodes["n1"])
    relabelled.spec.labels["zone"] = "b"
    relabelled.spec.availability = "pause"
    cluster.put(relabelled)
    cluster.settle()
    assert {t.node_id for t in cluster.running()} == {"n1", "n2"}, "paused: left as it is"
    relabelled = changed(relabelled)
    relabelled.spec.availability = "active"
    cluster.put(relabelled)
    cluster.settle(2)
    assert [t.node_id for t in cluster.running()] == ["n2", "n2"]
    assert kept.id in {t.id for t in cluster.running()}


def test_a_constraint_that_was_given_up_moves_nothing() -> None:
    made = service(1)
    made.spec.task_template.placement.constraints.append("node.labels.zone!=b")
    cluster = Cluster(node(1), node(2), made)
    cluster.settle()
    [before] = cluster.running()
    cluster.edit_spec(lambda spec: spec.task_template.ClearField("placement"))
    cluster.settle()
    relabelled = changed(cluster.view.nodes[before.node_id])
    relabelled.spec.labels["zone"] = "b"
    cluster.put(relabelled)
    cluster.settle(2)
    assert [t.id for t in cluster.running()] == [before.id]
