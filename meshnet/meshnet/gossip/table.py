"""Records by owner, and what a peer lacks of them (Scuttlebutt reconciliation).

Every node owns its records. The owner numbers each change with a version that only grows; a
restart starts a new, greater generation. A peer's knowledge of an owner is one number, so a digest
is ``{owner: (generation, version)}`` and a delta holds exactly the records above that number, in
ascending order: cut anywhere, it is still valid.

Be aware: deletions are tombstones. When they are reaped, ``floor`` remembers the version; a peer
below the floor gets the owner's records whole (base 0) and starts at 0 again, so that a whole that
is cut and loses a piece is sent once more; what it holds below the floor and is not told of again
was deleted.
Source: van Renesse et al., Efficient Reconciliation and Flow Control for Anti-Entropy, 2008.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from meshnet.model.ids import NodeId

Digest = Mapping[NodeId, tuple[int, int]]
"""Owner -> (generation, highest version known)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One value of one owner; ``value`` None is a tombstone, ``since`` when it became one."""

    version: int
    value: bytes | None
    since: float


@dataclass(frozen=True, slots=True)
class Delta:
    """Records of ``owner`` above version ``base``, up to and including ``upto``."""

    owner: NodeId
    generation: int
    base: int
    upto: int
    floor: int
    """Deletions up to this version are no longer remembered; only a whole delta tells of them."""
    entries: tuple[tuple[str, int, bytes | None], ...]
    """(key, version, value), ascending by version."""


@dataclass(slots=True)
class _Owned:
    generation: int
    version: int = 0
    floor: int = 0
    records: dict[str, Record] = field(default_factory=dict)


class Table:
    """Everything known, by owner."""

    def __init__(self) -> None:
        self._owners: dict[NodeId, _Owned] = {}

    def put(
        self, owner: NodeId, generation: int, key: str, value: bytes | None, now: float
    ) -> bool:
        """The owner itself changes a record; returns whether anything changed."""
        owned = self._owners.setdefault(owner, _Owned(generation))
        current = owned.records.get(key)
        if (current.value if current else None) == value:
            return False
        owned.version += 1
        owned.records[key] = Record(owned.version, value, now)
        return True

    def adopt(self, owner: NodeId, generation: int) -> None:
        """Makes sure ``owner`` exists at ``generation`` or later."""
        if owner not in self._owners:
            self._owners[owner] = _Owned(generation)

    def digest(self) -> dict[NodeId, tuple[int, int]]:
        """What we know, one pair per owner."""
        return {owner: (owned.generation, owned.version) for owner, owned in self._owners.items()}

    def values(self, owner: NodeId) -> dict[str, bytes]:
        """Live records of ``owner``."""
        owned = self._owners.get(owner)
        if owned is None:
            return {}
        return {key: r.value for key, r in owned.records.items() if r.value is not None}

    def lacking(self, peer: Digest) -> Iterable[Delta]:
        """What a peer with digest ``peer`` does not know, one delta per owner."""
        for owner, owned in self._owners.items():
            generation, version = peer.get(owner, (0, 0))
            if (generation, version) >= (owned.generation, owned.version):
                continue
            base = version if generation == owned.generation and version >= owned.floor else 0
            yield self.above(owner, base)

    def above(self, owner: NodeId, base: int) -> Delta:
        """The delta of ``owner`` from version ``base``."""
        owned = self._owners[owner]
        entries = sorted(
            ((key, r.version, r.value) for key, r in owned.records.items() if r.version > base),
            key=lambda entry: entry[1],
        )
        return Delta(owner, owned.generation, base, owned.version, owned.floor, tuple(entries))

    def merge(self, delta: Delta, now: float) -> bool | None:
        """Takes a delta in. True: something new; False: nothing new; None: a gap, ask again."""
        owned = self._owners.get(delta.owner)
        if owned is not None and delta.generation < owned.generation:
            return False
        if owned is None or delta.generation > owned.generation:
            if delta.base != 0:
                return None
            replaced = owned is not None and bool(owned.records)
            owned = self._owners[delta.owner] = _Owned(delta.generation)
            if delta.upto == 0:
                return replaced
        if delta.base == 0 and owned.version < delta.floor:
            owned.version = 0  # what was deleted is only told by going through all that lives
        if delta.upto <= owned.version:
            return False
        if delta.base > owned.version:
            return None
        named = {key for key, _, _ in delta.entries}
        for key, record in list(owned.records.items()):
            forgotten = delta.base < record.version <= min(delta.upto, delta.floor)
            if forgotten and key not in named:
                del owned.records[key]
        if delta.base == 0:
            owned.floor = max(owned.floor, delta.floor)
        for key, version, value in delta.entries:
            current = owned.records.get(key)
            if current is None or version > current.version:
                owned.records[key] = Record(version, value, now)
        owned.version = delta.upto
        return True

    def forget(self, owner: NodeId) -> None:
        """Drops an owner and all of its records."""
        self._owners.pop(owner, None)

    def reap(self, before: float) -> None:
        """Drops tombstones older than ``before``."""
        for owned in self._owners.values():
            for key, record in list(owned.records.items()):
                if record.value is None and record.since < before:
                    owned.floor = max(owned.floor, record.version)
                    del owned.records[key]


def cut(delta: Delta, room: int, size: int) -> Iterable[Delta]:
    """``delta`` in pieces of about ``room`` bytes; each is a valid delta on top of the one before.

    Args:
        delta: what to cut.
        room: bytes for the entries of one piece.
        size: bytes that one entry adds beside its key and value.
    """
    base, used = delta.base, 0
    held: list[tuple[str, int, bytes | None]] = []
    for entry in delta.entries:
        key, version, value = entry
        need = len(key) + len(value or b"") + size
        if held and used + need > room:
            upto = held[-1][1]
            yield replace(delta, base=base, upto=upto, entries=tuple(held))
            base, used = upto, 0
            held = []
        held.append((key, version, value))
        used += need
    yield replace(delta, base=base, entries=tuple(held))
