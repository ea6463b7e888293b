"""The client of nftables: lists our tables in each network namespace and runs transactions there.

Touches nftables in the host's namespace and in our sandboxes' (only the tables of
``meshnet.nft.ruleset_plan.OURS``), and conntrack entries that are older than the rules
(``meshnet.nft.flows``).

The model: a ``NftContext`` is one namespace: an nfnetlink socket that was opened inside it and is
used from outside; libnftables is there when something is to be listed or changed. A namespace is
told by (st_dev, st_ino), not by its path, as paths are used again. What a table holds is kept with
the nftables generation at which it was true: while the kernel's generation is that one, nothing is
read again; our own commits move both on by one; after a stranger's commit the tables are listed
anew.

Be aware: an open NftContext keeps its namespace alive; contexts are closed in ``observe`` when the
snapshot no longer has them or their path leads elsewhere. Rules must say ``iifname``, not ``iif``:
interface numbers would be looked up in the thread's namespace. A table's transaction stands alone,
so an interface that is not there yet holds up ``netdev meshnet`` and nothing else.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from operator import is_
from typing import Any, Final

from meshnet.errors import (
    AlreadyExistsError,
    KernelError,
    MeshnetError,
    NotFoundError,
    NotSupportedError,
    about,
)
from meshnet.kernel import netns, wakeup
from meshnet.kernel.libnftables import Libnftables
from meshnet.kernel.netns import Identity, identity_of
from meshnet.kernel.nfnetlink import NfnetlinkSocket
from meshnet.model.since import Since
from meshnet.model.snapshot import Snapshot
from meshnet.nft import canonical, flows
from meshnet.nft.flows import Known, Stale
from meshnet.nft.objects import DYNAMIC, Ruleset
from meshnet.nft.ruleset_plan import (
    OURS,
    Made,
    Observed,
    ObservedChain,
    ObservedSet,
    ObservedTable,
    TableChange,
    TableKey,
    plan,
)

HOST = "/proc/self/ns/net"
LISTING_TRIES = 5
ANSWER_S: Final = 0.02
"""How long a backend that was withdrawn may take to answer a connection; a round trip is less."""
_NOWHERE: Final[Identity] = (0, 0)
Source = Callable[[Snapshot], Mapping[str | None, Sequence[Ruleset]]]
"""Pure; the path of a network namespace, None for the host's -> tables it should hold."""

_KINDS: Mapping[int, type[KernelError]] = {
    errno.ENOENT: NotFoundError,
    errno.ENODEV: NotFoundError,
    errno.EEXIST: AlreadyExistsError,
    errno.EOPNOTSUPP: NotSupportedError,
}
_ERRNOS = (*_KINDS, errno.EBUSY, errno.EPERM, errno.ENOMEM, errno.EINTR, errno.ENOBUFS)


class NftContext:
    """libnftables in one network namespace."""

    def __init__(self, path: str, library: Libnftables) -> None:
        """Open it there.

        Raises:
            NotFoundError: The path is no network namespace.
            KernelError: It cannot be entered, or no descriptor is left.
        """
        self._path = path
        self._library = library
        with netns.inside(path) as entered:
            self.identity: Identity = entered or _NOWHERE
            self._netlink = NfnetlinkSocket()
        self._tables: Observed = {}
        self._generation: int | None = None
        self._listed_backends: frozenset[str] = frozenset()

    def close(self) -> None:
        """Give the namespace free."""
        self._netlink.close()
        self._library.forget(self.identity)

    def tables(self) -> Observed:
        """Our tables as they are now; listed only when somebody else committed since.

        Raises:
            KernelError: nftables refused, or changed faster than it could be listed.
        """
        for _ in range(LISTING_TRIES):
            generation = self._netlink.generation()
            if generation == self._generation:
                return self._tables
            self._tables = self._listed()
            self._generation = generation
        raise KernelError("list", f"nftables of {self._path}", errno.EAGAIN)

    def run(self, change: TableChange) -> None:
        """Commit one transaction.

        Raises:
            KernelError: nftables refused it; nothing of it was done.
        """
        before = self._netlink.generation()
        self._command(change.text, f"{change.table[0]} {change.table[1]}")
        if self._generation == before and self._netlink.generation() == before + 1:
            tables = dict(self._tables)
            tables.pop(change.table, None)
            if change.result is not None:
                tables[change.table] = change.result
            self._tables, self._generation = tables, before + 1
        else:
            self._generation = None

    def listed_backends(self) -> frozenset[str]:
        """Backends in the tables listed since the last call, whoever wrote these."""
        found, self._listed_backends = self._listed_backends, frozenset()
        return found

    def forget(self, stale: Stale, waited: frozenset[bytes] = frozenset()) -> frozenset[bytes]:
        """Forget flows that are older than the rules (``NfnetlinkSocket.forget``).

        Who waits on a connection to a backend that is gone hears of it (``meshnet.kernel.wakeup``).

        Returns:
            Entries that nobody has answered yet.
        """
        forgotten = self._netlink.forget(stale, waited)
        if forgotten.broken:
            wakeup.wake(self._path, self.identity, forgotten.broken)
        return forgotten.unanswered

    def _listed(self) -> Observed:
        there = {
            (entry["table"]["family"], entry["table"]["name"])
            for entry in self._listing("list tables")
            if "table" in entry
        }
        return {key: self._table(key) for key in OURS if key in there}

    def _table(self, key: TableKey) -> ObservedTable:
        command = f"list table {key[0]} {key[1]}"
        listing = self._listing(command)
        if key[0] != "netdev":
            self._listed_backends |= canonical.turns(listing)
            return _table_or_strange(listing)
        # libnftables' JSON leaves out the device of a chain; its text has it.
        text = self._command(command, command, json_output=False)
        return _table_or_strange(listing, dict(_hook_lines(text)))

    def _listing(self, command: str) -> canonical.Json:
        return json.loads(self._command(command, command))["nftables"]

    def _command(self, text: str, target: str, *, json_output: bool = True) -> str:
        code, output, said = self._library.run(self.identity, self._path, text, json=json_output)
        if code:
            raise _refusal(target, self._path, said)
        return output


