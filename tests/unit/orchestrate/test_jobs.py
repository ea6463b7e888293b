"""Jobs: how many at a time, what follows a failure, another iteration, nodes that come and go."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_swarm import Cluster, image, node, service

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.assignments import Objects, node_assignments
from meshnet_control.controlapi.services import with_status
from meshnet_control.controlapi.tasks import up_to_date
from meshnet_control.orchestrate.slots import SECOND
from meshnet_control.orchestrate.store_view import Delete, changed
from meshnet_control.orchestrate.tasks import stamp


def job(total: int, concurrent: int) -> pb.Service:
    made = service(0)
    made.spec.mode.replicated_job.total_completions = total
    made.spec.mode.replicated_job.max_concurrent = concurrent
    made.spec.mode.ClearField("replicated")
    made.job_status.last_execution.CopyFrom(stamp(1000))
    return made


def global_job(*constraints: str) -> pb.Service:
    made = job(1, 1)
    made.spec.mode.ClearField("replicated_job")
    made.spec.mode.global_job.SetInParent()
    made.spec.task_template.placement.constraints.extend(constraints)
    return made


def again(cluster: Cluster) -> None:
    """``docker service update --force``, as the control API does it."""
    new = changed(cluster.service)
    new.spec.task_template.force_update += 1
    new.spec_version += 1
    new.job_status.job_iteration.index += 1
    new.job_status.last_execution.CopyFrom(stamp(cluster.now))
    cluster.put(new)


def ends(cluster: Cluster, task: pb.Task, state: pb.TaskState = pb.TASK_STATE_COMPLETE) -> None:
    cluster.put(cluster.reported(cluster.view.tasks[task.id], state))


def status(cluster: Cluster, identifier: str, state: str) -> None:
    new = changed(cluster.view.nodes[identifier])
    new.status.state = state
    cluster.put(new)


def counts(cluster: Cluster) -> tuple[int, int, int]:
    """Running, desired and completed, as ``docker service ls`` is told."""
    said = with_status(cluster.service, cluster.tasks()).service_status
    return said.running_tasks, said.desired_tasks, said.completed_tasks


def test_slots_are_numbered_from_none_and_only_so_many_run_at_a_time() -> None:
    cluster = Cluster(node(1), node(2), job(5, 2))
    cluster.settle(1)
    assert [task.slot for task in cluster.running()] == [0, 1]
    assert {task.desired_state for task in cluster.tasks()} == {pb.TASK_STATE_COMPLETE}
    assert all(task.HasField("job_iteration") for task in cluster.tasks())
    assert counts(cluster) == (2, 2, 0)
    ends(cluster, cluster.running()[1])
    cluster.settle(1)
    assert [task.slot for task in cluster.running()] == [0, 2]
    while cluster.running():
        ends(cluster, cluster.running()[0])
        cluster.settle(1)
        assert len(cluster.running()) <= 2
    assert [task.slot for task in cluster.tasks()] == [0, 1, 2, 3, 4]
    assert counts(cluster) == (0, 2, 5)
    assert cluster.wake_at is None


def test_a_node_is_told_to_run_it_and_nothing_else() -> None:
    cluster = Cluster(node(1), job(1, 1))
    cluster.settle(1)
    seen = Objects(pb.Cluster(id="c"), tasks=cluster.view.tasks)
    [task] = node_assignments(seen, "n1").tasks
    assert task.desired_state == pb.TASK_STATE_RUNNING


def test_what_failed_is_done_again_in_its_slot_after_the_delay() -> None:
    cluster = Cluster(node(1), job(2, 1))
    cluster.settle(1)
    [first] = cluster.running()
    ends(cluster, first, pb.TASK_STATE_FAILED)
    cluster.converge()
    [failed, waiting] = cluster.tasks()
    assert failed.desired_state == pb.TASK_STATE_SHUTDOWN
    assert (waiting.slot, waiting.desired_state) == (0, pb.TASK_STATE_READY)
    cluster.settle(4)
    assert not cluster.running(), "the delay is five seconds, and the slot is being worked on"
    cluster.settle(2)
    [task] = cluster.running()
    assert (task.id, task.desired_state) == (waiting.id, pb.TASK_STATE_COMPLETE)


def test_what_is_not_to_be_restarted_is_not_and_the_others_are_done() -> None:
    made = job(2, 1)
    made.spec.task_template.restart_policy.condition = "none"
    cluster = Cluster(node(1), made)
    cluster.settle(1)
    ends(cluster, cluster.running()[0], pb.TASK_STATE_FAILED)
    cluster.settle(10)
    assert [task.slot for task in cluster.running()] == [1]
    ends(cluster, cluster.running()[0])
    cluster.settle(10)
    assert counts(cluster) == (0, 1, 1)


def test_a_policy_of_any_does_not_do_again_what_ended_well() -> None:
    made = job(1, 1)
    made.spec.task_template.restart_policy.condition = "any"
    made.spec.task_template.restart_policy.delay = SECOND
    cluster = Cluster(node(1), made)
    cluster.settle(1)
    ends(cluster, cluster.running()[0])
    cluster.settle(10)
    assert [task.desired_state for task in cluster.tasks()] == [pb.TASK_STATE_COMPLETE]


def test_attempts_are_counted() -> None:
    made = job(1, 1)
    made.spec.task_template.restart_policy.max_attempts = 2
    made.spec.task_template.restart_policy.delay = 0
    cluster = Cluster(node(1), made)
    cluster.broken = lambda _: True
    cluster.settle(10)
    assert [task.status.state for task in cluster.tasks()] == [pb.TASK_STATE_FAILED] * 3


def test_an_update_does_all_of_it_again_and_keeps_what_was_done_as_history() -> None:
    cluster = Cluster(node(1), job(3, 2))
    cluster.settle(1)
    ends(cluster, cluster.running()[0])
    cluster.settle(1)
    before = {task.id for task in cluster.running()}
    assert len(before) == 2
    again(cluster)
    cluster.settle(1)
    assert not before & set(cluster.view.tasks), "what ran is stopped and forgotten"
    assert [(task.slot, task.job_iteration.index) for task in cluster.running()] == [(0, 1), (1, 1)]
    assert counts(cluster) == (2, 2, 0)
    while cluster.running():
        ends(cluster, cluster.running()[0])
        cluster.settle(1)
    assert counts(cluster) == (0, 2, 3)
    assert Counter(task.slot for task in cluster.tasks()) == {0: 2, 1: 1, 2: 1}
    assert not cluster.service.HasField("update_status"), "no rolling update"


def test_history_of_a_slot_is_kept_so_long_and_what_is_done_now_is_not_forgotten() -> None:
    kept = pb.Cluster(id="c")
    kept.spec.orchestration.task_history_retention_limit = 2
    cluster = Cluster(kept, node(1), job(2, 2))
    for _ in range(5):
        cluster.settle(1)
        for task in cluster.running():
            ends(cluster, task)
        again(cluster)
    cluster.settle(1)
    assert Counter(task.slot for task in cluster.tasks()) == {0: 2, 1: 2}
    smaller = changed(cluster.service)
    smaller.spec.mode.replicated_job.total_completions = 1
    smaller.job_status.job_iteration.index += 1
    cluster.put(smaller)
    cluster.settle(1)
    assert Counter(task.slot for task in cluster.tasks()) == {0: 2}


def test_a_rollback_is_over_when_the_job_is() -> None:
    cluster = Cluster(node(1), job(1, 1))
    cluster.settle(1)
    cluster.edit_spec(image("web:2"))
    again(cluster)
    back = changed(cluster.service)
    back.update_status.state = "rollback_started"
    back.job_status.job_iteration.index += 1
    cluster.put(back)
    cluster.settle(1)
    assert cluster.service.update_status.state == "rollback_started"
    ends(cluster, cluster.running()[0])
    cluster.settle(1)
    assert cluster.service.update_status.state == "rollback_completed"


def test_what_was_on_a_lost_node_is_done_elsewhere_at_once_and_once_counts() -> None:
    cluster = Cluster(node(1), node(2), job(2, 2))
    cluster.settle(1)
    lost = next(task for task in cluster.running() if task.node_id == "n1")
    status(cluster, "n1", "down")
    cluster.settle(1)
    [elsewhere] = [t for t in cluster.running() if t.slot == lost.slot and t.id != lost.id]
    assert elsewhere.node_id == "n2"
    ends(cluster, lost)  # it had ended well before anybody heard of it
    status(cluster, "n1", "ready")
    cluster.settle(1)
    assert cluster.view.tasks[elsewhere.id].desired_state == pb.TASK_STATE_SHUTDOWN
    assert counts(cluster) == (1, 2, 1)
    cluster.settle(10)
    assert counts(cluster) == (1, 2, 1)


def test_the_cli_is_not_shown_a_lost_task_that_it_would_wait_for() -> None:
    cluster = Cluster(node(1), node(2), job(2, 2))
    cluster.settle(1)
    status(cluster, "n1", "down")
    cluster.settle(1)
    for task in cluster.running():
        if not task.displaced:
            ends(cluster, task)
    cluster.settle(1)
    followed = [task for task in cluster.tasks() if up_to_date(task, cluster.service.spec_version)]
    assert len(cluster.tasks()) == 3
    assert [task.status.state for task in followed] == [pb.TASK_STATE_COMPLETE] * 2


def test_what_was_done_elsewhere_is_not_done_on_a_node_that_comes_back() -> None:
    cluster = Cluster(node(1), node(2), job(1, 1))
    cluster.settle(1)
    [lost] = cluster.running()
    other = "n2" if lost.node_id == "n1" else "n1"
    status(cluster, lost.node_id, "down")
    cluster.settle(1)
    [elsewhere] = [task for task in cluster.running() if task.node_id == other]
    ends(cluster, elsewhere)
    status(cluster, lost.node_id, "ready")
    cluster.settle(1)
    assert cluster.view.tasks[lost.id].desired_state == pb.TASK_STATE_SHUTDOWN
    assert counts(cluster) == (0, 1, 1)


def test_a_drained_node_gives_its_part_of_a_job_to_others() -> None:
    cluster = Cluster(node(1), node(2), job(2, 2))
    cluster.settle(1)
    drained = changed(cluster.view.nodes["n1"])
    drained.spec.availability = "drain"
    cluster.put(drained)
    cluster.settle(1)
    assert [task.node_id for task in cluster.running()] == ["n2", "n2"]


def test_a_global_job_runs_once_on_every_node_that_is_there_and_fits() -> None:
    late = node(4)
    late.created_at.CopyFrom(stamp(2000))
    manager = node(3)
    manager.spec.role = "manager"
    paused = node(5, availability="pause")
    cluster = Cluster(node(1), node(2), manager, late, paused, global_job("node.role==worker"))
    cluster.settle(1)
    assert sorted(task.node_id for task in cluster.running()) == ["n1", "n2"]
    assert counts(cluster) == (2, 2, 0)
    ends(cluster, cluster.running()[0])
    cluster.settle(10)
    assert counts(cluster) == (1, 1, 1)
    cluster.now = 3000.0
    old = {task.id for task in cluster.tasks()}
    again(cluster)
    cluster.settle(1)
    assert sorted(task.node_id for task in cluster.running()) == ["n1", "n2", "n4"]
    assert all(
        task.desired_state == pb.TASK_STATE_SHUTDOWN or task.status.state == pb.TASK_STATE_COMPLETE
        for task in cluster.tasks()
        if task.id in old
    )
    cluster.view = cluster.view.apply([Delete(pb.Node, "n4")])
    cluster.settle(1)
    assert not [task for task in cluster.tasks() if task.node_id == "n4"]


def test_a_global_job_that_failed_on_a_node_is_done_again_there() -> None:
    cluster = Cluster(node(1), node(2), global_job())
    cluster.settle(1)
    first = cluster.running()[0]
    ends(cluster, first, pb.TASK_STATE_FAILED)
    cluster.settle(10)
    assert sorted(task.node_id for task in cluster.running()) == ["n1", "n2"]


def test_a_removed_job_leaves_nothing() -> None:
    cluster = Cluster(node(1), job(3, 2))
    cluster.settle(1)
    ends(cluster, cluster.running()[0])
    cluster.view = cluster.view.apply([Delete(pb.Service, "svc")])
    cluster.settle(2)
    assert not cluster.view.tasks


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 6), st.integers(1, 4), st.integers(1, 3), st.data())
def test_whatever_befalls_it_a_job_ends_with_every_slot_done_and_no_more_than_allowed_at_a_time(
    total: int, concurrent: int, nodes: int, data: st.DataObject
) -> None:
    cluster = Cluster(*(node(n) for n in range(nodes)), job(total, concurrent))
    for _ in range(data.draw(st.integers(0, 12))):
        cluster.settle(0.5)
        up = [t for t in cluster.running() if not t.displaced]
        assert len(up) <= concurrent
        happens = data.draw(st.sampled_from(["well", "badly", "down", "ready", "again", "nothing"]))
        where = f"n{data.draw(st.integers(0, nodes - 1))}"
        if happens in {"down", "ready"}:
            status(cluster, where, happens)
        elif happens == "again":
            again(cluster)
        elif up and happens != "nothing":
            state = pb.TASK_STATE_COMPLETE if happens == "well" else pb.TASK_STATE_FAILED
            ends(cluster, up[0], state)
    for number in range(nodes):
        status(cluster, f"n{number}", "ready")
    for _ in cluster.run(12 * total + 12, 0.5):
        for task in cluster.running():
            ends(cluster, task)
    assert counts(cluster) == (0, concurrent, total)
