"""meshnet-manager on this host: there while this node is a manager, and never otherwise.

```
 init, join   ── begin ──> it serves, or one sentence why not
 resume, promoted  ── follow ──> link, then MARK and whoever keeps processes is told ─┐ cannot:
 demoted           ── follow ──> link closed, it is ended, its store is erased ───────┘ says why,
                                                                                   tries again
```
The role that counts is the one on the disk: meshnet-manager reads it when it starts, and it is what
is found after a crash.

Be aware: a host on which it cannot be started stays the node that it is. It only does not manage.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from meshnet import ends
from meshnet.errors import ControlError
from meshnet.kernel.host_probe import HostProbe
from meshnet.model.wellknown import GOSSIP_PORT
from meshnet_control.cluster.roles import MANAGER, WORKER
from meshnet_control.dataplane.reconcilers import Spawn
from meshnet_control.host import manager_process
from meshnet_control.host.manager_process import ManagerProcessError
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.link.manager_link import STARTS_S, ManagerLink
from meshnet_control.store import files
from meshnet_control.store.store import RETRY

_log = logging.getLogger(__name__)

JOINS_S: Final = 100.0
"""For another manager to serve: the store may have to move first, and etcd to catch up."""
STARTING: Final = "meshnet-manager is being started"


class Managing:
    """Keeps meshnet-manager as this node's role wants it.

    Args:
        run_dir: its socket.
        state_dir: MARK and its store.
        spawn: starts a task whose failure ends the process.
        on_certificate: it has issued this node another certificate.
        on_hosts: a host begins or ceases to answer.
    """

    def __init__(
        self,
        run_dir: Path,
        state_dir: Path,
        spawn: Spawn,
        on_certificate: Callable[[Certificates], None],
        on_hosts: Callable[[], None],
    ) -> None:
        self._run_dir, self._state_dir, self._spawn = run_dir, state_dir, spawn
        self._on_certificate, self._on_hosts = on_certificate, on_hosts
        self.link: ManagerLink | None = None
        """To meshnet-manager; None while this node is not a manager."""
        self.probe: HostProbe | None = None
        """Asks hosts that gossip misses, for the link."""
        self.error = ""
        """Why it cannot be started or ended now; empty: it could."""
        self._linked: asyncio.Task[None] | None = None
        self._who: Identity | None = None
        self._begun = True
        """What the role wants is done."""
        self._changed = asyncio.Event()

    async def begin(
        self, who: Identity, *, within_s: float = STARTS_S, unlock_key: bytes = b""
    ) -> None:
        """Have it run and wait until it serves.

        Args:
            who: this node, a manager, as it is on the disk.
            within_s: the bound.
            unlock_key: of a cluster that is born locked; empty: it is not.

        Raises:
            ControlError: it does not; one sentence. It may run.
        """
        self.follow(who)
        try:
            await self._start(who)
        except (ManagerProcessError, OSError) as error:
            raise ControlError(str(error), 500) from error
        if self.link is not None:
            await self.link.started(unlock_key, within_s)
        self._begun = True

    def follow(self, who: Identity) -> None:
        """This node is on the disk as this one; ``run`` does what that wants."""
        if who.role == MANAGER and self.link is None:
            self._open(who)
        before = self._who.role if self._who is not None else WORKER
        self._who = who
        if who.role != before:
            self._begun = False
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed.clear()
            if self._who is not None and not self._begun:
                await self._settle(self._who)
            await self._changed.wait()

    async def close(self) -> None:
        """Say and hear nothing more; it goes on."""
        link, self.link = self.link, None
        probe, self.probe = self.probe, None
        linked, self._linked = self._linked, None
        if probe is not None:
            await ends.closed(probe.close)
        if linked is not None:
            await ends.ended(linked)
        if link is not None:
            await ends.closed(link.close)

    # ---- inside ----

    async def _settle(self, who: Identity) -> None:
        """Try until it is done, or until this node is another one."""
        for delay in RETRY.delays(random.random):
            try:
                await (self._start(who) if who.role == MANAGER else self._end())
            except (ManagerProcessError, OSError) as error:
                if self.error != str(error):
                    _log.warning("%s; trying again", error)
                self.error = str(error)
            else:
                self.error = ""
                self._begun = self._who is not None and self._who.role == who.role
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), delay)
                return

    def _open(self, who: Identity) -> None:
        self.link = ManagerLink(self._run_dir, who, self._on_certificate)
        self._linked = self._spawn(self.link.run(), "link to meshnet-manager")
        self.probe = HostProbe(GOSSIP_PORT, self._on_hosts)

    async def _start(self, who: Identity) -> None:
        if self.link is None:
            self._open(who)
        await asyncio.to_thread(manager_process.start, self._run_dir, self._state_dir)

    async def _end(self) -> None:
        """This node is a manager no more: the others have let it out, and what it holds is old."""
        await self.close()
        await manager_process.stop(self._run_dir, self._state_dir)
        await asyncio.to_thread(files.erase, self._state_dir)
        _log.info("this node is a worker now: meshnet-manager has ended")
