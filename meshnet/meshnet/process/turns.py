"""How long an event loop is away from its descriptors: who waits for it waits that long.

    select() ──> callbacks, one after the other ──> select()
              └───────────── a turn ──────────────┘

Each turn is timed where it begins and ends, so the longest one is missed by nobody: a timer that
looks at the clock from time to time sees a block only when it falls due in one.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
LONG_S: Final = 0.005
"""Turns that are shorter hold up nobody, and most are."""


class TurnsSelector(selectors.EpollSelector):
    """A selector that tells how long each turn was.

    Args:
        told: seconds of a turn of ``LONG_S`` and more.
        clock: seconds, monotonic.
    """

    def __init__(
        self, told: Callable[[float], None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        super().__init__()
        self._told, self._clock = told, clock
        self._began: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait, as every selector does; a turn ends before, the next one begins after."""
        if self._began is not None and (took := self._clock() - self._began) >= LONG_S:
            self._told(took)
        ready = super().select(timeout)
        self._began = self._clock()
        return ready


def run(main: Coroutine[Any, Any, T], told: Callable[[float], None]) -> T:
    """``asyncio.run``, with a loop whose long turns are told.

    Raises: what ``main`` raises.
    """

    def loop() -> asyncio.AbstractEventLoop:
        made = asyncio.SelectorEventLoop(TurnsSelector(told))
        asyncio.set_event_loop(made)
        return made

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)
