"""One step of a task on its node: (what is wanted, what is seen, now) -> what to do next. Pure.

```
 ACCEPTED > PREPARING > READY > STARTING > RUNNING > COMPLETE | FAILED
            create              start, wire, open the gate
 wanted SHUTDOWN: withdraw the endpoint > all nodes know > connections end, or enough was waited
   > stop signal > grace > SIGKILL > SHUTDOWN
 unhealthy, or given up: the same way without waiting for connections, then FAILED (REJECTED when it
   never started)
```

Laws: a task's state only grows; ``COMPLETE`` and above are final, and are reported when nothing of
the task runs and nothing of it is announced any more, because with a final state the managers give
its address, its ports and its volumes to others. A container that was started is never replaced
under the same task: what was lost has failed, and the restart policy decides.
Source: swarmkit design/task_model.md, agent/exec/controller.go ``Do`` (one operation, one new
status), moby daemon/cluster/executor/container/controller.go ``Wait`` (unhealthy: stop, then fail).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, cast

from meshnet_control.api import control_pb2 as pb

DEFAULT_GRACE_S: Final = 10.0
"""Engine's default time between the stop signal and SIGKILL."""
UNHEALTHY: Final = "dockerexec: unhealthy container"
LOST: Final = "No such container"
"""Engine's words, before a colon and the container's name."""

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
    KNOCK = auto()
    """An earlier life began to open the gate: make sure that it is open."""
    REWRITE = auto()
    """Put what a hot update brought into the container's files."""
    PUBLISH = auto()
    """Say that the endpoint is ready."""
    DRAIN = auto()
    """Say that the endpoint is no backend any more; wait until every node knows, and for those
    who are connected to it (``draining``)."""
    STOP = auto()
    """Send the stop signal."""
    KILL = auto()
    CONDEMN = auto()
    """Remember that the container is stopped because it is unhealthy."""
    LOOK = auto()
    """Ask the engine for the container's state."""
    WITHDRAW = auto()
    """The program ended: its endpoint and sandbox are gone."""
    REMOVE = auto()
    """Remove the container and the task's files."""
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


@dataclass(frozen=True, slots=True)
class TaskView:
    """Everything one step is decided from."""

    desired: int
    """``pb.TaskState`` the managers want; REMOVE when they no longer know the task."""
    state: int
    """``pb.TaskState`` reported last."""
    container: Seen | None = None
    name: str = ""
    """The container's."""
    lost: bool = False
    """There was a container, it may have run, and it is gone."""
    wired: bool = True
    """Has overlay networks, so a gate and a sandbox."""
    opened: bool = False
    """The gate is open (or there is none)."""
    knocked: bool = True
    """Nothing is left of a life that ended while it opened the gate."""
    published: bool = False
    """The endpoint is announced as a ready backend."""
    announced: bool = False
    """The endpoint or sandbox is known to the data plane."""
    has_health: bool = False
    outdated: bool = False
    """A hot update is not in the container's files yet, or its signal is not sent."""
    failing: str = ""
    """Why it is ended though it is wanted; empty: it is not."""
    ended: bool = False
    """Its first process is gone; the engine may not have said so yet."""
    look_at: float | None = None
    """When to ask the engine, seconds; None: nothing is in doubt."""
    stopping_since: float | None = None
    """When the stop signal was sent, seconds; None: not yet."""
    killed: bool = False
    draining_since: float | None = None
    """When every node knew that it is no backend any more, seconds; None: not yet."""
    forgotten: bool = False
    """The managers no longer know the task, or this node leaves them."""
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


def message(state: int) -> str:
    """Engine's words for a state."""
    return _MESSAGES.get(state, "")


def word(state: int) -> str:
    """As ``docker service ps`` says it, in small letters: ``running``."""
    return pb.TaskState.Name(cast("pb.TaskState", state)).removeprefix("TASK_STATE_").lower()


def final(state: int) -> bool:
    """True for states a task never leaves."""
    return state > pb.TASK_STATE_RUNNING


