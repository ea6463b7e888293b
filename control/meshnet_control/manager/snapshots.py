"""Automatic snapshots of a manager's store: every hour, five kept, in its state directory.

```
 snapshots/20261126T021709Z.tar   what meshnet backup writes, without the store's keys
```

One is made when the newest is an hour old and something has changed since. They are for a store
that a disk has damaged or a person has emptied, on this very host: ``meshnet restore --replace``.

Clocks are set: a snapshot of a time that has not come is neither the newest nor one too many, so
snapshots go on after a clock went back, and those that a clock at 1970 meets outlive it.

Be aware: they are sealed as the store is. When its key changes (autolock) those sealed with the one
before can be opened by nobody: they go, and a new one is made at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from meshnet_control.manager import archive
from meshnet_control.manager.archive import ArchiveError, Copied
from meshnet_control.store.files import SNAPSHOTS
from meshnet_control.store.store import StoreClosedError, StoreError

_log = logging.getLogger(__name__)

FOLDER: Final = SNAPSHOTS
PERIOD_S: Final = float(os.environ.get("MESHNET_SNAPSHOT_S", "3600"))
"""Between two snapshots; 0: none are made."""
KEPT: Final = int(os.environ.get("MESHNET_SNAPSHOTS", "5"))
LOOK_S: Final = 10.0
"""Between two looks at the clock and at the store's key."""
_FORM: Final = "%Y%m%dT%H%M%SZ"
_SUFFIX: Final = ".tar"


def surplus(names: Sequence[str], kept: int) -> list[str]:
    """Which of these snapshots are one too many, the oldest; PURE."""
    return sorted(names, reverse=True)[max(kept, 1) :]


def made_at(path: Path) -> float | None:
    """When a snapshot was made, Unix seconds, by its name; None: it is none."""
    try:
        when = datetime.strptime(path.name, f"{_FORM}{_SUFFIX}").replace(tzinfo=UTC)
    except ValueError:
        return None
    return when.timestamp()


def listed(state_dir: Path) -> list[tuple[Path, float]]:
    """The snapshots in a state directory and when they were made, the newest first."""
    folder = state_dir / FOLDER
    found = [(path, made_at(path)) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(((p, at) for p, at in found if at is not None), key=lambda s: s[1], reverse=True)


def split(made: Sequence[tuple[Path, float]], now: float) -> tuple[list[Path], list[Path]]:
    """Those of the past and those of a time that has not come, each the newest first; PURE."""
    return [p for p, at in made if at <= now], [p for p, at in made if at > now]


class Snapshots:
    """Makes them for as long as this manager runs.

    Args:
        store: the cluster's.
        state_dir: of this node.
        wall: Unix seconds.
    """

    def __init__(self, store: Copied, state_dir: Path, wall: Callable[[], float]) -> None:
        self._store, self._state_dir, self._wall = store, state_dir, wall
        self._revision = -1
        self._key_name = ""
        self.trouble = ""
        """Why there is no newer one; empty: nothing is wrong."""

    async def run(self) -> None:
        """Until cancelled, or until the store closes."""
        while PERIOD_S > 0:
            try:
                if self._due():
                    await self._make()
                self.trouble = ""
            except StoreClosedError:
                return
            except (ArchiveError, StoreError, OSError) as error:
                if not self.trouble:
                    _log.warning("no snapshot is made, trying again: %s", error)
                self.trouble = f"snapshot: {error}"
            await asyncio.sleep(LOOK_S)

    def _due(self) -> bool:
        now, there = self._wall(), listed(self._state_dir)
        past, _ = split(there, now)
        if not past or self._store.key_name != self._key_of(past[0]):
            return True
        newest = dict(there)[past[0]]
        return now - newest >= PERIOD_S and self._store.revision != self._revision

    def _key_of(self, path: Path) -> str:
        if self._key_name:
            return self._key_name
        try:
            return archive.read_manifest(path).key_name
        except ArchiveError:
            return ""

    async def _make(self) -> None:
        folder = self._state_dir / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        now, revision, key_name = self._wall(), self._store.revision, self._store.key_name
        path = folder / f"{datetime.fromtimestamp(now, UTC).strftime(_FORM)}{_SUFFIX}"
        path.unlink(missing_ok=True)
        await archive.backup(path, self._state_dir, self._store, now, keys=False)
        self._revision, self._key_name = revision, key_name
        for other, _ in listed(self._state_dir):
            if other != path and not self._opens(other):
                other.unlink(missing_ok=True)
        for paths in split(listed(self._state_dir), now):
            for name in surplus([p.name for p in paths], KEPT):
                (folder / name).unlink(missing_ok=True)

    def _opens(self, path: Path) -> bool:
        """Whether the store's key of now opens a snapshot."""
        try:
            return archive.read_manifest(path).key_name == self._key_name
        except ArchiveError:
            return False