def _left(rulesets: Sequence[Ruleset], changes: Sequence[TableChange]) -> Mapping[TableKey, Made]:
    """How tables are left by what is changed in them."""
    wanted = {(ruleset.family, ruleset.name): ruleset for ruleset in rulesets}
    return {
        change.table: Made(wanted[change.table], change.result)
        for change in changes
        if change.result is not None and change.table in wanted
    }


def _unsettled(rulesets: Sequence[Ruleset], there: Observed) -> Iterator[str]:
    """VIPs and ports that do not lead yet where they should."""
    for ruleset in rulesets:
        table = there.get((ruleset.family, ruleset.name))
        for wanted in ruleset.sets:
            found = table.sets.get(wanted.name) if table is not None else None
            elements = found.elements if found is not None else {}
            differ = (k for k in wanted.leads if elements.get(k) != wanted.elements.get(k))
            yield from (flows.known_as(ruleset.family, key) for key in differ)


def _hook_lines(text: str) -> Iterator[tuple[str, str]]:
    """Chain and what is in its braces, for the base chains of a listing in nft's own words."""
    for head, behind in pairwise(text.split("\n")):
        if head.startswith("\tchain ") and head.endswith(" {") and behind.startswith("\t\ttype "):
            yield head.removeprefix("\tchain ").removesuffix(" {"), behind.removeprefix("\t\t")


def _refusal(target: str, path: str, said: str) -> KernelError:
    first = said.strip().partition("\n")[0] or "no reason given"
    number = next((code for code in _ERRNOS if os.strerror(code) in said), errno.EINVAL)
    where, told, why = first.partition("Error: ")
    told_at_once = told and not where[-1:].isspace() and len(where.split()) <= 1
    reason = why.removeprefix("Could not process rule: ") if told_at_once else first
    return _KINDS.get(number, KernelError)("nft", f"{target} in {path} ({reason})", number)


def commit(path: str, text: str) -> None:
    """Commit one transaction in nft(8)'s language in the namespace ``path``, once.

    Raises:
        NotFoundError: there is no such namespace.
        KernelError: nftables refused it; nothing of it was done.
    """
    library = Libnftables()
    try:
        code, _, said = library.run(identity_of(path) or _NOWHERE, path, text)
    finally:
        library.close()
    if code:
        raise _refusal("ruleset", path, said)


def listing(path: str, family: str, table: str) -> Mapping[str, Any]:
    """One table of the namespace ``path`` as ``nft -j`` lists it; empty: it is not there.

    Raises:
        KernelError: nftables refused it.
    """
    library = Libnftables()
    try:
        identity = identity_of(path)
        if identity is None:
            return {}
        code, output, said = library.run(identity, path, f"list table {family} {table}")
    finally:
        library.close()
    if code:
        refused = _refusal(f"{family} {table}", path, said)
        if isinstance(refused, NotFoundError):
            return {}
        raise refused
    found: Mapping[str, Any] = json.loads(output)
    return found


