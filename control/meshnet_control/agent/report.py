"""What this node says of one task: its states, each once, and what is in its way meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp

from meshnet_control.agent import container, step
from meshnet_control.agent.step import Seen
from meshnet_control.api import control_pb2 as pb


class Report:
    """The statuses of one task.

    Args:
        send: gets (task ID, status).
    """

    def __init__(self, send: Callable[[str, pb.TaskStatus], None]) -> None:
        self._send = send
        self._told = ""

    def state(self, task: pb.Task, state: int, err: str, seen: Seen | None) -> None:
        """A task reached a state.

        Args:
            task: with the numbers of its ports.
            state: ``pb.TaskState``.
            err: why, when it is no good one.
            seen: its container.
        """
        status = pb.TaskStatus(
            timestamp=_now(),
            state=cast("pb.TaskState", state),
            message=step.message(state),
            err=err,
        )
        if seen is not None:
            status.container_status.container_id = seen.id
            status.container_status.pid = seen.pid if seen.running else 0
            status.container_status.exit_code = seen.exit_code
        if state == pb.TASK_STATE_RUNNING and not container.on_host_network(task):
            ports = [p for p in task.endpoint_spec.ports if p.publish_mode == "host"]
            status.port_status.ports.extend(ports)
        self._send(task.id, status)
        self._told = err

    def trouble(self, task: pb.Task, state: int, why: str, seen: Seen | None) -> None:
        """Why a task that does not run yet does not get on; empty: it does again."""
        if why != self._told and state < pb.TASK_STATE_RUNNING:
            self.state(task, state, why, seen)


def _now() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp
