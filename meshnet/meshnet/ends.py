"""Ends that come in time: whatever hangs, the next step follows.

One law for every wait at an end: it has a bound, what did not come is logged by its name, and
nobody waits for it again. What hangs is left to the end of the process, which has a bound, too
(``meshnet.process.limits.end_within``).

Be aware: cancelled is not ended. A task may take as long as it likes to heed it, a thread heeds
nothing; neither is waited for longer than its bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, Final, TypeVar

from meshnet.errors import MeshnetError

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

STEP_S: Final = 5.0
"""For one part of a process to end."""


async def within(seconds: float, work: Awaitable[object], otherwise: str) -> bool:
    """Do it, but not for longer; what goes wrong is logged, and the next step follows.

    A mistake of ours (any other error than those two) comes out: it is to be seen, as everywhere.
    Steps are in the stack of who made what they close, so that those after it are done all the
    same.

    Args:
        seconds: the bound.
        work: one step of an end.
        otherwise: what a person is told of it if it does not come, or fails.

    Returns:
        Whether it was done.

    Raises:
        Exception: a mistake of ours; never MeshnetError or OSError.
    """
    step = asyncio.ensure_future(work)
    try:
        await asyncio.wait({step}, timeout=seconds)
        if not step.done():
            _log.warning("%s: gave up after %.0f s", otherwise, seconds)
            return False
        if step.cancelled():  # by somebody else: nobody cancelled us
            _log.warning("%s: it was cancelled", otherwise)
            return False
        step.result()
    except (MeshnetError, OSError) as error:
        _log.warning("%s: %s", otherwise, error)
        return False
    finally:
        step.cancel()
    return True


async def closed(close: Callable[[], Awaitable[object]], seconds: float = STEP_S) -> bool:
    """Close a part; whether it did."""
    return await within(seconds, close(), f"{_name(close)} does not close")


async def ended(*tasks: asyncio.Future[Any], seconds: float = STEP_S) -> bool:
    """Cancel tasks and wait for their ends; whether all came. How they ended is theirs."""
    if not tasks:
        return True
    for task in tasks:
        task.cancel()
    done, late = await asyncio.wait(tasks, timeout=seconds)
    for task in done:
        if not task.cancelled():
            task.exception()  # asked for, so that nobody complains of it
    for task in late:
        name = task.get_name() if isinstance(task, asyncio.Task) else "a task"
        _log.warning("%s does not end: gave up after %.0f s", name, seconds)
    return not late


async def finishing(work: Awaitable[_T]) -> _T:
    """Do it to its end, also when who waits for it is cancelled.

    Nobody is left then whom a failure would concern: it is not logged as one that was missed.

    Raises:
        Exception: as the work does.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_looked_at)
    return await asyncio.shield(task)


async def executed(
    executor: Executor, last: Callable[[], object], otherwise: str, seconds: float = STEP_S
) -> bool:
    """Do something last in an executor of one thread, then give the thread up; whether it came.

    Args:
        executor: what it has begun is waited for, what it has not is dropped.
        last: done by its thread.
        otherwise: what a person is told if the thread hangs.
        seconds: the bound.
    """
    running = asyncio.get_running_loop().run_in_executor(executor, last)
    done = await within(seconds, running, otherwise)
    executor.shutdown(wait=False, cancel_futures=True)
    return done


def cut(transport: asyncio.WriteTransport | None) -> None:
    """End a connection at once, with what it has still to send; also one that has ended.

    ``abort`` alone raises AttributeError, CPython's own mistake, when the transport was closed
    while it had something to send and has sent it since: of its two states "closing" and "lost"
    (``_closing``, ``_conn_lost`` in Lib/asyncio/selector_events.py) only the first is set then.

    Args:
        transport: of a socket; None: of one that is gone.
    """
    if transport is None or (transport.is_closing() and not transport.get_write_buffer_size()):
        return
    transport.abort()


def _looked_at(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _name(close: Callable[[], Awaitable[object]]) -> str:
    return getattr(close, "__qualname__", "it").removesuffix(".close").removesuffix(".stop")