def _table_or_strange(
    listing: canonical.Json, hook_lines: Mapping[str, str] | None = None
) -> ObservedTable:
    try:
        return table_of(listing, hook_lines)
    except (LookupError, TypeError, ValueError):
        return ObservedTable(strange=True)


def table_of(listing: canonical.Json, hook_lines: Mapping[str, str] | None = None) -> ObservedTable:
    """What libnftables' JSON says of one table (libnftables-json(5)).

    Args:
        listing: the array behind ``nftables``.
        hook_lines: chain -> its hook in nft's syntax, where that says more than the JSON.
    """
    hooks: dict[str, str] = {}
    comments: dict[str, list[str]] = {}
    sets: dict[str, ObservedSet] = {}
    for entry in listing:
        ((kind, body),) = entry.items()
        if kind == "chain":
            line = (hook_lines or {}).get(body["name"])
            hooks[body["name"]] = canonical.hook(line) if line else canonical.json_hook(body)
        elif kind == "rule":
            comments.setdefault(body["chain"], []).append(body.get("comment", ""))
        elif kind in {"set", "map"}:
            type_ = canonical.json_type(body)
            elements = dict(canonical.json_element(type_, item) for item in body.get("elem", ()))
            flags = body.get("flags", ())
            flags = [flags] if isinstance(flags, str) else flags
            seen, lasts = frozenset(flags) - {DYNAMIC}, int(body.get("timeout", 0))
            counts = any("counter" in statement for statement in body.get("stmt", ()))
            sets[body["name"]] = ObservedSet(type_, elements, seen, lasts, counts)
    chains = {}
    for name, hook in hooks.items():
        said = comments.get(name, [])
        fingerprint = said[0] if len(set(said)) == 1 else ""
        chains[name] = ObservedChain(hook, fingerprint, len(said))
    return ObservedTable(chains, sets)


@dataclass(frozen=True, slots=True)
class Namespace:
    """What was observed in one namespace.

    Attributes:
        known: what our tables there led flows to, as far as this process knows, from what it wanted
            there and from what it listed.
        error: why the tables could not be read.
    """

    identity: Identity
    tables: Observed
    known: Known = field(default_factory=Known)
    error: MeshnetError | None = None
    made: Mapping[TableKey, Made] = field(default_factory=dict)
    """How our last transactions left the tables, whatever became of them since."""


@dataclass(frozen=True, slots=True)
class NftChange:
    """What to do in one namespace: transactions in turn, then flows to forget.

    With an ``error`` nothing but to say it.
    """

    netns: str | None
    identity: Identity
    tables: tuple[TableChange, ...] = ()
    stale: Stale = field(default_factory=Stale)
    known: Known = field(default_factory=Known)
    """What is known once both are done."""
    made: Mapping[TableKey, Made] = field(default_factory=dict)
    """How the tables are left."""
    error: MeshnetError | None = None


Desired = Mapping[str | None, tuple[Ruleset, ...]]
"""Path of a network namespace; None: the host's -> its tables."""
NamespacesObserved = Mapping[str | None, Namespace]


