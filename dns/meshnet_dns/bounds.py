"""How much of a bounded thing one container may use, so that the others have theirs. PURE.

A container has at most ``each``. All together have at most ``host``, and the last quarter of that
is for containers that use ``few``: those who take much are refused before those who ask now and
then.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Bound:
    """The bound of a host.

    Attributes:
        each: of one container.
        host: of all.
        few: what a container may use while most of ``host`` is in use.
        used: in use now, by all.
    """

    each: int
    host: int
    few: int
    used: int = 0

    def admits(self, own: int) -> bool:
        """Whether a container that uses ``own`` may use one more."""
        if own >= self.each or self.used >= self.host:
            return False
        return own < self.few or self.used < self.host - self.host // 4


class Share:
    """What one container uses of a ``Bound``."""

    __slots__ = ("bound", "own")

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self.own = 0

    def take(self) -> bool:
        """Use one more; False: there is none for this container, and none was taken."""
        if not self.bound.admits(self.own):
            return False
        self.own += 1
        self.bound.used += 1
        return True

    def give(self) -> None:
        """One less; to be called once for each that was taken."""
        self.own -= 1
        self.bound.used -= 1
