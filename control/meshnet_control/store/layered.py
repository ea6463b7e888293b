"""A store in front of another one: all that it does not do itself is done there.

Touches nothing itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Generic, TypeVar

from meshnet_control.store.store import Change, Object, Store, Where

_M = TypeVar("_M", bound=Object)
_S = TypeVar("_S", bound=Store)


class LayeredStore(Generic[_S]):
    """A ``Store`` but for ``commit``, which is what whoever inherits does otherwise.

    Args:
        behind: what does the work.
    """

    def __init__(self, behind: _S) -> None:
        self._behind = behind

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

    async def list(self, kind: type[_M], where: Where | None = None) -> list[_M]:
        """The objects of a kind that meet the conditions, in no promised order."""
        return await self._behind.list(kind, where)

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        """The commits after a revision; see ``Store.watch``."""
        return self._behind.watch(from_revision)

    async def close(self) -> None:
        """Close the store behind."""
        await self._behind.close()
