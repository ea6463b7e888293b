"""What meshnetd and meshnet-manager share: an orderly start, signs of life, an end in time.

A part that fails by a programming error ends the process; who keeps it starts the next one.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from meshnet.errors import MeshnetError
from meshnet.process import limits, logs, revival
from meshnet.process.notify import Notifier
from meshnet_control.host.paths import run_dir, state_dir
from meshnet_control.host.supervisor_keeper import keep, live

_log = logging.getLogger(__name__)


class Program:
    """One process, from its start to the signal that ends it.

    Args:
        end_s: seconds that an end may take once it was asked for; the log says what took longer.
    """

    def __init__(self, end_s: float) -> None:
        self._end_s = end_s
        self.notifier = Notifier()
        """Who starts this process, and again."""
        self._ended: asyncio.Future[None]
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, stack: AsyncExitStack) -> None:
        """Heed signals, give signs of life."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        stack.callback(self.spawn(live(self.notifier), "signs of life").cancel)

    def starting(self, doing: str) -> None:
        """Tell who waits for us."""
        self.notifier.starting(doing)
        _log.info("%s", doing)

    async def idle(self, until: Coroutine[Any, Any, None]) -> bool:
        """Be ready, with nothing to do.

        Args:
            until: what ends it.

        Returns:
            Whether that came; False: a signal did.

        Raises:
            Exception: a part failed, or what is waited for.
        """
        self.notifier.ready()
        waiting = asyncio.ensure_future(until)
        try:
            await asyncio.wait({waiting, self._ended}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                await self._ended
                return False
            waiting.result()
        finally:
            waiting.cancel()
        return True

    async def serve(self, stack: AsyncExitStack) -> None:
        """Be ready, and keep who keeps us alive, until a signal comes.

        Raises:
            Exception: a part failed.
        """
        supervisor = revival.told()
        if supervisor is not None:
            keeping = self.spawn(keep(partial(revival.revive, supervisor)), "keep supervisor")
            stack.callback(keeping.cancel)
        self.notifier.ready()
        await self._ended

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run in the background; a failure ends the process."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self._ended.done():
            if isinstance(error, MeshnetError):  # foreseen: its sentence says all
                _log.error("%s: %s", task.get_name(), error)
            else:
                _log.error("%s failed", task.get_name(), exc_info=error)
            self._ended.set_exception(error)

    def _end(self) -> None:
        self.notifier.stopping()
        limits.end_within(self._end_s)
        if not self._ended.done():
            self._ended.set_result(None)


def parser(name: str, what: str) -> argparse.ArgumentParser:
    """The command line that each has."""
    made = argparse.ArgumentParser(prog=name, description=what)
    made.add_argument("--run-dir", type=Path, default=run_dir(), help="sockets")
    made.add_argument("--state-dir", type=Path, default=state_dir(), help="what outlives a boot")
    made.add_argument("--debug", action="store_true", help="log more")
    return made


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Its arguments; this process logs, is root's and may open many files from here on."""
    asked = parser.parse_args(arguments)
    logs.begin(logging.DEBUG if asked.debug else logging.INFO)
    for noisy in ("asyncio", "grpc"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if os.geteuid() != 0:
        parser.exit(1, f"{parser.prog}: must be run as root\n")
    limits.raise_descriptors()
    limits.leave_no_core()
    return asked
