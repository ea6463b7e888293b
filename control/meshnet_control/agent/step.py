"""One step of a task on its node: (what is wanted, what is seen, now) -> what to do next. Pure.

```
 ACCEPTED > PREPARING > READY > STARTING > RUNNING > COMPLETE | FAILED
            create              start, wire, open the gate
 wanted SHUTDOWN: withdraw the endpoint > all nodes know > stop signal > grace > SIGKILL > SHUTDOWN
```

A task's state only grows; ``COMPLETE`` and above are final, and are not said while the container
runs: who hears of an end may take its address, its volume and its name. Source: swarmkit
design/task_model.md and agent/exec/controller.go ``Do`` (one operation, one new status).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from meshnet_control.api import control_pb2 as pb

DEFAULT_GRACE_S: Final = 10.0
"""Engine's default time between the stop signal and SIGKILL."""
UNHEALTHY: Final = "dockerexec: unhealthy container"
LOST: Final = "No such container"

_MESSAGES: Final[dict[int, str]] = {
    pb.TASK_STATE_ACCEPTED: "accepted",
    pb.TASK_STATE_PREPARING: "preparing",
    pb.TASK_STATE_READY: "prepared",
    pb.TASK_STATE_STARTING: "starting",
    pb.TASK_STATE_RUNNING: "started",
    pb.TASK_STATE_COMPLETE: "finished",
    pb.TASK_STATE_SHUTDOWN: "shutdown",
    pb.TASK_STATE_FAILED: "started",
    pb.TASK_STATE_REJECTED: "preparing",
}


class Action(Enum):
    """What the agent does for a task."""

    NONE = auto()
    """Wait for the next event."""
    CREATE = auto()
    START = auto()
    """Start the container, announce its sandbox."""
    OPEN = auto()
    """Wait until the network is wired, then open the gate."""
    PUBLISH = auto()
    """Say that the endpoint is ready."""
    DRAIN = auto()
    """Say that the endpoint is no backend any more; wait until every node knows."""
    STOP = auto()
    """Send the stop signal."""
    KILL = auto()
    WITHDRAW = auto()
    """The program ended: its endpoint and sandbox are gone."""
    REMOVE = auto()
    """Remove the container and everything of the task on this host."""
    FORGET = auto()
    """Nothing of the task is left."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A task's container as the engine last said."""

    id: str
    running: bool = False
    started: bool = False
    """It has run at least once."""
    exit_code: int = 0
    health: str = ""
    """``starting``, ``healthy``, ``unhealthy``; empty without a health check."""
    error: str = ""
    """The engine's words when it could not start."""
    pid: int = 0
    gone: bool = False
    """Its first process has ended; the engine has not said yet how."""


@dataclass(frozen=True, slots=True)
class TaskView:
    """Everything one step is decided from."""

    desired: int
    """``pb.TaskState`` the managers want; REMOVE when they no longer know the task."""
    state: int
    """``pb.TaskState`` reported last."""
    container: Seen | None = None
    lost: bool = False
    """There was a container, and somebody removed it."""
    cause: str = ""
    """Why it must end though it is wanted; empty: no reason."""
    wired: bool = True
    """Has overlay networks, so a gate and a sandbox."""
    opened: bool = False
    """The gate is open (or there is none)."""
    published: bool = False
    """The endpoint is announced as a ready backend."""
    announced: bool = False
    """The endpoint or sandbox is known to the data plane."""
    has_health: bool = False
    stopping_since: float | None = None
    """When the stop signal was sent, seconds; None: not yet."""
    killed: bool = False
    grace_s: float = DEFAULT_GRACE_S


@dataclass(frozen=True, slots=True)
class Step:
    """What to report first, then what to do, and when to look again at the latest."""

    action: Action
    state: int | None = None
    """New state to report; None: nothing new."""
    err: str = ""
    until: float | None = None
    """Time to step again even if nothing happens, seconds."""
    cause: str = ""
    """The task must end for this reason, whatever is seen from now on."""

    @property
    def message(self) -> str:
        """Engine's words for the state."""
        return _MESSAGES.get(self.state or 0, "")


def final(state: int) -> bool:
    """True for states a task never leaves."""
    return state > pb.TASK_STATE_RUNNING


