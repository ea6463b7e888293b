"""Whether a service is where another one waits for it (``depends_on``). Pure.

``service_started``: a task of it has begun to run. ``service_healthy``: as many tasks run as are
wanted, which with a health check they do once it succeeds. ``service_completed_successfully``: its
tasks have ended well: those of a job, or the newest of each slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from meshnet_control.stack.model import COMPLETED, HEALTHY
from meshnet_control.stack.values import StackError

Json: TypeAlias = Mapping[str, Any]
WORDS: Final = {
    HEALTHY: "to be healthy",
    COMPLETED: "to complete",
    "service_started": "to start",
}
_BEGUN: Final = frozenset({"starting", "running", "complete"})
_FAILED: Final = frozenset({"failed", "rejected", "orphaned"})


def reached(condition: str, service: Json, tasks: Sequence[Json]) -> bool:
    """Whether it is there.

    Args:
        condition: of ``depends_on``.
        service: Engine JSON, with ServiceStatus.
        tasks: of the service.

    Raises:
        StackError: it ended, and not well: nothing will follow by itself.
    """
    if condition == COMPLETED:
        return _completed(service, tasks)
    if condition == HEALTHY:
        status = service.get("ServiceStatus") or {}
        updating = (service.get("UpdateStatus") or {}).get("State") == "updating"
        wanted, run = status.get("DesiredTasks", 0), status.get("RunningTasks", 0)
        return bool(run >= wanted > 0 and not updating)
    return any(_state(task) in _BEGUN for task in tasks)


def trouble(tasks: Iterable[Json]) -> str:
    """What the newest task that has something to say says; empty: none has."""
    said = [task for task in tasks if (task.get("Status") or {}).get("Err")]
    newest = max(said, key=lambda task: str(task.get("CreatedAt")), default=None)
    return str(newest["Status"]["Err"]) if newest is not None else ""


def _completed(service: Json, tasks: Sequence[Json]) -> bool:
    mode = service["Spec"].get("Mode") or {}
    job = mode.get("ReplicatedJob")
    if job is not None:
        done = (service.get("ServiceStatus") or {}).get("CompletedTasks", 0)
        return bool(done >= job.get("TotalCompletions", 1))
    newest: dict[tuple[Any, Any], Json] = {}
    for task in sorted(tasks, key=lambda task: str(task.get("CreatedAt"))):
        newest[task.get("Slot"), task.get("NodeID") if "Slot" not in task else None] = task
    policy = (service["Spec"]["TaskTemplate"].get("RestartPolicy") or {}).get("Condition", "any")
    failed = [task for task in newest.values() if _state(task) in _FAILED]
    if failed and policy == "none":
        raise StackError(
            f"{service['Spec']['Name']} did not complete: {trouble(failed) or 'it failed'}"
        )
    return bool(newest) and all(_state(task) == "complete" for task in newest.values())


def _state(task: Json) -> str:
    return str((task.get("Status") or {}).get("State", ""))
