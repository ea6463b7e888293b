from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet import ends
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import assignments
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.manager import status_writer
from meshnet_control.manager.authority import Authority
from meshnet_control.manager.dispatcher import Dispatcher
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


@pytest.fixture
async def store(tmp_path) -> AsyncIterator[SqliteStore]:
    """Name: store. Scope: function. Empty."""
    opened = SqliteStore.open(tmp_path / "s", tmp_path / "k")
    yield opened
    await opened.close()


def leading(store: SqliteStore, tasks: dict[str, pb.Task]) -> Dispatcher:
    """A dispatcher that knows these tasks."""
    objects = assignments.Objects(pb.Cluster(), tasks=tasks)
    who = Identity("m1", "c1", "manager", Certificates(b"", b"", b""))
    dispatcher = Dispatcher(store, cast("Authority", None), who, lambda: objects)
    dispatcher._statuses = StatusWriter(store, "m1")  # it leads
    return dispatcher


async def test_what_waits_is_one_status_of_each_task_that_is_there_and_few_of_others(
    store: SqliteStore,
):
    tasks = {name: pb.Task(id=name, node_id="n1") for name in "abc"} | {
        "d": pb.Task(id="d", node_id="n2")
    }
    dispatcher = leading(store, tasks)
    for state in (pb.TASK_STATE_STARTING, pb.TASK_STATE_RUNNING, pb.TASK_STATE_COMPLETE):
        for name in [*map(str, range(2 * status_writer.MOST_UNKNOWN)), *"abcd"]:
            dispatcher._reported("n1", update(name, state))
    assert dispatcher._statuses is not None
    waiting = dispatcher._statuses._pending
    assert waiting.keys() >= set("abc")
    assert "d" not in waiting
    assert len(waiting) == 3 + status_writer.MOST_UNKNOWN
    assert all(each["n1"].state == pb.TASK_STATE_COMPLETE for each in waiting.values())


async def test_a_status_is_written_of_a_task_that_this_manager_has_yet_to_hear_of(
    store: SqliteStore,
):
    await store.commit([Put(pb.Task(id="new", node_id="n1"))])
    dispatcher = leading(store, {})
    writer = dispatcher._statuses
    assert writer is not None
    writing = asyncio.create_task(writer.run())
    for number, state in enumerate((pb.TASK_STATE_STARTING, pb.TASK_STATE_RUNNING)):
        for n in range(status_writer.MOST_UNKNOWN - 1):  # others of which nobody knows
            dispatcher._reported("n1", update(f"{number}-{n}", state))
        dispatcher._reported("n1", update("new", state))
        async with asyncio.timeout(10):
            async for _ in store.watch(store.revision):
                break
            await settled(writer)
        written = await store.get(pb.Task, "new")
        assert written is not None
        assert written.status.state == state
    await ends.ended(writing)


async def settled(writer: StatusWriter) -> None:
    """Until there is room for others again."""
    while writer._unknown:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)
