"""What changes of a lab make of it, in memory: the law of its plans is tried on this."""

from __future__ import annotations

from collections.abc import Iterable

from meshnet_control.lab.lab_plan import (
    Change,
    Desired,
    Make,
    MakeLan,
    MakeRouter,
    Observed,
    Unmake,
    UnmakeLan,
    UnmakeRouter,
)


def applied(changes: Iterable[Change], state: Observed, wanted: Desired) -> Observed:
    """The lab after the changes; each must be possible when its turn comes."""
    parts = [set(state.namespaces), set(state.inits), set(state.booted)]
    ports, lans, addresses = dict(state.ports), dict(state.lans), dict(state.addresses)
    namespaces = parts[0]
    for change in changes:
        match change:
            case Unmake(member):
                for part in parts:
                    part.discard(member)
                ports.pop(member, None)
                addresses.pop(member, None)
            case UnmakeLan(lan):
                del lans[lan]
                ports = {name: "" if at == lan else at for name, at in ports.items()}
            case UnmakeRouter():
                namespaces.discard("lan")
                ports, lans = {}, {}
            case MakeRouter():
                assert "lan" not in namespaces
                namespaces.add("lan")
            case MakeLan(lan):
                assert "lan" in namespaces
                assert lan not in lans
                lans[lan] = wanted.lans[lan]
            case Make(member):
                place = wanted.members[member]
                assert place.lan in lans
                assert not any(member in part for part in (namespaces, parts[1], ports))
                for part in parts:
                    part.add(member)
                ports[member], addresses[member] = place.lan, place.address
    frozen = [frozenset(part) for part in parts]
    return Observed(frozen[0], frozen[1], frozen[2], ports, lans, addresses)
