"""What befalls a cluster of managers, blow after blow, and what each is done with."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.engines import Engines

PROGRAMS = ("meshnet-manager", "etcd", "meshnetd", "meshnet-resolver")
LEADER = "the leader's host"

Kind = Literal["kill", "freeze", "off", "cut"]


@dataclass(frozen=True)
class Blow:
    """Something that is taken away, and comes back after ``away_s``.

    Attributes:
        hosts: where; two for a cut.
        programs: what is killed or frozen.
    """

    kind: Kind
    hosts: tuple[str, ...]
    programs: tuple[str, ...] = ()
    away_s: float = 0.0

    def __str__(self) -> str:
        where = " and ".join(self.hosts)
        what = " and ".join(self.programs)
        return f"{self.kind} {what + ' of ' if what else ''}{where} ({self.away_s:.0f} s)"


@dataclass(frozen=True)
class Turn:
    """Blows that begin one shortly after the other; ``rests``: the cluster is whole again after."""

    blows: tuple[Blow, ...]
    apart_s: float
    rests: bool


def turn(chance: random.Random, hosts: list[str]) -> Turn:
    """What happens next. No two hosts are off at once, so that a majority is left. PURE."""
    first = _blow(chance, [*hosts, LEADER, LEADER, LEADER], may_be_off=True)
    blows = [first]
    if chance.random() < 0.4:
        others = [host for host in hosts if host not in first.hosts]
        blows.append(_blow(chance, others, may_be_off=first.kind != "off"))
    return Turn(tuple(blows), chance.uniform(0.0, 3.0), chance.random() < 0.5)


def _blow(chance: random.Random, hosts: list[str], *, may_be_off: bool) -> Blow:
    kinds: list[Kind] = ["kill", "kill", "kill", "cut", "cut", "freeze"]
    kind = chance.choice([*kinds, "off", "off"] if may_be_off else kinds)
    if kind == "cut":
        pair = chance.sample([host for host in hosts if host != LEADER], 2)
        return Blow(kind, tuple(sorted(pair)), (), chance.uniform(3.0, 12.0))
    host = (chance.choice(hosts),)
    if kind == "off":
        return Blow(kind, host, (), chance.uniform(2.0, 10.0))
    if kind == "freeze":
        return Blow(kind, host, (chance.choice(PROGRAMS[:2]),), chance.uniform(3.0, 8.0))
    return Blow(kind, host, tuple(chance.sample(PROGRAMS, chance.choice((1, 1, 2)))))


def strike(lab: Engines, blow: Blow) -> Callable[[], None]:
    """Begin a blow; the call that ends it."""
    host, *others = blow.hosts
    if blow.kind == "cut":
        lab.lab.partition(host, others[0])
        return lambda: lab.lab.heal(host, others[0])
    if blow.kind == "off":
        lab.lab.kill(host)
        return lambda: lab.lab.start(host, lambda *_: None)
    pids = [pid for program in blow.programs for pid in lab.pids(host, program)]
    _signal(pids, signal.SIGKILL if blow.kind == "kill" else signal.SIGSTOP)
    return lambda: _signal(pids if blow.kind == "freeze" else [], signal.SIGCONT)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
