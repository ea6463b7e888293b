"""What has to change so that our nftables tables hold what they should: pure, one table at a time.

The model: a chain is equal when its hook is, when it has as many rules as wanted, and when every
rule carries the comment ``mn:<digest>`` of what was rendered; rule text is never compared, as nft
gives rules back in its own words. Sets and maps are compared element by element; those that rules
or time change (``Set.is_volatile``) are given their elements once, when they are made; of those
whose keys are slots (``Set.slots``) the values matter, not who has which. One table's changes are
one transaction, so a packet meets the old table or the new one and nothing between; a
chain that is equal is not in it, so its counters and its turn (``numgen inc``) go on.

Order in a transaction: table, new chains, new sets, rules of changed chains, elements out, elements
in, stale chains out, stale sets out. So a chain is there before an element or a rule names it and
goes after the last one did.

Be aware: with ``prune`` False nothing is deleted and no chain that has rules is changed: it may
lead to more than we know of yet. Only the value of a map's key is replaced. A set whose type
changed, or a plain chain that became a base chain, cannot be changed in place: its table is then
deleted and written anew in one transaction, which drops stale things too and so waits for
``prune``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TypeVar

from meshnet.nft import canonical
from meshnet.nft.objects import DYNAMIC, Chain, Family, Ruleset, Set

N = TypeVar("N", Chain, Set)
V = TypeVar("V")
TableKey = tuple[Family, str]
OURS: tuple[TableKey, ...] = (
    ("ip", "meshnet"),
    ("ip6", "meshnet"),
    ("netdev", "meshnet"),
    ("ip", "meshnet_dns"),
)
"""Every table that is ours, in whatever namespace; others are never read and never touched."""


@dataclass(frozen=True, slots=True)
class ObservedChain:
    """A chain in the kernel.

    Attributes:
        hook: ``canonical.hook`` text, "" when it is no base chain.
        fingerprint: the comment that all its rules share, "" when they do not.
        rules: number of rules.
    """

    hook: str = ""
    fingerprint: str = ""
    rules: int = 0


@dataclass(frozen=True, slots=True)
class ObservedSet:
    """A set or map in the kernel; texts as in ``meshnet.nft.canonical``, flags without DYNAMIC."""

    type: str
    elements: Mapping[str, str] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()
    timeout_s: int = 0
    counts: bool = False


@dataclass(frozen=True, slots=True)
class ObservedTable:
    """A table of ours in the kernel.

    Attributes:
        strange: it holds what we never write and cannot read; it is written anew.
    """

    chains: Mapping[str, ObservedChain] = field(default_factory=dict)
    sets: Mapping[str, ObservedSet] = field(default_factory=dict)
    strange: bool = False


Observed = Mapping[TableKey, ObservedTable]


@dataclass(frozen=True, slots=True)
class TableChange:
    """One transaction.

    Attributes:
        commands: nft commands, to be run together in this order.
        result: what the table holds afterwards, None: it is gone.
    """

    table: TableKey
    commands: tuple[str, ...]
    result: ObservedTable | None

    @property
    def text(self) -> str:
        """What libnftables runs as one transaction."""
        return "\n".join(self.commands) + "\n"


@lru_cache(maxsize=8192)
def as_observed(chain: Chain) -> ObservedChain:
    """What the kernel shows of a chain after it was rendered."""
    hook = canonical.hook(chain.hook)
    if not chain.rules:
        return ObservedChain(hook)
    digest = hashlib.blake2b("\n".join((hook, *chain.rules)).encode(), digest_size=8)
    return ObservedChain(hook, f"mn:{digest.hexdigest()}", len(chain.rules))


@dataclass(frozen=True, slots=True)
class Made:
    """A table as a transaction of ours left it."""

    ruleset: Ruleset
    table: ObservedTable


def plan(
    desired: Sequence[Ruleset],
    observed: Observed,
    *,
    prune: bool,
    made: Mapping[TableKey, Made] = MappingProxyType({}),
) -> list[TableChange]:
    """Transactions that make the kernel hold ``desired``; [] when it does already.

    Args:
        desired: one Ruleset for each table; the order does not matter.
        observed: every table of ours that is there.
        prune: whether what is not wanted is deleted.
        made: how we left tables; of one that is as it was left only chains and sets are looked at
            that are other objects now.

    Raises:
        ValueError: Two rulesets are for one table, or an element is not of its set's type.
    """
    wanted = {(ruleset.family, ruleset.name): ruleset for ruleset in desired}
    if len(wanted) != len(desired):
        raise ValueError("two rulesets for one table")
    changes = []
    for key in sorted(wanted):
        have, left = observed.get(key), made.get(key)
        if prune and left is not None and have is not None and left.table is have:
            change = _changed(wanted[key], left)
        else:
            change = _table(wanted[key], have, prune=prune)
        if change.commands:
            changes.append(change)
    if prune:
        changes += [
            TableChange(key, (f"delete table {key[0]} {key[1]}",), None)
            for key in sorted(observed.keys() - wanted.keys())
        ]
    return changes


def _table(ruleset: Ruleset, have: ObservedTable | None, *, prune: bool) -> TableChange:
    key: TableKey = (ruleset.family, ruleset.name)
    chains = {chain.name: chain for chain in ruleset.chains}
    sets = {set_.name: set_ for set_ in ruleset.sets}
    commands = []
    if have and not _fits(chains, sets, have):
        if not prune:
            return TableChange(key, (), have)
        commands.append(f"delete table {ruleset.family} {ruleset.name}")
        have = None
    if have is None:
        commands.append(f"add table {ruleset.family} {ruleset.name}")
        have = ObservedTable()
    table = _Table(f"{ruleset.family} {ruleset.name}", chains, sets, have, prune=prune)
    commands += table.commands()
    return TableChange(key, tuple(commands), table.result())


def _changed(ruleset: Ruleset, left: Made) -> TableChange:
    """The same as ``_table``, from what is another object than when the table was left."""
    have, before = left.table, left.ruleset
    chains, chain_names = _others(before.chains, ruleset.chains)
    sets, set_names = _others(before.sets, ruleset.sets)
    part = ObservedTable(
        {name: have.chains[name] for name in chain_names if name in have.chains},
        {name: have.sets[name] for name in set_names if name in have.sets},
    )
    if not _fits(chains, sets, part):
        return _table(ruleset, have, prune=True)
    had = {set_.name: set_ for set_ in before.sets if set_.name in sets}
    name = f"{ruleset.family} {ruleset.name}"
    table = _Table(name, chains, sets, part, prune=True, before=had)
    commands, result = tuple(table.commands()), have
    if commands:
        now = table.result()
        result = ObservedTable(
            _replaced(have.chains, chain_names, now.chains),
            _replaced(have.sets, set_names, now.sets),
        )
    return TableChange((ruleset.family, ruleset.name), commands, result)


def _others(before: Sequence[N], now: Sequence[N]) -> tuple[dict[str, N], set[str]]:
    """What is another object now, by name; and its names with those that are gone."""
    pairs: list[tuple[N | None, N | None]]
    if len(before) == len(now):  # mostly: one chain has another rule
        pairs = [(had, has) for had, has in zip(before, now, strict=True) if had is not has]
    else:
        old, new = {each.name: each for each in before}, {each.name: each for each in now}
        pairs = [(old.get(name), new.get(name)) for name in old.keys() | new.keys()]
        pairs = [(had, has) for had, has in pairs if had is not has]
    fresh = {has.name: has for _, has in pairs if has is not None}
    return fresh, fresh.keys() | {had.name for had, _ in pairs if had is not None}


def _replaced(
    have: Mapping[str, V], names: AbstractSet[str], now: Mapping[str, V]
) -> Mapping[str, V]:
    left = dict(have)
    for name in names:
        left.pop(name, None)
    left.update(now)
    return left


def _empty(set_: Set) -> ObservedSet:
    """What the kernel shows of a set that has no elements yet."""
    flags = frozenset(set_.flags) - {DYNAMIC}
    return ObservedSet(canonical.type_text(set_.type), {}, flags, set_.timeout_s, set_.counts)


def _fits(chains: Mapping[str, Chain], sets: Mapping[str, Set], have: ObservedTable) -> bool:
    """Whether everything wanted can be reached without writing the whole table anew."""
    if have.strange:
        return False
    for name in chains.keys() & have.chains.keys():
        if bool(chains[name].hook) != bool(have.chains[name].hook):
            return False
    for name in sets.keys() & have.sets.keys():
        there = have.sets[name]
        if replace(_empty(sets[name]), elements=there.elements) != there:
            return False
    return True


class _Table:
    """The difference of one table that is there and fits."""

    def __init__(
        self,
        name: str,
        chains: Mapping[str, Chain],
        sets: Mapping[str, Set],
        have: ObservedTable,
        *,
        prune: bool,
        before: Mapping[str, Set] = MappingProxyType({}),
    ) -> None:
        self._name = name
        self._before = before
        self._chains = chains
        self._sets = sets
        self._have = have
        self._prune = prune
        self._elements = {name: self._wanted(set_) for name, set_ in sets.items()}

    def _wanted(self, set_: Set) -> Mapping[str, str]:
        there = self._have.sets.get(set_.name)
        if there and (set_.is_volatile or there.elements == set_.elements):
            return there.elements
        if set_.slots:
            have = there.elements if there else {}
            return _arranged(have, set_.elements, prune=self._prune)
        before = self._before.get(set_.name)
        if there and before is not None and before.type == set_.type:
            return _with_changes(there.elements, before, set_)
        return dict(canonical.element(set_.type, *pair) for pair in set_.elements.items())

    def _there(self, set_name: str) -> Mapping[str, str]:
        there = self._have.sets.get(set_name)
        return there.elements if there else {}

    def commands(self) -> Iterator[str]:
        """Everything to run, in order."""
        yield from self._new_chains()
        for name in sorted(self._sets.keys() - self._have.sets.keys()):
            yield self._add_set(self._sets[name])
        yield from self._rules()
        yield from self._stale_elements()
        yield from self._new_elements()
        if self._prune:
            stale = sorted(self._have.chains.keys() - self._chains.keys())
            yield from (f"flush chain {self._name} {name}" for name in stale)
            yield from (f"delete chain {self._name} {name}" for name in stale)
            for name in sorted(self._have.sets.keys() - self._sets.keys()):
                kind = "map" if ":" in self._have.sets[name].type else "set"
                yield f"delete {kind} {self._name} {name}"

    def result(self) -> ObservedTable:
        """What the table holds when the commands were run."""
        chains = {
            name: self._have.chains[name] if self._is_left(name) else as_observed(chain)
            for name, chain in self._chains.items()
        }
        sets = {}
        for name, set_ in self._sets.items():
            elements = self._elements[name]
            if not self._prune and self._there(name).keys() - elements.keys():
                elements = {**self._there(name), **elements}
            sets[name] = replace(_empty(set_), elements=elements)
        if self._prune:
            return ObservedTable(chains, sets)
        return ObservedTable({**self._have.chains, **chains}, {**self._have.sets, **sets})

    def _is_left(self, name: str) -> bool:
        """Whether a chain that is there stays as it is, whatever is wanted of it."""
        there = self._have.chains.get(name)
        return not self._prune and there is not None and there.rules > 0

    def _new_chains(self) -> Iterator[str]:
        for name in sorted(self._chains):
            if self._is_left(name):
                continue
            chain, there = self._chains[name], self._have.chains.get(name)
            if there and there.hook != canonical.hook(chain.hook):
                yield f"flush chain {self._name} {name}"
                yield f"delete chain {self._name} {name}"
                there = None
            if there is None:
                body = f" {{ {chain.hook} }}" if chain.hook else ""
                yield f"add chain {self._name} {name}{body}"

    def _rules(self) -> Iterator[str]:
        for name in sorted(self._chains):
            chain, there = self._chains[name], self._have.chains.get(name)
            wanted = as_observed(chain)
            if there == wanted or self._is_left(name):
                continue
            if there and there.hook == wanted.hook:
                yield f"flush chain {self._name} {name}"
            for rule in chain.rules:
                yield f'add rule {self._name} {name} {rule} comment "{wanted.fingerprint}"'

    def _add_set(self, set_: Set) -> str:
        flags = f" flags {','.join(sorted(set_.flags))};" if set_.flags else ""
        timeout = f" timeout {set_.timeout_s}s;" if set_.timeout_s else ""
        size = f" size {set_.size};" if set_.size else ""
        kind = "map" if set_.is_map else "set"
        type_ = f"typeof {set_.typeof}" if set_.typeof else f"type {set_.type}"
        counter = " counter;" if set_.counts else ""
        return f"add {kind} {self._name} {set_.name} {{ {type_};{flags}{timeout}{size}{counter} }}"

    def _stale_elements(self) -> Iterator[str]:
        for name in sorted(self._have.sets):
            there = self._there(name)
            wanted = self._elements.get(name, {})
            if there == wanted or (name not in self._sets and not self._prune):
                continue
            out = sorted(
                (key, value)
                for key, value in there.items()
                if (wanted[key] != value if key in wanted else self._prune)
            )
            if out:
                yield f"delete element {self._name} {name} {{ {_elements(out)} }}"

    def _new_elements(self) -> Iterator[str]:
        for name in sorted(self._sets):
            there = self._there(name)
            wanted = self._elements[name]
            if there == wanted:
                continue
            new = sorted(pair for pair in wanted.items() if there.get(pair[0]) != pair[1])
            if new:
                yield f"add element {self._name} {name} {{ {_elements(new)} }}"


def _with_changes(there: Mapping[str, str], before: Set, now: Set) -> Mapping[str, str]:
    """Elements that are there as ``before`` wanted them, as ``now`` does."""
    wanted = dict(there)
    for key in before.elements.keys() - now.elements.keys():
        wanted.pop(canonical.element(before.type, key, before.elements[key])[0], None)
    changed = {
        key: value for key, value in now.elements.items() if before.elements.get(key) != value
    }
    return wanted | dict(canonical.element(now.type, *pair) for pair in changed.items())


def _elements(pairs: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{key} : {value}" if value else key for key, value in pairs)


def _arranged(
    there: Mapping[str, str], wanted: Mapping[str, str], *, prune: bool
) -> Mapping[str, str]:
    """The wanted values, each in one of the wanted slots: whoever has one of them keeps it.

    Without ``prune`` nobody's slot is taken away, and only empty ones are filled.
    """
    left = Counter(wanted.values())
    if there.keys() == wanted.keys() and Counter(there.values()) == left:
        return there
    kept = {}
    for slot, value in there.items():
        if slot in wanted and left[value]:
            left[value] -= 1
        elif prune:
            continue
        kept[slot] = value
    holes = [slot for slot in wanted if slot not in kept]
    return {**kept, **dict(zip(holes, left.elements(), strict=False))}
