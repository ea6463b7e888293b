"""A store whose commits fail while it is told so: how its users bear a full disk, tried at will.

Touches nothing itself; everything else is the store behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from meshnet_control.store.layered import LayeredStore
from meshnet_control.store.store import (
    Delete,
    Expect,
    Put,
    Store,
    StoreError,
)


class FaultyStore(LayeredStore[Store]):
    """A ``Store``.

    Args:
        behind: what does the work.
    """

    def __init__(self, behind: Store) -> None:
        super().__init__(behind)
        self.fault: StoreError | None = None
        """What each commit raises; None: it is done."""
        self.refused = 0
        """Commits that failed so."""
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """Awaited once, before the next commit: what others do between a reading and its write."""

    @property
    def trouble(self) -> str:
        """Why commits fail now; empty: they do not."""
        return f"store: {self.fault}" if self.fault is not None else self._behind.trouble

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
