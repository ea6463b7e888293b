"""Rolling updates under simulated agents: what runs meanwhile, failures, pause and rollback."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from simulated_swarm import Cluster, image, images, node, scale, service, update_config

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.slots import SECOND, seconds
from meshnet_control.orchestrate.store_view import StoreView, changed
from meshnet_control.orchestrate.tasks import dirty


def _cluster(replicas: int, **config: object) -> Cluster:
    made = service(replicas, update_config=update_config(**config))
    cluster = Cluster(node(1), node(2), node(3), made)
    cluster.settle(2)
    return cluster


def _broken(task: pb.Task) -> bool:
    return task.spec.container_spec.image == "web:2"


@settings(max_examples=20, deadline=None)
@given(
    replicas=st.integers(1, 7),
    parallelism=st.integers(0, 4),
    order=st.sampled_from(["stop-first", "start-first"]),
    delay=st.sampled_from([0, SECOND // 2]),
)
def test_every_task_is_replaced_and_enough_run_all_the_time(
    replicas: int, parallelism: int, order: str, delay: int
) -> None:
    cluster = _cluster(replicas, parallelism=parallelism, order=order, delay=delay)
    cluster.edit_spec(image("web:2"))
    fewest = replicas - (parallelism or replicas) if order == "stop-first" else replicas
    most = replicas + (parallelism or replicas) if order == "start-first" else replicas
    for _ in cluster.run(12):
        assert fewest <= len(cluster.running()) <= most
    assert images(cluster.running()) == {"web:2"}
    assert len(cluster.running()) == len(cluster.live()) == replicas
    assert cluster.service.update_status.state == "completed"
    assert cluster.service.update_status.message == "update completed"


def _logged_in(spec: pb.ServiceSpec) -> None:
    spec.task_template.container_spec.pull_options.registry_auth = "new"


def test_other_credentials_replace_no_task_that_has_its_image_and_are_the_next_ones() -> None:
    cluster = _cluster(2)
    before = {task.id for task in cluster.running()}
    cluster.edit_spec(_logged_in)
    cluster.settle(5)
    assert {task.id for task in cluster.running()} == before
    assert cluster.service.update_status.state == ""
    cluster.edit_spec(scale(3))
    cluster.settle(2)
    [third] = [task for task in cluster.running() if task.id not in before]
    assert third.spec.container_spec.pull_options.registry_auth == "new"


def test_a_task_that_still_pulls_with_other_credentials_is_replaced() -> None:
    task = pb.Task(spec_version=1)
    task.spec.container_spec.SetInParent()
    one = pb.Service(spec_version=2)
    _logged_in(one.spec)
    for state, replaced in (
        (pb.TASK_STATE_PREPARING, True),
        (pb.TASK_STATE_READY, False),
        (pb.TASK_STATE_RUNNING, False),
        (pb.TASK_STATE_FAILED, True),
    ):
        task.status.state = state
        assert dirty(task, one, StoreView()) is replaced, state


def test_the_delay_lies_between_a_running_task_and_the_next_slot() -> None:
    cluster = _cluster(2, delay=10 * SECOND)
    cluster.edit_spec(image("web:2"))
    cluster.settle(9)
    assert images(cluster.running()) == {"web:1", "web:2"}
    assert cluster.service.update_status.message == "update in progress"
    [fresh] = [t for t in cluster.running() if t.spec.container_spec.image == "web:2"]
    cluster.converge()
    assert cluster.wake_at == pytest.approx(seconds(fresh.running_since) + 10)
    cluster.settle(3)
    assert images(cluster.running()) == {"web:2"}


def test_a_failure_pauses_the_update() -> None:
    cluster = _cluster(3)
    cluster.broken = _broken
    cluster.edit_spec(image("web:2"))
    cluster.settle(2)
    status = cluster.service.update_status
    assert status.state == "paused"
    assert status.message.startswith("update paused due to failure or early termination of task ")
    assert status.message.split()[-1] in cluster.view.tasks
    cluster.settle(20)
    assert len([t for t in cluster.running() if t.spec.container_spec.image == "web:1"]) == 2
    cluster.broken = lambda _: False
    cluster.edit_spec(lambda _: None)
    cluster.settle(10)
    assert images(cluster.running()) == {"web:2"}
    assert cluster.service.update_status.state == "completed"


def test_a_failure_rolls_back() -> None:
    cluster = _cluster(3, failure_action="rollback")
    cluster.broken = _broken
    before = cluster.service.spec.task_template
    cluster.edit_spec(image("web:2"))
    seen = set()
    for _ in cluster.run(15):
        seen.add((cluster.service.update_status.state, cluster.service.update_status.message[:18]))
        assert len(cluster.running()) >= 2
    assert seen >= {
        ("updating", "update in progress"),
        ("rollback_started", "update rolled back"),
        ("rollback_completed", "rollback completed"),
    }
    assert cluster.service.spec.task_template == before
    assert not cluster.service.HasField("previous_spec")
    assert images(cluster.running()) == {"web:1"}
    assert len(cluster.running()) == 3


def test_a_failing_rollback_pauses() -> None:
    cluster = _cluster(2, failure_action="rollback")
    cluster.edit_spec(
        lambda spec: spec.rollback_config.CopyFrom(update_config(failure_action="rollback"))
    )
    cluster.edit_spec(image("web:2"))
    began = cluster.now
    cluster.broken = lambda task: seconds(task.created_at) >= began
    cluster.settle(10)
    status = cluster.service.update_status
    assert status.state == "rollback_paused"
    assert status.message.startswith("rollback paused due to failure or early termination of task ")
    assert cluster.service.spec.task_template.container_spec.image == "web:1"


def test_a_requested_rollback_replaces_the_tasks_and_says_so() -> None:
    cluster = _cluster(2)
    cluster.edit_spec(image("web:2"))
    cluster.settle(5)
    back = changed(cluster.service)
    back.spec.CopyFrom(cluster.service.previous_spec)
    back.spec_version = cluster.service.previous_spec_version
    back.update_status.CopyFrom(
        pb.UpdateStatus(state="rollback_started", message="manually requested rollback")
    )
    back.update_status.started_at.FromNanoseconds(round(cluster.now * SECOND))
    cluster.put(back)
    cluster.settle(15)
    assert images(cluster.running()) == {"web:1"}
    assert cluster.service.update_status.state == "rollback_completed"


def test_continue_goes_on_whatever_fails() -> None:
    cluster = _cluster(3, failure_action="continue")
    cluster.broken = _broken
    cluster.edit_spec(image("web:2"))
    cluster.settle(15)
    assert images(cluster.live()) == {"web:2"}
    assert cluster.service.update_status.state == "completed"


def test_failures_up_to_the_ratio_are_borne() -> None:
    cluster = _cluster(4, max_failure_ratio=0.25)
    cluster.broken = lambda task: (
        _broken(task) and task.slot == 1 and not task.HasField("not_before")
    )
    cluster.edit_spec(image("web:2"))
    cluster.settle(15)
    assert cluster.service.update_status.state == "completed"
    assert images(cluster.running()) == {"web:2"}


def test_a_failure_after_the_monitored_time_is_a_restart_like_any() -> None:
    cluster = _cluster(2, delay=6 * SECOND)
    cluster.edit_spec(image("web:2"))
    cluster.settle(4)
    [fresh] = [t for t in cluster.running() if t.spec.container_spec.image == "web:2"]
    cluster.put(cluster.reported(fresh, pb.TASK_STATE_FAILED))
    cluster.settle(15)
    assert cluster.service.update_status.state == "completed"
    assert images(cluster.running()) == {"web:2"}


def test_a_drained_node_is_no_failure_of_the_update() -> None:
    cluster = _cluster(6, parallelism=0, monitor=30 * SECOND)
    cluster.edit_spec(image("web:2"))
    cluster.settle(3)
    drained = changed(cluster.view.nodes["n1"])
    drained.spec.availability = "drain"
    cluster.put(drained)
    cluster.settle(50)
    assert cluster.service.update_status.state == "completed"
    assert len(cluster.running()) == 6


def test_scaling_and_a_placement_that_still_fits_replace_nothing() -> None:
    cluster = _cluster(2)
    before = {task.id for task in cluster.running()}
    cluster.edit_spec(scale(3))
    cluster.settle()
    cluster.edit_spec(
        lambda spec: spec.task_template.placement.constraints.append("node.role==worker")
    )
    cluster.settle()
    assert before < {task.id for task in cluster.running()}
    assert not cluster.service.HasField("update_status")
    assert {t.spec_version for t in cluster.running()} == {cluster.service.spec_version}
    cluster.edit_spec(lambda spec: spec.task_template.placement.constraints.append("node.id!=n1"))
    cluster.settle(10)
    assert cluster.service.update_status.state == "completed"
    kept = before & {task.id for task in cluster.running()}
    assert 0 < len(kept) < 2


def test_a_global_service_is_updated_node_by_node() -> None:
    made = service(0, update_config=update_config())
    made.spec.mode.ClearField("replicated")
    getattr(made.spec.mode, "global").SetInParent()
    cluster = Cluster(node(1), node(2), node(3), made)
    cluster.settle()
    cluster.edit_spec(image("web:2"))
    for _ in cluster.run(10):
        assert len(cluster.running()) >= 2
    assert images(cluster.running()) == {"web:2"}
    assert sorted(t.node_id for t in cluster.running()) == ["n1", "n2", "n3"]
    assert cluster.service.update_status.state == "completed"


def test_a_second_update_overtakes_the_first() -> None:
    cluster = _cluster(4, delay=SECOND)
    cluster.edit_spec(image("web:2"))
    cluster.settle(2)
    cluster.edit_spec(image("web:3"))
    for _ in cluster.run(20):
        assert len(cluster.running()) >= 2
    assert images(cluster.running()) == {"web:3"}
    assert cluster.service.update_status.state == "completed"


def test_a_failing_start_first_update_keeps_every_old_task() -> None:
    cluster = _cluster(3, order="start-first")
    old = {task.id for task in cluster.running()}
    cluster.broken = _broken
    cluster.edit_spec(image("web:2"))
    cluster.settle(20)
    assert cluster.service.update_status.state == "paused"
    assert {task.id for task in cluster.running()} == old


def test_a_start_first_update_that_waits_for_a_port_is_freed_by_stop_first() -> None:
    made = service(1, update_config=update_config(order="start-first"))
    made.spec.endpoint_spec.ports.add(target_port=80, published_port=8080, publish_mode="host")
    cluster = Cluster(node(1), made)
    cluster.settle(2)
    cluster.edit_spec(image("web:2"))
    cluster.settle(20)
    assert images(cluster.running()) == {"web:1"}
    [waiting] = [t for t in cluster.live() if t.status.state == pb.TASK_STATE_PENDING]
    assert waiting.status.err == "no suitable node (host-mode port already in use on 1 node)"
    cluster.edit_spec(lambda spec: setattr(spec.update_config, "order", "stop-first"))
    cluster.settle(10)
    assert [t.id for t in cluster.running()] == [waiting.id]
    assert cluster.service.update_status.state == "completed"


_EVENTS = st.sampled_from(["down", "up", "drain", "fail", "update", "grow", "shrink", "wait"])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(_EVENTS, st.integers(1, 3)), max_size=12),
    st.sampled_from(["stop-first", "start-first"]),
)
@example(  # scaled in the moment between a new task's start and the old one's end
    [("down", 1), ("down", 3), ("update", 3), ("down", 3), ("shrink", 1)], "start-first"
)
def test_whatever_happens_the_newest_specification_runs_in_the_end(
    events: list[tuple[str, int]], order: str
) -> None:
    cluster = _cluster(3, order=order, failure_action="continue")
    newest, replicas = 1, 3
    for what, number in events:
        target = changed(cluster.view.nodes[f"n{number}"])
        if what in {"down", "up", "drain"}:
            target.status.state = "down" if what == "down" else "ready"
            target.spec.availability = "drain" if what == "drain" else "active"
            cluster.put(target)
        elif what == "fail" and cluster.running():
            task = cluster.running()[number % len(cluster.running())]
            if cluster.view.nodes[task.node_id].status.state == "ready":
                cluster.put(cluster.reported(task, pb.TASK_STATE_FAILED))
        elif what == "update":
            newest += 1
            cluster.edit_spec(image(f"web:{newest}"))
        elif what in {"grow", "shrink"}:
            replicas = max(0, replicas + (number if what == "grow" else -number))
            cluster.edit_spec(scale(replicas))
        cluster.settle(0.1 * number)
    cluster.put(*(node(number) for number in (1, 2, 3)))
    for _ in cluster.run(90, passing_s=1):
        pass
    assert len(cluster.running()) == len(cluster.live()) == replicas
    assert images(cluster.running()) <= {f"web:{newest}"}
    assert cluster.service.update_status.state in {"", "completed"}
    assert {task.slot for task in cluster.running()} == {task.slot for task in cluster.tasks()}
