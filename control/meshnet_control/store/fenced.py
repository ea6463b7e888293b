"""A store whose commits are written only while a fence stands: what a leader writes with.

A paused leader wakes up and goes on writing what it decided; another leads since. Its writes
compare the key that says who leads, so none of them is written (Kleppmann, "How to do distributed
locking").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meshnet_control.store.layered import LayeredStore
from meshnet_control.store.store import Delete, Expect, Put, Store


@dataclass(frozen=True)
class Fence:
    """What must still be true for a commit to be written: who leads is who led."""

    key: bytes
    mod_revision: int


class FenceableStore(Store, Protocol):
    """A store that several managers write to."""

    async def commit(
        self,
        writes: Sequence[Put | Delete],
        expect: Expect | None = None,
        fence: Fence | None = None,
    ) -> int:
        """Write all or nothing, while the fence stands; ``NotLeadingError`` when it does not."""
        ...


class FencedStore(LayeredStore[FenceableStore]):
    """A ``Store`` whose commits are written only while a fence stands."""

    def __init__(self, behind: FenceableStore, fence: Fence) -> None:
        super().__init__(behind)
        self._fence = fence

    async def commit(self, writes: Sequence[Put | Delete], expect: Expect | None = None) -> int:
        """Write all or nothing; see ``Store.commit``.

        Raises:
            NotLeadingError: the fence does not stand any more; nothing is written.
            OutOfSequenceError: an expectation does not hold; nothing is written.
            StoreError: see ``EtcdStore.commit``.
        """
        return await self._behind.commit(writes, expect, self._fence)
