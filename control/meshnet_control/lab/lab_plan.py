"""From the lab that should be and the one that is, to the changes between them. Pure.

A machine is whole when its namespace, its first process, its directories, its address and its port
on its LAN are all there. A machine that is not whole is unmade and made again: there is nothing in
between worth repairing, its disk survives; so is one that moves to another LAN or address. A LAN
that lost its bridge takes its machines with it.

Law: ``plan(desired, state after applying plan(desired, observed)) == []``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface

from meshnet_control.lab.layout import LAN, Layout


@dataclass(frozen=True, slots=True)
class Place:
    """Where a machine is: its LAN and its address there."""

    lan: str
    address: IPv4Interface


@dataclass(frozen=True, slots=True)
class Observed:
    """What is there of one lab, read from the kernel; files decide nothing here."""

    namespaces: frozenset[str] = frozenset()
    """Members (``h1``, ``client``, ``lan``) that have a network namespace."""
    inits: frozenset[str] = frozenset()
    """Members whose first process lives."""
    booted: frozenset[str] = frozenset()
    """Members whose first process sees the directories that we see."""
    ports: Mapping[str, str] = field(default_factory=dict)
    """Member -> LAN on whose bridge its port is; empty: on none."""
    lans: Mapping[str, IPv4Interface | None] = field(default_factory=dict)
    """LAN that has a bridge -> the router's address there."""
    addresses: Mapping[str, IPv4Interface | None] = field(default_factory=dict)
    """Member whose interface can be looked at -> its address."""

    @property
    def members(self) -> frozenset[str]:
        """Machines of which anything at all is there."""
        return (self.namespaces | self.inits | self.ports.keys()) - {LAN}

    @property
    def is_up(self) -> bool:
        """Whether there is a LAN to be on."""
        return LAN in self.namespaces and bool(self.lans)

    def is_whole(self, member: str) -> bool:
        """Whether nothing of this machine is missing, wherever it is."""
        parts = (self.namespaces, self.inits, self.booted, self.ports)
        return all(member in part for part in parts)

    def is_at(self, member: str, place: Place) -> bool:
        """Whether it is whole and there."""
        return (
            self.is_whole(member)
            and self.ports[member] == place.lan
            and self.addresses.get(member, place.address) == place.address
        )


@dataclass(frozen=True, slots=True)
class Unmake:
    """Stop a machine and remove its namespace and port; its disk stays."""

    member: str


@dataclass(frozen=True, slots=True)
class UnmakeLan:
    """Remove what is left of a LAN."""

    lan: str


@dataclass(frozen=True, slots=True)
class UnmakeRouter:
    """Remove the LANs' namespace and all that is left in it."""


@dataclass(frozen=True, slots=True)
class MakeRouter:
    """Make the LANs' namespace."""


@dataclass(frozen=True, slots=True)
class MakeLan:
    """Make a LAN's bridge, with the router's address."""

    lan: str


@dataclass(frozen=True, slots=True)
class Make:
    """Make a machine: namespace, port, first process."""

    member: str


Change = Unmake | UnmakeLan | UnmakeRouter | MakeRouter | MakeLan | Make


@dataclass(frozen=True, slots=True)
class Desired:
    """The members and LANs that should be there; none: no lab at all."""

    members: Mapping[str, Place] = field(default_factory=dict)
    lans: Mapping[str, IPv4Interface] = field(default_factory=dict)


def desired(layout: Layout) -> Desired:
    """All of a lab."""
    return Desired(
        {machine.name: Place(machine.lan, machine.address) for machine in layout.machines},
        {lan.name: lan.gateway for lan in layout.lans},
    )


def plan(wanted: Desired, observed: Observed) -> list[Change]:
    """What to do, in order: removals, then the LANs, then machines in the order of ``wanted``."""
    has_router = LAN in observed.namespaces
    lans = {
        lan
        for lan, gateway in wanted.lans.items()
        if has_router and observed.lans.get(lan) == gateway
    }
    kept = {
        member
        for member, place in wanted.members.items()
        if place.lan in lans and observed.is_at(member, place)
    }
    changes: list[Change] = [Unmake(member) for member in _ordered(observed.members - kept)]
    if wanted.lans:
        changes += [UnmakeLan(lan) for lan in _ordered(observed.lans.keys() - lans)]
        changes += [] if has_router else [MakeRouter()]
    elif has_router:
        changes.append(UnmakeRouter())
    changes += [MakeLan(lan) for lan in wanted.lans if lan not in lans]
    changes += [Make(member) for member in wanted.members if member not in kept]
    return changes


def _ordered(members: Iterable[str]) -> list[str]:
    return sorted(members, key=lambda member: (len(member), member))
