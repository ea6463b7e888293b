"""Addresses of a network as plain sets, for what reads them block by block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshnet_control.orchestrate.addresses import BLOCK


class Known:
    """Addresses that are all known.

    Args:
        held: in use, as numbers.
        remembered: of dead tasks.
    """

    def __init__(self, held: Iterable[int] = (), remembered: Iterable[int] = ()) -> None:
        self._held, self._remembered = set(held), set(remembered)

    def numbers(self) -> Sequence[int]:
        """Blocks of the addresses, ascending."""
        return sorted({number >> BLOCK for number in self._held | self._remembered})

    def of(self, block: int) -> tuple[Iterable[int], Iterable[int]]:
        """Addresses of a block."""
        held, remembered = self._held, self._remembered
        return (
            [number for number in held if number >> BLOCK == block],
            [number for number in remembered if number >> BLOCK == block],
        )
