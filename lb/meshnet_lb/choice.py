"""How one service's new connections on one network are spread, as rules and maps: values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meshnet.model.snapshot import Protocol
from meshnet.nft.objects import Set
from meshnet_lb.tables import Table


@dataclass(frozen=True, slots=True)
class Choice:
    """Rules that lead a connection's first packet, and what they look into.

    Attributes:
        steps: what each rule does: statements, and the ``dnat`` behind them, or "".
        sets: the maps.
        backends: name of the map whose values are the backends that are chosen.
        table: who has each slot, where clients are hashed.
    """

    steps: tuple[tuple[str, str], ...]
    sets: tuple[Set, ...]
    backends: str
    table: Table | None = None

    def rules(self) -> tuple[str, ...]:
        """As they stand in a VIP's chain: the port stays."""
        return tuple(self._rules("", ""))

    def to_port(self, protocol: Protocol, target: int) -> tuple[str, ...]:
        """As they stand in a published port's chain."""
        return tuple(self._rules(f"meta l4proto {protocol} ", f" : {target}"))

    def _rules(self, head: str, tail: str) -> Iterator[str]:
        for statements, dnat in self.steps:
            yield f"{head}{statements}{dnat}{tail}" if dnat else statements
