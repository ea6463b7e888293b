"""From the lab that should be and the one that is, to the changes between them. Pure.

A machine is whole when its namespace, its first process, its directories and its port on the LAN
are all there. A machine that is not whole is unmade and made again: there is nothing in between
worth repairing, its disk survives. A LAN that lost its bridge takes all machines with it.

Law: ``plan(desired, state after applying plan(desired, observed)) == []``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from meshnet_control.lab.layout import LAN


@dataclass(frozen=True, slots=True)
class Observed:
    """What is there of one lab, read from the kernel; files decide nothing here."""

    namespaces: frozenset[str] = frozenset()
    """Members (``h1``, ``client``, ``lan``) that have a network namespace."""
    inits: frozenset[str] = frozenset()
    """Members whose first process lives."""
    booted: frozenset[str] = frozenset()
    """Members whose first process sees the directories that we see."""
    ports: frozenset[str] = frozenset()
    """Members with a port on the bridge."""
    bridge: bool = False
    """Whether the bridge is there."""

    @property
    def members(self) -> frozenset[str]:
        """Machines of which anything at all is there."""
        return (self.namespaces | self.inits | self.ports) - {LAN}

    def is_whole(self, member: str) -> bool:
        """Whether nothing of this machine is missing."""
        parts = (self.namespaces, self.inits, self.booted, self.ports)
        return all(member in part for part in parts)


@dataclass(frozen=True, slots=True)
class Unmake:
    """Stop a machine and remove its namespace and port; its disk stays."""

    member: str


@dataclass(frozen=True, slots=True)
class UnmakeLan:
    """Remove what is left of the LAN."""


@dataclass(frozen=True, slots=True)
class MakeLan:
    """Make the LAN's namespace and bridge."""


@dataclass(frozen=True, slots=True)
class Make:
    """Make a machine: namespace, port, first process."""

    member: str


Change = Unmake | UnmakeLan | MakeLan | Make


@dataclass(frozen=True, slots=True)
class Desired:
    """The members that should be there; none: no lab at all."""

    members: tuple[str, ...] = field(default=())


def plan(desired: Desired, observed: Observed) -> list[Change]:
    """What to do, in order: removals, then the LAN, then machines in the order of ``desired``."""
    lan_is_there = observed.bridge or LAN in observed.namespaces
    keep_lan = bool(desired.members) and observed.bridge and LAN in observed.namespaces
    kept = {member for member in desired.members if keep_lan and observed.is_whole(member)}
    changes: list[Change] = [Unmake(member) for member in _ordered(observed.members - kept)]
    if lan_is_there and not keep_lan:
        changes.append(UnmakeLan())
    if desired.members and not keep_lan:
        changes.append(MakeLan())
    changes += [Make(member) for member in desired.members if member not in kept]
    return changes


def _ordered(members: Iterable[str]) -> list[str]:
    return sorted(members, key=lambda member: (len(member), member))
