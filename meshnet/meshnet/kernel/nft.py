"""Every nftables table of ours on this node, as a reconciler sees it (``meshnet.reconcile``).

Touches nftables in the host's namespace and in our sandboxes' (only the tables of
``meshnet.nft.ruleset_plan.OURS``), and conntrack entries of backends that left: of UDP, and of TCP
those that nobody answered.

The model: an ``NftContext`` for each namespace. A namespace is told by (st_dev, st_ino), not by
its path, as paths are used again. The host's ``table ip meshnet`` is owned, where the kernel can
(``meshnet.kernel.nft_owner``), so that nobody else's flush leaves published ports to the host's own
stack, which refuses.

Be aware: contexts are closed in ``observe`` when the snapshot no longer has them or their path
leads elsewhere. A table's transaction stands alone, so an interface that is not there yet holds up
``netdev meshnet`` and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from meshnet.errors import MeshnetError, NotFoundError, about
from meshnet.kernel.libnftables import Libnftables
from meshnet.kernel.netns import Identity, identity_of
from meshnet.kernel.nft_context import NOWHERE, OWNED, NftContext
from meshnet.model.snapshot import Snapshot
from meshnet.nft.objects import Ruleset
from meshnet.nft.ruleset_plan import Observed, TableChange, plan

HOST = "/proc/self/ns/net"
ANSWER_S: Final = 0.02
"""How long a backend that was withdrawn may take to answer a connection; a round trip is less."""
Source = Callable[[Snapshot], Mapping[str | None, Sequence[Ruleset]]]
"""Pure; the path of a network namespace, None for the host's -> tables it should hold."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """What was observed in one namespace.

    Attributes:
        backends: addresses that our tables there sent flows to, as far as this process knows, from
            what it wanted there and from what it listed.
        is_free: our table is there and others could flush it, which can be helped.
        error: why the tables could not be read.
    """

    identity: Identity
    tables: Observed
    backends: frozenset[str] = frozenset()
    is_free: bool = False
    error: MeshnetError | None = None


@dataclass(frozen=True, slots=True)
class NftChange:
    """What to do in one namespace: transactions in turn, the table to own, then flows to forget.

    With an ``error`` nothing but to say it.
    """

    netns: str | None
    identity: Identity
    tables: tuple[TableChange, ...] = ()
    withdrawn: frozenset[str] = field(default=frozenset())
    own: bool = False
    error: MeshnetError | None = None


class NftOperations:
    """Every nftables table of ours on this node, kept as the sources say.

    Implements ``meshnet.reconcile.Operations``. All but ``desired`` and ``plan`` are called in the
    one kernel thread.
    """

    name = "lb"
    chooses = True

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        host_netns: str | None = None,
        owns_host_table: bool = False,
    ) -> None:
        """Nothing is opened yet.

        Args:
            sources: each says some tables; two must not say the same table of a namespace.
            host_netns: path of the namespace that None stands for, when it is not this process's.
            owns_host_table: others cannot flush ``table ip meshnet`` there, if the kernel can.
        """
        self._sources = tuple(sources)
        self._host = host_netns or HOST
        self._owns_host_table = owns_host_table
        self._library = Libnftables()
        self._contexts: dict[str | None, NftContext] = {}
        self._backends: dict[Identity, frozenset[str]] = {}

    def desired(self, snapshot: Snapshot) -> Mapping[str | None, tuple[Ruleset, ...]]:
        """Tables by namespace, all sources together; the host is always there."""
        merged: dict[str | None, tuple[Ruleset, ...]] = {None: ()}
        for source in self._sources:
            for path, rulesets in source(snapshot).items():
                merged[path] = (*merged.get(path, ()), *rulesets)
        return merged

    def observe(
        self, desired: Mapping[str | None, Sequence[Ruleset]]
    ) -> Mapping[str | None, Namespace]:
        """What is there, or why it cannot be read, in every wanted namespace that exists."""
        self._close_left(desired)
        observed: dict[str | None, Namespace] = {}
        for path, rulesets in desired.items():
            try:
                context = self._contexts.get(path) or self._opened(path)
                tables = context.tables()
            except MeshnetError as error:
                if path is None or not isinstance(error, NotFoundError):
                    unread = about(error, (path, ""))
                    observed[path] = Namespace(NOWHERE, {}, error=unread)
                continue
            known = self._backends.get(context.identity, frozenset())
            known = known.union(
                context.listed_backends(), *(ruleset.backends for ruleset in rulesets)
            )
            self._backends[context.identity] = known
            observed[path] = Namespace(context.identity, tables, known, context.is_free)
        return observed

    def plan(
        self,
        desired: Mapping[str | None, Sequence[Ruleset]],
        observed: Mapping[str | None, Namespace],
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
            tables = tuple(plan(rulesets, there.tables, prune=prune))
            wanted: frozenset[str] = frozenset().union(*(r.backends for r in rulesets))
            withdrawn = there.backends - wanted if prune else frozenset()
            own = there.is_free and any((each.family, each.name) == OWNED for each in rulesets)
            if tables or withdrawn or own:
                changes.append(NftChange(path, there.identity, tables, withdrawn, own))
        return changes

    def apply(self, changes: Sequence[NftChange]) -> None:
        """Do it; the rest is done also when something fails.

        Raises:
            ExceptionGroup: Of KernelErrors. A namespace that vanished is no error.
        """
        errors: list[MeshnetError] = []
        unanswered: list[tuple[NftContext, frozenset[str], frozenset[bytes]]] = []
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
        for context, withdrawn, waited in unanswered:
            with suppress(MeshnetError):  # they end by themselves, later
                context.forget(withdrawn, waited)
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
        unanswered: list[tuple[NftContext, frozenset[str], frozenset[bytes]]],
    ) -> list[MeshnetError]:
        errors: list[MeshnetError] = []
        for table in change.tables:
            try:
                context.run(table)
            except MeshnetError as error:
                errors.append(error)
        if change.own and context.is_free:
            try:
                context.own()
            except MeshnetError as error:
                errors.append(error)
        if errors or not change.withdrawn:
            return errors
        try:
            waited = context.forget(change.withdrawn)
        except MeshnetError as error:
            return [error]
        if waited:
            unanswered.append((context, change.withdrawn, waited))
        self._backends[context.identity] -= change.withdrawn
        return []

    def _opened(self, path: str | None) -> NftContext:
        owner = path is None and self._owns_host_table
        self._contexts[path] = NftContext(path or self._host, self._library, owner=owner)
        return self._contexts[path]

    def _close_left(self, desired: Mapping[str | None, Sequence[Ruleset]]) -> None:
        for path, context in list(self._contexts.items()):
            if path not in desired or identity_of(path or self._host) != context.identity:
                self._backends.pop(context.identity, None)
                self._contexts.pop(path).close()
