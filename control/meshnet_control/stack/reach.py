"""How far the files of a stack may reach: how many, how deep, and what they stand for. Pure.

``include`` and ``extends`` let a few lines stand for any number of files and for any number of
copies of a service: ten files that each include the other nine are 10^16 at sixteen levels. One
account is kept for a whole stack; each level has its own ``Reach`` onto it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from meshnet_control.stack.merging import Override
from meshnet_control.stack.values import StackError

MOST_FILES: Final = 256
DEEPEST: Final = 16
MOST_BYTES: Final = 32 * 1024 * 1024
"""Of all files and of all copies of what is extended, about; ``VALUE`` for each value."""
VALUE: Final = 64
"""Bytes that a value counts, besides its text."""


@dataclass(slots=True)
class _Account:
    files: int = 0
    weight: int = 0
    extended: dict[Hashable, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reach:
    """One level of files and services that include and extend each other."""

    depth: int = 0
    _account: _Account = field(default_factory=_Account)

    @property
    def extended(self) -> dict[Hashable, dict[str, Any]]:
        """Files that services extend, each read once for all of them; to be added to."""
        return self._account.extended

    def deeper(self, name: str) -> Reach:
        """The next level.

        Args:
            name: of the file or service that includes or extends.

        Raises:
            StackError: it is too deep; a circle always is.
        """
        if self.depth >= DEEPEST:
            raise _beyond(name)
        return Reach(self.depth + 1, self._account)

    def file(self, name: str) -> None:
        """Count one file that is read.

        Raises:
            StackError: there were too many.
        """
        self._account.files += 1
        if self._account.files > MOST_FILES:
            raise _beyond(name)

    def holds(self, weight: int, name: str = "") -> None:
        """Count so many bytes more.

        Args:
            weight: the bytes.
            name: of what has them; empty: the caller says it.

        Raises:
            StackError: they are too many, with all before them.
        """
        self._account.weight += weight
        if self._account.weight > MOST_BYTES:
            raise _beyond(name)


def weight(value: Any) -> int:  # noqa: ANN401 - any YAML value
    """Bytes that a value counts, with all that is in it."""
    if isinstance(value, Override):
        return weight(value.value)
    if isinstance(value, Mapping):
        return VALUE + sum(VALUE + len(str(key)) + weight(one) for key, one in value.items())
    if isinstance(value, list):
        return VALUE + sum(map(weight, value))
    return VALUE + len(str(value))


def _beyond(name: str) -> StackError:
    where = f"{name}: " if name else ""
    return StackError(
        f"{where}what is included and extended goes beyond {MOST_FILES} files, {DEEPEST} levels "
        f"or {MOST_BYTES >> 20} MiB in all"
    )
