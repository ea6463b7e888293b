"""The one thread that works on the kernel, in which a long round gives way to a short one.

```
 overlay, gwbridge ──> submit ────────> ┌────────────────────────────────┐
                                        │ a namespace | another | …      │ the thread
 who must not wait ──> first.submit ──> └──────────^─────────────────────┘
                                        give_way: between two of them
```
Be aware: a second thread would not be sooner, as both would want the interpreter (measured:
docs/decisions/0038-a-withdrawal-goes-between-two-namespaces.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class KernelThread(Executor):
    """Runs what is submitted in turn, and what is submitted to ``first`` as soon as it can be."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel")
        self.first = First(self._pool)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """After all that was submitted before."""
        return self._pool.submit(fn, *args, **kwargs)

    def give_way(self) -> None:
        """Do now what waits to be first; in the thread, where nothing is half done."""
        self.first.run()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Begin nothing more."""
        self.first.shutdown(wait, cancel_futures=cancel_futures)
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


class First(Executor):
    """What goes before everything else of a thread that is not begun."""

    def __init__(self, thread: Executor) -> None:
        self._thread = thread
        self._waiting: deque[Callable[[], None]] = deque()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Done when the thread is free or gives way, whichever comes first."""
        done: Future[T] = Future()

        def work() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - handed on whole
                done.set_exception(error)

        self._waiting.append(work)
        self._thread.submit(self.run)
        return done

    def run(self) -> None:
        """Do all that waits, in the thread."""
        while self._waiting:
            self._waiting.popleft()()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Drop what is not begun; the thread is somebody else's."""
        if cancel_futures:
            self._waiting.clear()
