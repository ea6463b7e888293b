from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.api import control_pb2 as pb
from meshnet_control.manager.status_writer import advanced

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
