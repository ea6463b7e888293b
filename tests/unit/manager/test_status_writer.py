import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet import drops
from meshnet_control.api import control_pb2 as pb
from meshnet_control.manager import status_writer
from meshnet_control.manager.status_writer import StatusWriter, advanced
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put

STATES = st.sampled_from(pb.TaskState.values())


def task(state, node_id="n1"):
    made = pb.Task(id="t1", node_id=node_id)
    made.status.state = state
    return made


@given(STATES, st.lists(STATES))
def test_states_only_grow(first, reported):
    stored, highest = task(first), first
    for state in reported:
        stored = advanced(stored, "n1", pb.TaskStatus(state=state), "m1") or stored
        highest = max(highest, state)
        assert stored.status.state == highest


@given(STATES, STATES)
def test_only_its_node_may_report(before, state):
    assert advanced(task(before), "n2", pb.TaskStatus(state=state), "m1") is None


def test_the_same_again_is_no_write():
    status = pb.TaskStatus(state=pb.TASK_STATE_RUNNING, message="started")
    once = advanced(task(pb.TASK_STATE_ASSIGNED), "n1", status, "m1")
    assert once is not None
    assert once.status.applied_by == "m1"
    assert advanced(once, "n1", status, "m2") is None


def test_a_state_keeps_the_time_it_was_reached():
    first = pb.TaskStatus(state=pb.TASK_STATE_FAILED, err="task: non-zero exit (1)")
    first.timestamp.FromSeconds(100)
    failed = advanced(task(pb.TASK_STATE_RUNNING), "n1", first, "m1")
    assert failed is not None
    again = pb.TaskStatus(state=pb.TASK_STATE_FAILED, err="task: non-zero exit (1)")
    again.timestamp.FromSeconds(700)
    assert advanced(failed, "n1", again, "m1") is None
    again.err = "task: non-zero exit (2)"
    corrected = advanced(failed, "n1", again, "m1")
    assert corrected is not None
    assert corrected.status.timestamp.ToSeconds() == 100


def update(task_id, state):
    return pb.TaskStatusUpdate(task_id=task_id, status=pb.TaskStatus(state=state))


@given(STATES, st.lists(st.tuples(st.sampled_from(["n1", "n2"]), STATES), max_size=8))
def test_what_waits_folds_to_what_all_reports_in_their_order_make(first, reported):
    waiting: dict[str, pb.TaskStatus] = {}
    one_by_one = folded = task(first)
    for node, state in reported:
        status = pb.TaskStatus(state=state)
        one_by_one = advanced(one_by_one, node, status, "m1") or one_by_one
        status_writer._note(waiting, node, status)
    assert len(waiting) <= 2, "one for each node, however many came"
    for node, status in waiting.items():
        folded = advanced(folded, node, status, "m1") or folded
    assert folded.status == one_by_one.status


async def test_statuses_that_wait_for_a_disk_are_bounded(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(status_writer, "MOST_TASKS", 2)
    store = SqliteStore.open(tmp_path / "s", tmp_path / "k")
    await store.commit([Put(pb.Task(id=name, node_id="n1")) for name in "abc"])
    writer = StatusWriter(store, "m1")
    reason = "manager: status that could not be written in time"
    before = drops.snapshot().get(reason, 0)
    for name in "abca":
        writer.add("n1", update(name, pb.TASK_STATE_RUNNING))
    assert set(writer._pending) == {"a", "b"}
    assert drops.snapshot()[reason] == before + 1
    await store.close()
