"""When a service is where another one waits for it."""

from __future__ import annotations

import pytest

from meshnet_control.stack.model import COMPLETED, HEALTHY, STARTED
from meshnet_control.stack.values import StackError
from meshnet_control.stack.waiting import reached, trouble

REPLICATED = {"Replicated": {"Replicas": 2}}


def service(run: int = 0, wanted: int = 2, mode=REPLICATED, condition: str = "any", **more):
    template = {"RestartPolicy": {"Condition": condition}}
    return {
        "Spec": {"Name": "db", "Mode": mode, "TaskTemplate": template},
        "ServiceStatus": {"RunningTasks": run, "DesiredTasks": wanted, **more},
    }


def task(state: str, slot: int = 1, created: int = 1, err: str = ""):
    return {"Slot": slot, "CreatedAt": str(created), "Status": {"State": state, "Err": err}}


@pytest.mark.parametrize(
    ("state", "there"),
    [
        ("new", False),
        ("preparing", False),
        ("starting", True),
        ("running", True),
        ("failed", False),
    ],
)
def test_started_is_that_a_program_runs(state, there):
    assert reached(STARTED, service(), [task(state)]) is there


@pytest.mark.parametrize(("run", "wanted", "there"), [(1, 2, False), (2, 2, True), (0, 0, False)])
def test_healthy_is_that_all_run(run, wanted, there):
    assert reached(HEALTHY, service(run, wanted), []) is there
    updating = service(run, wanted) | {"UpdateStatus": {"State": "updating"}}
    assert not reached(HEALTHY, updating, [])


def test_a_job_completes_by_its_count_and_a_service_by_its_newest_tasks():
    job = {"ReplicatedJob": {"TotalCompletions": 2}}
    assert not reached(COMPLETED, service(mode=job, CompletedTasks=1), [])
    assert reached(COMPLETED, service(mode=job, CompletedTasks=2), [])
    tasks = [task("failed", created=1), task("complete", created=2)]
    assert reached(COMPLETED, service(), tasks)
    assert not reached(COMPLETED, service(), [*tasks, task("running", slot=2)])
    assert not reached(COMPLETED, service(), [])


def test_what_failed_and_is_not_run_again_is_not_waited_for():
    failed = task("failed", err="task: non-zero exit (1)")
    with pytest.raises(StackError, match="db did not complete: task: non-zero exit"):
        reached(COMPLETED, service(condition="none"), [failed])
    assert not reached(COMPLETED, service(), [task("failed")])


def test_the_newest_trouble_is_told():
    assert trouble([task("failed", created=1, err="a"), task("failed", created=2, err="b")]) == "b"
    assert trouble([task("running")]) == ""
