"""Keeps who this node is, as it changes while the node is in a cluster, on the disk.

``keep`` ── new certificate, role, managers ──> ``run`` writes it as soon as the disk takes it ──>
``on_saved``. What only the disk makes true (a role, that an old root may go) waits for that.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from pathlib import Path

from meshnet_control.identity import identity as identities
from meshnet_control.identity.identity import Identity
from meshnet_control.store.store import RETRY

_log = logging.getLogger(__name__)


class IdentityKeeper:
    """Writes the newest one.

    Args:
        identity: as it is on the disk.
        state_dir: where.
        on_saved: this one is on the disk now; ``saved`` holds it.
    """

    def __init__(
        self, identity: Identity, state_dir: Path, on_saved: Callable[[Identity], None]
    ) -> None:
        self.identity = identity
        """The newest; it may be in memory alone."""
        self.saved = identity
        """The one on the disk."""
        self.trouble = ""
        """Why the newest is not on the disk; empty: it is, or is about to be."""
        self._state_dir, self._on_saved = state_dir, on_saved
        self._unsaved = asyncio.Event()

    def keep(self, identity: Identity) -> None:
        """Have it written."""
        self.identity = identity
        self._unsaved.set()

    async def run(self) -> None:
        """Write each new one, as soon as the disk takes it; until cancelled."""
        while True:
            await self._unsaved.wait()
            for delay in RETRY.delays(random.random):
                self._unsaved.clear()
                newest = self.identity
                try:
                    identities.save(self._state_dir, newest)
                except OSError as error:
                    if not self.trouble:
                        _log.warning("identity is not saved, trying again: %s", error)
                    self.trouble = f"identity: {error}"
                    await asyncio.sleep(delay)
                else:
                    self.trouble = ""
                    self.saved = newest
                    self._on_saved(newest)
                    break
