"""Which flows that conntrack knows are older than the rules, and so go where no rule leads. Pure.

Rules say where a connection's first packet goes; conntrack leads the rest, and a UDP sender that
never pauses has no second first packet. What was true then may be wrong now:

| the flow goes to | UDP | TCP |
|---|---|---|
| a backend that is there and is chosen | stays | stays |
| a backend that is there and not chosen (it drains) | is forgotten | stays, once it was answered |
| a backend that is avoided (its host is silent) | stays | stays, once it was answered |
| a backend that is gone | is forgotten | is forgotten |
| nowhere, or to others than a VIP or port leads to now | is forgotten | stays |
| a VIP or port that is removed | is forgotten | stays |

The next packet of a flow that was forgotten is a first one again. A connection in progress to a
backend that is gone is reset so by whoever it is led to, instead of waiting for a dead host; a port
that a client uses again does not meet the old address.

Be aware: a port of the host is told by its number, also where a datagram passes through the host to
somebody else's; forgetting such a flow costs nothing, as nothing was translated. A port of IPv6 is
another one than that of IPv4 with its number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, Literal

from meshnet.nft.objects import Family, Ruleset

_AND: Final = " . "
"""Of a protocol and a port: an address tells its family itself."""
Leads = Mapping[str, frozenset[str]]
"""A VIP (``10.0.1.2``) or a port (``udp . 53``, of IPv6 ``ip6 udp . 53``) -> backends it may lead
to."""
Protocol = Literal["tcp", "udp", "other"]


class Fate(Enum):
    """What becomes of a flow."""

    STAYS = "stays"
    FORGOTTEN = "forgotten"
    DOUBTED = "doubted"
    """Forgotten, if it is still unanswered some moments later."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One entry of conntrack."""

    protocol: Protocol
    source: str
    """Who began."""
    asked: str
    """The address that was asked, before any translation."""
    port: int
    """The port that was asked."""
    backend: str
    """The address that answers, or would."""
    answers_to: str
    """The address it answers to."""
    unanswered: bool = False
    """TCP, and only SYNs were seen."""
    ended: bool = False
    """TCP, and both ends have closed it: it is remembered for a while (TIME_WAIT)."""
    packets: int = 0
    """In both directions; 0 where the namespace does not count (``nf_conntrack_acct``)."""
    octets: int = 0
    """Bytes of those packets, with their IP headers."""
    source_port: int = 0


@dataclass(frozen=True, slots=True)
class Stale:
    """What became untrue in one namespace.

    Attributes:
        drained: backends that are chosen no more, and are there.
        avoided: backends whose hosts are silent: they may answer again.
        gone: backends that are not there any more.
        moved: VIPs and ports that lead elsewhere than they did, with where they lead now; those
            that are removed lead nowhere.
    """

    drained: frozenset[str] = frozenset()
    avoided: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    moved: Leads = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether any flow can be concerned."""
        return bool(self.drained or self.avoided or self.gone or self.moved)

    def fate(self, flow: Flow) -> Fate:
        """What becomes of one flow."""
        translated = flow.backend != flow.asked
        if flow.protocol == "tcp":
            if translated and flow.backend in self.gone:
                return Fate.FORGOTTEN
            left = flow.backend in self.drained or flow.backend in self.avoided
            return Fate.DOUBTED if translated and flow.unanswered and left else Fate.STAYS
        if translated and (flow.backend in self.gone or flow.backend in self.drained):
            return Fate.FORGOTTEN
        if flow.protocol != "udp":
            return Fate.STAYS
        leads = self.moved.get(flow.asked)
        if leads is None and (translated or flow.answers_to == flow.source):
            family: Family = "ip6" if ":" in flow.asked else "ip"
            leads = self.moved.get(known_as(family, f"udp . {flow.port}"))
        return Fate.FORGOTTEN if leads is not None and flow.backend not in leads else Fate.STAYS


@dataclass(frozen=True, slots=True)
class Known:
    """What the rules of one namespace led to, as far as this process knows.

    Attributes:
        chosen: backends that flows may have been sent to, and that are not known to be gone.
        drained: those of them that are chosen no more, whose flows were seen to.
        avoided: those of them that are avoided, whose flows were seen to.
        leads: of each VIP and port, where it led; None: not known, a process has just begun.
    """

    chosen: frozenset[str] = frozenset()
    drained: frozenset[str] = frozenset()
    avoided: frozenset[str] = frozenset()
    leads: Leads | None = None

    def with_backends(self, more: Iterable[str]) -> Known:
        """The same, and these were led to as well."""
        new = frozenset(more) - self.chosen
        return replace(self, chosen=self.chosen | new) if new else self


def stale(known: Known, rulesets: Iterable[Ruleset], unsettled: Iterable[str]) -> Stale:
    """What is untrue once these tables are in force.

    Args:
        known: of the namespace.
        rulesets: all its tables, complete.
        unsettled: VIPs and ports whose elements are not in the kernel as they should be.
    """
    tables = tuple(rulesets)
    chosen, there = _both(tables)
    leads, before = dict(_leads(tables)), known.leads
    changed = set(unsettled) & leads.keys()
    if before is not None:
        changed |= {key for key, to in leads.items() if _moved(before.get(key), to)}
        removed = before.keys() - leads.keys()
        leads |= dict.fromkeys(removed, frozenset())
        changed |= removed
    left = known.chosen - chosen
    still = frozenset(backend for backend in left if any(backend in each for each in there))
    avoided = still & _avoided(tables)
    return Stale(
        drained=still - avoided - known.drained,
        avoided=avoided - known.avoided,
        gone=left - still,
        moved={key: leads[key] for key in changed},
    )


def after(known: Known, rulesets: Iterable[Ruleset], done: Stale) -> Known:
    """What is known once that was seen to."""
    tables = tuple(rulesets)
    chosen, _ = _both(tables)
    return Known(
        known.chosen - done.gone if done.gone else known.chosen,
        (known.drained | done.drained) - done.gone - chosen,
        (known.avoided | done.avoided) & _avoided(tables) - chosen,
        _leads(tables),
    )


def _moved(had: frozenset[str] | None, to: frozenset[str]) -> bool:
    """Whether flows may be somewhere else than where a VIP or port leads; one more moves nobody."""
    return had is not to and had != to and (not had or not had <= to)


def _both(tables: Iterable[Ruleset]) -> tuple[frozenset[str], list[frozenset[str]]]:
    """Every backend, and sets of whom is there; they are large, and seldom of two tables."""
    some = [table.backends for table in tables if table.backends]
    chosen = some[0] if len(some) == 1 else frozenset[str]().union(*some)
    return chosen, [chosen, *(table.there for table in tables)]


def _avoided(tables: Iterable[Ruleset]) -> frozenset[str]:
    return frozenset[str]().union(*(table.avoided for table in tables))


def _leads(tables: Iterable[Ruleset]) -> Leads:
    return {
        known_as(table.family, key): to
        for table in tables
        for set_ in table.sets
        for key, to in set_.leads.items()
    }


def known_as(family: Family, key: str) -> str:
    """The name in ``Leads`` of what a table of this family calls ``key``."""
    return f"{family} {key}" if family == "ip6" and _AND in key else key
