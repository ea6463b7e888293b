"""One epoll loop for every socket of the resolver: who is ready, who is late, when to end.

asyncio would cost 10 MB and three quarters of the speed (measured), and the
resolver needs no more than this: handlers by descriptor, and timers. With no timer set it sleeps
without waking up.

Be aware: one thread. A handler that blocks stops every answer on the host.
"""

from __future__ import annotations

import errno
import heapq
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import Final

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Why accept(2) fails when it is not for the client's sake."""
PAUSE_S: Final = 0.1

Handler = Callable[[int], None]
"""Called with the epoll events (``READ``, ``WRITE``, and EPOLLERR/EPOLLHUP at any time)."""


class Timer:
    """A call to come; ``cancel`` makes it not come."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Forget the call; harmless when it has been made."""
        self.call = None


class Loop:
    """Descriptors, timers and signals, until ``stop``.

    Args:
        now: a clock of seconds that never goes back; read as ``now``, too.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._turn = count()
        self._stopped = False

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Call ``handler`` whenever ``fd`` is ready for ``events`` (level-triggered)."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def change(self, fd: int, events: int) -> None:
        """Wait for other events of a watched descriptor."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Watch ``fd`` no more. To be called before it is closed; unknown is fine."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def after(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Make ``call`` once, ``delay_s`` seconds from now."""
        timer = Timer(call)
        heapq.heappush(self._timers, (self.now() + delay_s, next(self._turn), timer))
        return timer

    def every(self, period_s: float, call: Callable[[], None]) -> None:
        """Make ``call`` now and every ``period_s`` seconds."""

        def again() -> None:
            call()
            self.after(period_s, again)

        again()

    def pause(self, fd: int, events: int, delay_s: float) -> Timer:
        """Wait for nothing of a watched descriptor for so long, then for ``events`` again.

        For a listener when descriptors have run out: it stays ready all the time. The timer is to
        be cancelled when ``fd`` is forgotten before.
        """
        self.change(fd, 0)
        return self.after(delay_s, lambda: self.change(fd, events))

    def stop_on(self, signals: Iterable[signal.Signals], asked: Callable[[], None]) -> None:
        """End ``run`` when one of ``signals`` arrives. Main thread only.

        Args:
            signals: mostly SIGTERM and SIGINT.
            asked: called as the signal arrives, however busy a handler is.
        """
        mine, theirs = socket.socketpair()
        for end in (mine, theirs):
            end.settimeout(0)
        for number in signals:
            signal.signal(number, lambda _number, _frame: asked())
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)

        def arrived(_events: int, _ends: object = (mine, theirs)) -> None:
            mine.recv(64)
            self.stop()

        self.watch(mine.fileno(), READ, arrived)

    def stop(self) -> None:
        """Let ``run`` return after the handlers of this round."""
        self._stopped = True

    def run(self) -> None:
        """Serve until ``stop``."""
        self._stopped = False
        while not self._stopped:
            for fd, events in self._epoll.poll(self._wait_s()):
                # A handler earlier in this round may have closed the descriptor of a later one.
                handler = self._handlers.get(fd)
                if handler is not None:
                    handler(events)
            self._run_timers()

    def _wait_s(self) -> float | None:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        # epoll rounds down to milliseconds; waking early would spin until the time has come.
        return max(0.0, self._timers[0][0] - self.now()) + 0.001

    def _run_timers(self) -> None:
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                timer.call()
