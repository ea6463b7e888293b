"""nftables in one network namespace: lists our tables there and runs transactions.

Touches only the tables of ``meshnet.nft.ruleset_plan.OURS``.

The model: an nfnetlink socket that was opened inside the namespace and is used from outside;
libnftables is there when something is to be listed or changed. What a table holds is kept with the
nftables generation at which it was true: while the kernel's generation is that one, nothing is read
again; our own commits move both on by one; after a stranger's commit the tables are listed anew.

Be aware: an open NftContext keeps its namespace alive. Rules must say ``iifname``, not ``iif``:
interface numbers would be looked up in the thread's namespace.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from meshnet.errors import AlreadyExistsError, KernelError, NotFoundError, NotSupportedError
from meshnet.kernel import netns
from meshnet.kernel.libnftables import Libnftables
from meshnet.kernel.netns import Identity, identity_of
from meshnet.kernel.nfnetlink import NfnetlinkSocket
from meshnet.kernel.nft_owner import TableOwner
from meshnet.nft import canonical
from meshnet.nft.objects import DYNAMIC
from meshnet.nft.ruleset_plan import (
    OURS,
    Observed,
    ObservedChain,
    ObservedSet,
    ObservedTable,
    TableChange,
    TableKey,
)

LISTING_TRIES = 5
OWNED: Final[TableKey] = ("ip", "meshnet")
NOWHERE: Final[Identity] = (0, 0)
_KINDS: Mapping[int, type[KernelError]] = {
    errno.ENOENT: NotFoundError,
    errno.ENODEV: NotFoundError,
    errno.EEXIST: AlreadyExistsError,
    errno.EOPNOTSUPP: NotSupportedError,
}
_ERRNOS = (*_KINDS, errno.EBUSY, errno.EPERM, errno.ENOMEM, errno.EINTR, errno.ENOBUFS)


class NftContext:
    """libnftables in one network namespace."""

    def __init__(self, path: str, library: Libnftables, *, owner: bool = False) -> None:
        """Open it there.

        Args:
            path: of the namespace.
            library: where libnftables is opened.
            owner: own ``table ip meshnet``, if the kernel can (``meshnet.kernel.nft_owner``).

        Raises:
            NotFoundError: The path is no network namespace.
            KernelError: It cannot be entered, or no descriptor is left.
        """
        self._path = path
        self._library = library
        with netns.inside(path) as entered:
            self.identity: Identity = entered or NOWHERE
            self._netlink = NfnetlinkSocket()
        self._tables: Observed = {}
        self._generation: int | None = None
        self._listed_backends: frozenset[str] = frozenset()
        self._owner = TableOwner(path, OWNED[1]) if owner else None
        self._ownable = owner

    def close(self) -> None:
        """Give the namespace free."""
        self._netlink.close()
        if self._owner is not None:
            self._owner.release()
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
        text, owner = change.text, self._owner if change.table == OWNED else None
        if owner is not None:
            owner.release()
            if OWNED not in self._tables and owner.make():
                text = text.removeprefix(f"add table {' '.join(OWNED)}\n")
                self._ownable = True
                self._committed_by_us()
        try:
            before = self._netlink.generation()
            self._command(text, " ".join(change.table))
            if self._generation == before and self._netlink.generation() == before + 1:
                tables = dict(self._tables)
                tables.pop(change.table, None)
                if change.result is not None:
                    tables[change.table] = change.result
                self._tables = tables
                self._committed_by_us()
            else:
                self._generation = None
        finally:
            if self.is_free:
                self.own()

    @property
    def is_free(self) -> bool:
        """Whether the table is there that we could own and do not."""
        owned = self._owner is not None and self._owner.owns
        return self._ownable and not owned and OWNED in self._tables

    def own(self) -> None:
        """Own it; a table that cannot be owned is not tried again until we make it.

        Raises:
            KernelError: no descriptor is left.
        """
        if self._owner is not None:
            self._ownable = self._owner.own()
            if self._ownable:
                self._committed_by_us()

    def _committed_by_us(self) -> None:
        if self._generation is not None:
            self._generation += 1

    def listed_backends(self) -> frozenset[str]:
        """Backends in the tables listed since the last call, whoever wrote these."""
        found, self._listed_backends = self._listed_backends, frozenset()
        return found

    def forget(
        self, backends: frozenset[str], waited: frozenset[bytes] = frozenset()
    ) -> frozenset[bytes]:
        """Forget flows to withdrawn backends (``NfnetlinkSocket.forget``)."""
        return self._netlink.forget(backends, waited)

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
        code, _, said = library.run(identity_of(path) or NOWHERE, path, text)
    finally:
        library.close()
    if code:
        raise _refusal("ruleset", path, said)


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
            seen = frozenset(flags) - {DYNAMIC}
            sets[body["name"]] = ObservedSet(type_, elements, seen, int(body.get("timeout", 0)))
    chains = {}
    for name, hook in hooks.items():
        said = comments.get(name, [])
        fingerprint = said[0] if len(set(said)) == 1 else ""
        chains[name] = ObservedChain(hook, fingerprint, len(said))
    return ObservedTable(chains, sets)
