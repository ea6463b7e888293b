"""A store whose commits are written only while a fence stands: what a leader writes with.

A paused leader wakes up and goes on writing what it decided; another leads since. Its writes
compare the key that says who leads, so none of them is written (Kleppmann, "How to do distributed
locking").
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from meshnet_control.store.store import Change, Delete, Expect, Object, Put, Store

_M = TypeVar("_M", bound=Object)


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


class FencedStore:
    """A ``Store`` whose commits are written only while a fence stands."""

    def __init__(self, behind: FenceableStore, fence: Fence) -> None:
        self._behind, self._fence = behind, fence

    @property
    def revision(self) -> int:
        """Of the last commit."""
        return self._behind.revision

    @property
    def trouble(self) -> str:
        """Why commits fail now; empty: they do not."""
        return self._behind.trouble

    async def get(self, kind: type[_M], id: str) -> _M | None:  # noqa: A002 - the field's name
        """An object by its exact id; None when there is none."""
        return await self._behind.get(kind, id)

    async def list(self, kind: type[_M]) -> list[_M]:
        """Every object of a kind, in no promised order."""
        return await self._behind.list(kind)

    async def commit(self, writes: Sequence[Put | Delete], expect: Expect | None = None) -> int:
        """Write all or nothing; see ``Store.commit``.

        Raises:
            NotLeadingError: the fence does not stand any more; nothing is written.
            OutOfSequenceError: an expectation does not hold; nothing is written.
            StoreError: see ``EtcdStore.commit``.
        """
        return await self._behind.commit(writes, expect, self._fence)

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        """The commits after a revision; see ``Store.watch``."""
        return self._behind.watch(from_revision)

    async def close(self) -> None:
        """Close the store behind."""
        await self._behind.close()
