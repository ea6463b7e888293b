"""What this node says of one task: its states, each once, and what is in its way meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, cast

from google.protobuf.timestamp_pb2 import Timestamp

from meshnet import measures
from meshnet_control.agent import draining, step, task_networks
from meshnet_control.agent.step import Seen
from meshnet_control.api import control_pb2 as pb

_log = logging.getLogger(__name__)

_TELL_S: Final = 2.0
"""Least time between two counts that are told: each is a write in the managers' store."""


class Report:
    """The statuses of one task.

    Args:
        send: gets (task ID, status).
        wall: Unix time, seconds.
    """

    def __init__(
        self, send: Callable[[str, pb.TaskStatus], None], wall: Callable[[], float] = time.time
    ) -> None:
        self._send, self._wall = send, wall
        self._told = ""
        self._told_at = 0.0

    def state(self, task: pb.Task, state: int, err: str, seen: Seen | None) -> None:
        """A task reached a state.

        Args:
            task: with the numbers of its ports.
            state: ``pb.TaskState``.
            err: why, when it is no good one.
            seen: its container.
        """
        measures.task_states.labels(step.word(state)).inc()
        if state >= pb.TASK_STATE_RUNNING:
            of, why = task.service_name or task.service_id, f": {err}" if err else ""
            _log.info("task %s of service %s is %s%s", task.id, of, step.word(state), why)
        self._say(task, state, err, seen)

    def trouble(self, task: pb.Task, state: int, why: str, seen: Seen | None) -> None:
        """Why a task that does not run yet does not get on; empty: it does again."""
        if why != self._told and state < pb.TASK_STATE_RUNNING:
            self._say(task, state, why, seen)

    def draining(self, task: pb.Task, state: int, left: int, seen: Seen | None, now: float) -> None:
        """How many connections a task that is to stop waits for.

        Args:
            task: the task.
            state: its present one.
            left: 0: it waits for none (any more).
            seen: its container.
            now: seconds, of a clock that is never put back.
        """
        if state != pb.TASK_STATE_RUNNING:
            return
        words = draining.words(left) if left else ""
        soon = left and self._told and now - self._told_at < _TELL_S
        if words != self._told and not soon:
            self._say(task, state, words, seen, words)
            self._told_at = now

    def _say(
        self, task: pb.Task, state: int, err: str, seen: Seen | None, message: str = ""
    ) -> None:
        status = pb.TaskStatus(
            timestamp=_stamp(self._wall()),
            state=cast("pb.TaskState", state),
            message=message or step.message(state),
            err=err,
        )
        if seen is not None:
            status.container_status.container_id = seen.id
            status.container_status.pid = seen.pid if seen.running else 0
            status.container_status.exit_code = seen.exit_code
        if state == pb.TASK_STATE_RUNNING and not task_networks.on_host_network(task):
            ports = [p for p in task.endpoint_spec.ports if p.publish_mode == "host"]
            status.port_status.ports.extend(ports)
        self._send(task.id, status)
        self._told = err


def _stamp(at: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(int(at * 1e9))
    return stamp
