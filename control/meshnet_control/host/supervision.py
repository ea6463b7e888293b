"""What a supervisor decides: when to start again, who is hung, how one ended. PURE.

Be aware: the times are of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

STEADY_S: Final = 2.0
"""One that has lived that long is as good as new: it is started again at once, and so at most once
in that time."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
STARTS_S: Final = 120.0
"""Seconds until READY=1; a slow machine takes 30."""
ABORTS_S: Final = 2.0
"""Seconds to write the stacks after SIGABRT, before SIGKILL."""
WATCHDOG_S: Final = 20.0
"""Seconds without a sign of life. Signs come every quarter of it; a busy machine delays them."""
MOST_BYTES: Final = 4096
"""Of one message of sd_notify(3)."""


@dataclass(frozen=True, slots=True)
class Life:
    """One process from its start on.

    Attributes:
        began: when it was started.
        heard: its last sign of life; ``began`` before the first.
        ready: it has said so.
        stopping: it has said that it ends because it was asked to.
        aborted: when it was sent SIGABRT, None: it was not.
        failures: quick ends in a row before it.
    """

    began: float
    heard: float
    ready: bool = False
    stopping: bool = False
    aborted: float | None = None
    failures: int = 0


def begun(now: float, failures: int = 0) -> Life:
    """A process that starts now."""
    return Life(began=now, heard=now, failures=failures)


def told(life: Life, message: Mapping[str, str], now: float) -> Life:
    """``life`` after a message of its process."""
    ready = life.ready or message.get("READY") == "1"
    stopping = life.stopping or message.get("STOPPING") == "1"
    return replace(life, ready=ready, stopping=stopping, heard=now)


def aborted(life: Life, now: float) -> Life:
    """``life`` after it was sent SIGABRT, or SIGKILL later on."""
    return replace(life, aborted=now)


def overdue_at(life: Life, watchdog_s: float) -> float:
    """When something is to be done about a silence: SIGABRT first, SIGKILL then."""
    if life.aborted is not None:
        return life.aborted + ABORTS_S
    return life.heard + (watchdog_s if life.ready else max(STARTS_S, watchdog_s))


def failures_after(life: Life, now: float) -> int:
    """Quick ends in a row, the one of ``life`` included."""
    return life.failures + 1 if now - life.began < STEADY_S else 0


def pause_after(failures: int) -> float:
    """Seconds until the next start. None after the first end: mostly it is the only one."""
    if failures <= 1:
        return 0.0
    return float(min(FIRST_PAUSE_S * 2 ** min(failures - 2, 16), LONGEST_PAUSE_S))


def parsed(datagram: bytes) -> Mapping[str, str]:
    """The assignments in a message of sd_notify(3); lines that are none are passed over."""
    lines = datagram.decode(errors="replace").splitlines()
    return {key: value for key, found, value in (line.partition("=") for line in lines) if found}


def end_of(status: int | None) -> str:
    """How a process ended, in words.

    Args:
        status: as ``os.waitstatus_to_exitcode`` gives it; None: somebody else's child.
    """
    if status is None:
        return "ended"
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {_SIGNALS[-status]}"
    except KeyError:
        return f"killed by signal {-status}"


def was_asked(life: Life, status: int | None) -> bool:
    """Whether it was asked to end (SIGTERM), and did: that is no failure of its own."""
    return status == _ASKED if not life.stopping else status in {0, None}


_SIGNALS: Final = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
    9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU",
    31: "SIGSYS",
}  # fmt: skip
"""signal(7) on x86-64 and arm64; of those that end a process."""
_ASKED: Final = -15
"""Exit status of one that SIGTERM ended: it had no handler yet."""
