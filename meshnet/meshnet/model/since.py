"""What a round of a reconciler knows to be there without reading it (``meshnet.reconcile``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Since(Generic[D]):
    """What need not be read again."""

    realised: D
    """What the last round left; it is there."""
    disturbed: frozenset[str | None] = frozenset()
    """Network namespaces in which somebody may have changed it since; None: the host's."""

    def is_left(self, netns: str | None, had: object, wanted: object) -> bool:
        """Whether what is wanted in a namespace is the same object that is realised there."""
        return had is wanted and netns not in self.disturbed
