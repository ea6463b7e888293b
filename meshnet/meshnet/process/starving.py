"""Signs of life for a loop that is not hung but starved.

A watchdog counts seconds. On a host that is busy with other things a loop may be kept from its
turn for all of them, and to end it costs another start, of which such a host has least to give. So
a thread gives the sign while the kernel says that we waited for a processor. What silence that does
not explain ends as ever: a loop that waits for a lock, computes without end, or is stopped.

Source: proc_pid_schedstat(5): nanoseconds for which a thread was ready to run and did not.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from meshnet.process.notify import PINGS, Notifier

STARVED: Final = 0.5
"""Of a period: who waited longer than that for a processor is starved."""
_TASKS: Final = Path("/proc/self/task")


@dataclass(frozen=True, slots=True)
class Silence:
    """What a loop's silence is.

    Attributes:
        hung_s: seconds of it for which a lack of processors is no reason.
        excused: whether a sign of life is to be given for it.
    """

    hung_s: float = 0.0
    excused: bool = False


def judged(
    before: Silence, *, beaten: bool, elapsed_s: float, lacked_s: float, watchdog_s: float
) -> Silence:
    """The silence at a period's end. Pure.

    Args:
        before: at its beginning.
        beaten: whether the loop had its turn in it.
        elapsed_s: how long it was.
        lacked_s: for how long of it we waited for a processor.
        watchdog_s: nobody is excused who was hung that long.
    """
    if beaten:
        return Silence()
    hung_s = before.hung_s + max(0.0, elapsed_s - lacked_s)
    return Silence(hung_s, lacked_s > STARVED * elapsed_s and hung_s < watchdog_s)


def lacked_s(before: Mapping[int, int], now: Mapping[int, int]) -> float:
    """Seconds for which the most neglected thread waited. Pure.

    The most neglected, as the others may be waiting for what it holds.

    Args:
        before: thread id → nanoseconds of waiting in all its life.
        now: the same, later.
    """
    grown = (waited - before.get(thread, 0) for thread, waited in now.items())
    return max([0, *grown]) / 1e9


def waits() -> dict[int, int]:
    """Thread id of this process → nanoseconds it has waited; empty where no kernel counts them."""
    found = {}
    for task in _TASKS.iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):  # ended, or not counted
            found[int(task.name)] = int((task / "schedstat").read_text().split()[1])
    return found


class Witness:
    """A thread that speaks for a loop while it is entered.

    Args:
        notifier: says it to who watches us; nothing is done if nobody does.
        read: ``waits``.
    """

    def __init__(self, notifier: Notifier, read: Callable[[], Mapping[int, int]] = waits) -> None:
        self._notifier = notifier
        self._read = read
        self._beaten = threading.Event()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)

    def __enter__(self) -> Self:
        if self._notifier.period_s is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()

    def beat(self) -> None:
        """The loop has its turn, and says so itself."""
        self._beaten.set()
        self._notifier.alive()

    def _watch(self) -> None:
        period_s = self._notifier.period_s or 0.0
        silence, waited, clock = Silence(), self._read(), time.monotonic()
        while not self._left.wait(period_s):
            beaten = self._beaten.is_set()
            self._beaten.clear()
            before, began = waited, clock
            waited, clock = self._read(), time.monotonic()
            silence = judged(
                silence,
                beaten=beaten,
                elapsed_s=clock - began,
                lacked_s=lacked_s(before, waited),
                watchdog_s=period_s * PINGS,
            )
            if silence.excused:
                self._notifier.excused()