class NftOperations:
    """Every nftables table of ours on this node, kept as the sources say.

    Implements ``meshnet.reconcile.Operations``. All but ``desired`` and ``plan`` are called in the
    one kernel thread.
    """

    name = "lb"
    chooses = True

    def __init__(self, sources: Sequence[Source], *, host_netns: str | None = None) -> None:
        """Nothing is opened yet.

        Args:
            sources: each says some tables; two must not say the same table of a namespace.
            host_netns: path of the namespace that None stands for, when it is not this process's.
        """
        self._sources = tuple(sources)
        self._host = host_netns or HOST
        self._library = Libnftables()
        self._contexts: dict[str | None, NftContext] = {}
        self._known: dict[Identity, Known] = {}
        self._made: dict[Identity, Mapping[TableKey, Made]] = {}
        self._desired: Desired = {}

    def desired(self, snapshot: Snapshot) -> Desired:
        """Tables by namespace, all sources together; the host is always there."""
        merged: dict[str | None, tuple[Ruleset, ...]] = {None: ()}
        for source in self._sources:
            for path, rulesets in source(snapshot).items():
                merged[path] = (*merged.get(path, ()), *rulesets)
        before = self._desired
        for path, tables in merged.items():
            had = before.get(path)
            if had is not None and len(had) == len(tables) and all(map(is_, had, tables)):
                merged[path] = had
        same = merged.keys() == before.keys() and all(before[p] is merged[p] for p in merged)
        if not same:
            self._desired = merged
        return self._desired

    def observe(self, desired: Desired, since: Since[Desired] | None = None) -> NamespacesObserved:
        """What is there, or why it cannot be read, in every wanted namespace that exists.

        Of those that are known to be as they should only who is wanted otherwise now.
        """
        self._close_left(desired, since)
        observed: dict[str | None, Namespace] = {}
        for path, rulesets in desired.items():
            if since and since.is_left(path, since.realised.get(path), rulesets):
                continue
            try:
                context = self._contexts.get(path) or NftContext(path or self._host, self._library)
                self._contexts[path] = context
                tables = context.tables()
            except MeshnetError as error:
                if path is None or not isinstance(error, NotFoundError):
                    unread = about(error, (path, ""))
                    observed[path] = Namespace(_NOWHERE, {}, error=unread)
                continue
            known = self._known.get(context.identity, Known())
            known = known.with_backends(
                context.listed_backends().union(*(ruleset.backends for ruleset in rulesets))
            )
            self._known[context.identity] = known
            made = self._made.get(context.identity, {})
            observed[path] = Namespace(context.identity, tables, known, made=made)
        return observed

    def plan(
        self,
        desired: Desired,
        observed: NamespacesObserved,
        *,
        prune: bool,
    ) -> list[NftChange]:
        """What to do, one entry for each namespace that needs something; pure."""
        changes = []
        for path, there in observed.items():
            if there.error is not None:
                changes.append(NftChange(path, there.identity, error=there.error))
                continue
            rulesets = desired.get(path, ())
            tables = tuple(plan(rulesets, there.tables, prune=prune, made=there.made))
            stale, known = Stale(), there.known
            if prune:
                stale = flows.stale(known, rulesets, _unsettled(rulesets, there.tables))
                known = flows.after(known, rulesets, stale)
            if tables or stale:
                made = _left(rulesets, tables) if prune else {}
                changes.append(NftChange(path, there.identity, tables, stale, known, made))
        return changes

    def apply(self, changes: Sequence[NftChange]) -> None:
        """Do it; the rest is done also when something fails.

        Raises:
            ExceptionGroup: Of KernelErrors. A namespace that vanished is no error.
        """
        errors: list[MeshnetError] = []
        unanswered: list[tuple[NftContext, Stale, frozenset[bytes]]] = []
        for change in changes:
            if change.error is not None:
                errors.append(change.error)
                continue
            context = self._contexts.get(change.netns)
            if context is None or context.identity != change.identity:
                continue
            failed = self._apply_one(context, change, unanswered)
            if identity_of(change.netns or self._host) == change.identity:
                errors += [about(each, (change.netns, "")) for each in failed]
        if unanswered:
            time.sleep(ANSWER_S)
        for context, stale, waited in unanswered:
            with suppress(MeshnetError):  # they end by themselves, later
                context.forget(stale, waited)
        if errors:
            raise ExceptionGroup("nftables could not be changed", errors)

    def close(self) -> None:
        """Close every context; the tables stay as they are."""
        for context in self._contexts.values():
            context.close()
        self._contexts.clear()
        self._library.close()

    def _apply_one(
        self,
        context: NftContext,
        change: NftChange,
        unanswered: list[tuple[NftContext, Stale, frozenset[bytes]]],
    ) -> list[MeshnetError]:
        errors: list[MeshnetError] = []
        for table in change.tables:
            try:
                context.run(table)
            except MeshnetError as error:
                errors.append(error)
        if errors:
            return errors
        if change.stale:
            try:
                waited = context.forget(change.stale)
            except MeshnetError as error:
                return [error]
            if waited:
                unanswered.append((context, change.stale, waited))
        self._known[context.identity] = change.known
        self._made[context.identity] = {**self._made.get(context.identity, {}), **change.made}
        return []

    def _close_left(self, desired: Desired, since: Since[Desired] | None) -> None:
        """Close those that are not wanted, or whose path leads elsewhere."""
        for path, context in list(self._contexts.items()):
            had = since.realised.get(path) if since else None
            if since and had is not None and since.is_left(path, had, desired.get(path)):
                continue
            if path not in desired or identity_of(path or self._host) != context.identity:
                self._known.pop(context.identity, None)
                self._made.pop(context.identity, None)
                self._contexts.pop(path).close()
