"""A store whose commits fail while it is told so: how its users bear a full disk, tried at will.

Touches nothing itself; everything else is the store behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from meshnet_control.store.store import (
    Change,
    Delete,
    Expect,
    Object,
    Put,
    Store,
    StoreError,
)

_M = TypeVar("_M", bound=Object)


class FaultyStore:
    """A ``Store``.

    Args:
        behind: what does the work.
    """

    def __init__(self, behind: Store) -> None:
        self._behind = behind
        self.fault: StoreError | None = None
        """What each commit raises; None: it is done."""
        self.refused = 0
        """Commits that failed so."""
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """Awaited once, before the next commit: what others do between a reading and its write."""

    @property
    def revision(self) -> int:
        """Of the last commit."""
        return self._behind.revision

    @property
    def trouble(self) -> str:
        """Why commits fail now; empty: they do not."""
        return f"store: {self.fault}" if self.fault is not None else self._behind.trouble

    async def get(self, kind: type[_M], id: str) -> _M | None:  # noqa: A002 - the field's name
        """An object by its exact id; None when there is none."""
        return await self._behind.get(kind, id)

    async def list(self, kind: type[_M]) -> list[_M]:
        """Every object of a kind, in no promised order."""
        return await self._behind.list(kind)

    async def commit(self, writes: Sequence[Put | Delete], expect: Expect | None = None) -> int:
        """Write all or nothing; see ``Store.commit``.

        Raises:
            StoreError: the fault, or that of the store behind.
        """
        if self.fault is not None:
            self.refused += 1
            raise self.fault
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return await self._behind.commit(writes, expect)

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        """The commits after a revision; see ``Store.watch``."""
        return self._behind.watch(from_revision)

    async def close(self) -> None:
        """Close the store behind."""
        await self._behind.close()
