"""From what is encrypted to what should be. Pure.

Law: an association of a life is made once. AES-GCM is broken by a key that counts from 1 again, and
an association that is made anew does: so when any that was there is gone (``ip xfrm state flush``,
a reboot), whoever took it, another life begins, whose salt makes all keys others. Law: an
association goes when what takes its place is there, or its node is gone, or all go.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshnet.netstate.esp import (
    AddAssociation,
    AddPolicy,
    Association,
    BeginLife,
    DelAssociation,
    DelPolicy,
    EndLife,
    Esp,
    EspChange,
    EspState,
    Life,
    Policy,
    Remember,
    digest,
)


def policies(esp: Esp) -> frozenset[Policy]:
    """Without them packets would be in clear."""
    return frozenset({Policy("out", esp.vtep, esp.port), Policy("in", esp.vtep, esp.port)})


def plan(desired: Esp | None, observed: EspState, *, prune: bool) -> list[EspChange]:
    """Changes in their order: policies first, and removed last."""
    if desired is None:
        return [*_all(observed)] if prune else []
    wanted = policies(desired)
    changes: list[EspChange] = [AddPolicy(p) for p in sorted(wanted - observed.policies)]
    life = observed.life
    if life is None or life.digest != digest(observed.associations):
        return [*changes, BeginLife()]
    if life.salt == desired.salt:
        missing = desired.associations - observed.associations
        over = frozenset(_over(desired, observed, prune=prune))
        changes += map(AddAssociation, sorted(missing))
        changes += map(DelAssociation, sorted(over))
        if missing or over:
            left = (observed.associations | missing) - over
            changes.append(Remember(Life(life.salt, digest(left))))
    if prune:
        changes += map(DelPolicy, sorted(observed.policies - wanted))
    return changes


def _all(observed: EspState) -> Iterator[EspChange]:
    yield from map(DelAssociation, sorted(observed.associations))
    if observed.life is not None:
        yield EndLife()
    yield from map(DelPolicy, sorted(observed.policies))


def _over(desired: Esp, observed: EspState, *, prune: bool) -> Iterator[Association]:
    """Those that have a successor, and those with nodes that are gone.

    A node that has not told its salt, as we or it began a moment ago, keeps what there is with it.
    """
    ways = {(each.source, each.destination) for each in desired.associations}
    for each in observed.associations - desired.associations:
        ours = desired.vtep in {each.source, each.destination}
        gone = not ours or not {each.source, each.destination} <= desired.nodes
        if (each.source, each.destination) in ways or (prune and gone):
            yield each
