"""meshnet-manager on a host that is no manager: loaded for the next ``swarm init``, or ended.

```
 in no cluster    ── have ──> it stands by (host/standby.py): holds neither store nor port
 becomes a worker ── end ───> it has ended
 left a cluster   ── end ───> what managed has ended ── have ──> another one stands by
```
While this node is in a cluster ``managing.py`` keeps it as the role wants it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from meshnet import ends
from meshnet_control.dataplane.reconcilers import Spawn
from meshnet_control.host import manager_process, standby
from meshnet_control.host.manager_process import STOPS_S, ManagerProcessError


class StandingBy:
    """Has meshnet-manager stand by, and ends it; never both at once.

    Args:
        run_dir: where one that stands by says so.
        state_dir: MARK.
        spawn: starts a task whose failure ends the process.
        in_cluster: whether this node is in one, or was when its last process stopped.
    """

    def __init__(
        self, run_dir: Path, state_dir: Path, spawn: Spawn, in_cluster: Callable[[], bool]
    ) -> None:
        self._run_dir, self._state_dir = run_dir, state_dir
        self._spawn, self._in_cluster = spawn, in_cluster
        self._keeping = asyncio.Lock()
        self._loads = False
        """We have had one loaded, and nobody has had it manage since."""

    def have(self) -> None:
        """Have it loaded for the next ``swarm init``; without it that takes longer."""
        self._spawn(self._stand_by(), "have meshnet-manager stand by")

    def begins(self) -> None:
        """It is to manage from now on: it will hold a store and a port."""
        self._loads = False

    async def end(self) -> None:
        """End it, unless it stands by, or is about to, for a node in no cluster: it holds nothing.

        One that still loads looks for itself, when it has, whether it is to manage.
        """
        async with self._keeping:
            loads, self._loads = self._loads, False
            if not self._in_cluster() and (loads or standby.waits(self._run_dir)):
                return
            stopping = manager_process.stop(self._run_dir, self._state_dir)
            await ends.within(3 * STOPS_S, stopping, "meshnet-manager is left as it is")

    async def _stand_by(self) -> None:
        async with self._keeping:
            if not self._in_cluster():
                with suppress(ManagerProcessError, OSError):
                    await asyncio.to_thread(manager_process.stand_by, self._state_dir)
                    self._loads = True
                await asyncio.to_thread(standby.load)