def step(view: TaskView, now: float) -> Step:
    """The next step of a task.

    Args:
        view: what is wanted and seen.
        now: seconds, same clock as ``stopping_since``.
    """
    following = _decided(view, now)
    if view.container is None or view.look_at is None:
        return following
    if now >= view.look_at:
        return Step(Action.LOOK)
    if following.action is not Action.NONE:
        return following
    until = view.look_at if following.until is None else min(following.until, view.look_at)
    return replace(following, until=until)


def exit_error(code: int) -> str:
    """Swarm's words for a program that ended by itself; empty for success."""
    return f"task: non-zero exit ({code})" if code else ""


def _decided(view: TaskView, now: float) -> Step:
    seen = view.container
    if seen is not None and seen.running and view.ended:
        return Step(Action.WITHDRAW if view.announced else Action.NONE)
    if view.desired > pb.TASK_STATE_RUNNING or final(view.state) or view.failing:
        return _ending(view, now)
    if seen is None and view.lost:
        return _over(view)
    if seen is None:
        return Step(Action.CREATE, _grown(view, pb.TASK_STATE_PREPARING))
    if view.outdated and (seen.running or not (seen.started or seen.error)):
        return Step(Action.REWRITE)
    return _forward(view, seen) if seen.running else _not_running(view, seen)


def _forward(view: TaskView, seen: Seen) -> Step:
    if not view.opened:
        return Step(Action.OPEN, _grown(view, pb.TASK_STATE_STARTING))
    if not view.knocked:
        return Step(Action.KNOCK)
    if seen.health == "unhealthy":
        return Step(Action.CONDEMN)
    if view.has_health and seen.health != "healthy":
        return Step(Action.NONE)
    publish = view.wired and not view.published
    return Step(Action.PUBLISH if publish else Action.NONE, _grown(view, pb.TASK_STATE_RUNNING))


def _not_running(view: TaskView, seen: Seen) -> Step:
    if seen.started or seen.error:
        return _over(view)
    if view.state < pb.TASK_STATE_READY:
        return Step(Action.NONE, pb.TASK_STATE_READY, until=0.0)
    if view.desired < pb.TASK_STATE_RUNNING:
        return Step(Action.NONE)
    return Step(Action.START, _grown(view, pb.TASK_STATE_STARTING))


def _grown(view: TaskView, state: int) -> int | None:
    return state if view.state < state else None


def _ending(view: TaskView, now: float) -> Step:
    """Not wanted any more, or ended: towards nothing running, nothing announced."""
    seen = view.container
    if seen is not None and seen.running:
        return _stopping(view, now)
    if not final(view.state):
        return _over(view)
    if view.announced:
        return Step(Action.WITHDRAW)
    if view.desired < pb.TASK_STATE_REMOVE:
        return Step(Action.NONE)
    return Step(Action.FORGET if seen is None else Action.REMOVE)


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


def _over(view: TaskView) -> Step:
    """Nothing of it runs: what is announced is withdrawn, then comes its final state."""
    seen = view.container
    if view.announced:
        return Step(Action.WITHDRAW)
    if view.failing and seen is not None and not seen.started:
        return Step(Action.REMOVE)  # what was made in vain
    state, err = _outcome(view)
    return Step(Action.NONE, state, err, until=0.0)


def _outcome(view: TaskView) -> tuple[int, str]:
    """The final state of a task of which nothing runs, and its error."""
    seen = view.container
    ran = seen is not None and seen.started
    code = seen.exit_code if seen is not None and ran else 0
    if view.failing:
        rejected = view.state < pb.TASK_STATE_STARTING and not ran
        words = view.failing
        if code and view.state >= pb.TASK_STATE_RUNNING:
            words = f"{exit_error(code)}: {words}"
        return (pb.TASK_STATE_REJECTED if rejected else pb.TASK_STATE_FAILED), words
    unwanted = view.desired > pb.TASK_STATE_RUNNING
    stopped = view.stopping_since is not None or view.killed or not view.opened
    if unwanted and (stopped or not ran):
        return pb.TASK_STATE_SHUTDOWN, ""
    if seen is None:
        return pb.TASK_STATE_FAILED, f"{LOST}: {view.name}"
    err = seen.error or exit_error(code)
    return (pb.TASK_STATE_FAILED if err else pb.TASK_STATE_COMPLETE), err
