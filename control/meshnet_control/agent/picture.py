"""What is known of one task on its node: ``TaskView``, kept up to date.

The managers', the engine's and the kernel's words come in here; what follows from them is decided
in ``step``. Where an end may have been missed, a look at the engine is due (``look_at``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from meshnet_control.agent import inspected, process_watch
from meshnet_control.agent.step import Seen, TaskView
from meshnet_control.engine.client import Event

LOOK_S: Final = 1.0
"""How long the engine may take to tell of an end that we know of, before it is asked."""


class Picture:
    """What is known of one task.

    Args:
        view: to begin with.
        proc: proc(5) with the processes of the engine's containers.
        ended: called when its first process is gone, as the kernel says.
    """

    def __init__(self, view: TaskView, proc: Path, ended: Callable[[], None]) -> None:
        self.view = view
        self.changed = asyncio.Event()
        """Set with every word; who decides clears it first."""
        self._proc = proc
        self._ended = ended
        self._died: int | None = None
        """Exit code that an event told; None: none since its container was started."""
        self._process: process_watch.Process | None = None

    def see(self, **changes: Any) -> None:  # noqa: ANN401 - fields of TaskView
        """What is different from now on."""
        self.view = replace(self.view, **changes)
        self.changed.set()

    def refresh(self) -> None:
        """The engine is to be asked for the container's state: events may have been missed."""
        self.see(look_at=asyncio.get_running_loop().time())

    def happened(self, event: Event) -> None:
        """The engine says something about the container."""
        seen = self.view.container
        if seen is not None and event.container != seen.id:
            return
        if event.action == "die":
            self._died = event.exit_code
            if seen is not None:
                self.close()
                fresh = replace(seen, running=False, started=True, exit_code=event.exit_code)
                self.see(container=fresh)
        elif event.action == "start" and self._died is not None:
            self._died = None  # somebody started it again: it is to be ended
            self.refresh()
        elif event.action == "destroy" and seen is not None:
            self.lose()
        elif event.action.startswith("health_status: ") and seen is not None:
            self.see(container=replace(seen, health=event.action.partition(": ")[2]))

    def read(self, found: Mapping[str, Any]) -> Seen:
        """The container as the engine describes it, and as events told since.

        Args:
            found: ``GET /containers/{id}/json``.

        Raises:
            EngineError: that is none.
        """
        return inspected.seen_of(found, self._died)

    def looked(self, seen: Seen) -> None:
        """The engine was asked. An end that we know of and it does not: it is about to."""
        again = asyncio.get_running_loop().time() + LOOK_S
        doubt = seen.running and (self.view.ended or self.view.killed)
        self.see(look_at=again if doubt else None)

    def take(self, found: Mapping[str, Any], seen: Seen) -> None:
        """What the engine says of the container is what is seen from now on."""
        if seen.running and not self.view.opened and not inspected.gated(found):
            self.see(opened=True)
        if not seen.running:
            self.close()
        elif self._process is None and not self.view.ended:
            self._process = process_watch.watch(seen.pid, seen.id, self._gone, self._proc)
        self.see(container=seen)

    def lose(self) -> None:
        """The container is gone, and we did not remove it."""
        self.close()
        self.see(container=None, lost=True, look_at=None)

    def close(self) -> None:
        """Stops watching its process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _gone(self) -> None:
        """The kernel says that the container's first process has ended."""
        self._process = None
        self.see(ended=True, look_at=asyncio.get_running_loop().time() + LOOK_S)
        self._ended()