def step(view: TaskView, now: float) -> Step:
    """The next step of a task.

    Args:
        view: what is wanted and seen.
        now: seconds, same clock as ``stopping_since``.
    """
    if view.desired > pb.TASK_STATE_RUNNING or view.cause or final(view.state):
        return _ending(view, now)
    seen = view.container
    if seen is None:
        if view.lost:
            return _ended(view, LOST)
        return Step(Action.CREATE, _grown(view, pb.TASK_STATE_PREPARING))
    if seen.running and view.opened and seen.health == "unhealthy":
        return Step(Action.NONE, until=0.0, cause=UNHEALTHY)
    return _forward(view, seen)


def exit_error(code: int) -> str:
    """Swarm's words for a program that ended by itself; empty for success."""
    return f"task: non-zero exit ({code})" if code else ""


def _forward(view: TaskView, seen: Seen) -> Step:
    if not seen.running:
        return _not_running(view, seen)
    if seen.gone:
        return _awaited(view)
    if not view.opened:
        return Step(Action.OPEN, _grown(view, pb.TASK_STATE_STARTING))
    if view.has_health and seen.health != "healthy":
        return Step(Action.NONE)
    publish = view.wired and not view.published
    return Step(Action.PUBLISH if publish else Action.NONE, _grown(view, pb.TASK_STATE_RUNNING))


def _not_running(view: TaskView, seen: Seen) -> Step:
    if seen.started or seen.error:
        return _ended(view, seen.error or exit_error(seen.exit_code))
    if view.state < pb.TASK_STATE_READY:
        return Step(Action.NONE, pb.TASK_STATE_READY, until=0.0)
    if view.desired < pb.TASK_STATE_RUNNING:
        return Step(Action.NONE)
    return Step(Action.START, _grown(view, pb.TASK_STATE_STARTING))


def _grown(view: TaskView, state: int) -> int | None:
    return state if view.state < state else None


def _ended(view: TaskView, err: str) -> Step:
    """The program ended though it was wanted."""
    state = pb.TASK_STATE_FAILED if err else pb.TASK_STATE_COMPLETE
    return Step(Action.WITHDRAW if view.announced else Action.NONE, state, err)


def _awaited(view: TaskView) -> Step:
    """The program has ended and the engine will say how; nobody is to be led there meanwhile."""
    return Step(Action.WITHDRAW if view.announced else Action.NONE)


def _ending(view: TaskView, now: float) -> Step:
    """Not wanted any more, or ended: towards nothing running, nothing announced."""
    seen = view.container
    if seen is not None and seen.running:
        return _awaited(view) if seen.gone else _stopping(view, now)
    if view.announced:
        return Step(Action.WITHDRAW)
    if not final(view.state):
        state, err = _verdict(view)
        return Step(Action.NONE, state, err, until=0.0)
    if view.desired < pb.TASK_STATE_REMOVE:
        return Step(Action.NONE)
    return Step(Action.FORGET if seen is None else Action.REMOVE)


def _verdict(view: TaskView) -> tuple[int, str]:
    """How a task ended that nothing runs of any more: (final state, error)."""
    seen = view.container
    if view.cause:
        begun = view.state >= pb.TASK_STATE_STARTING
        return (pb.TASK_STATE_FAILED if begun else pb.TASK_STATE_REJECTED), view.cause
    if view.stopping_since is None and seen is not None and seen.started and view.opened:
        # It ended by itself before anybody asked.
        code = seen.exit_code
        return (pb.TASK_STATE_FAILED if code else pb.TASK_STATE_COMPLETE), exit_error(code)
    return pb.TASK_STATE_SHUTDOWN, ""


def _stopping(view: TaskView, now: float) -> Step:
    if not view.opened:  # the program never ran: nobody to be polite to
        return Step(Action.NONE if view.killed else Action.KILL)
    if view.published:
        return Step(Action.DRAIN)
    if view.stopping_since is None:
        return Step(Action.STOP)
    end = view.stopping_since + view.grace_s
    if now < end:
        return Step(Action.NONE, until=end)
    return Step(Action.NONE if view.killed else Action.KILL)
