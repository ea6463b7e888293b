"""What the engine says of a container, as the agent understands it."""

from __future__ import annotations

from typing import Any

import pytest

from meshnet_control.agent import inspected
from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.errors import EngineError

NEVER = "0001-01-01T00:00:00Z"


def container(**state: Any) -> dict[str, Any]:
    usual = {"Running": True, "StartedAt": "2024-01-01T00:00:00Z", "ExitCode": 0, "Pid": 7}
    return {"Id": "c" * 64, "State": {**usual, **state}, "Config": {"StopSignal": "SIGQUIT"}}


def test_an_end_that_an_event_told_is_newer_than_what_was_read():
    assert inspected.seen_of(container(), None).running
    ended = inspected.seen_of(container(), 137)
    assert (ended.running, ended.started, ended.exit_code) == (False, True, 137)


def test_one_that_was_never_started_is_told_from_one_that_ended():
    made = inspected.seen_of(container(Running=False, StartedAt=NEVER), None)
    assert (made.running, made.started) == (False, False)
    over = inspected.seen_of(container(Running=False, ExitCode=3), None)
    assert (over.running, over.started, over.exit_code) == (False, True, 3)


def test_the_tasks_own_stop_signal_counts_then_the_containers():
    task = pb.Task()
    assert inspected.stop_signal_in(task, container()) == "SIGQUIT"
    assert inspected.stop_signal_in(task, {}) == "SIGTERM"
    task.spec.container_spec.stop_signal = "SIGUSR1"
    assert inspected.stop_signal_in(task, container()) == "SIGUSR1"


@pytest.mark.parametrize("said", [{}, {"State": None}, {"Id": "c", "State": {"Running": True}}])
def test_what_is_no_container_is_an_error_of_the_engine(said):
    with pytest.raises(EngineError, match="describes a container that is none"):
        inspected.seen_of(said, None)
