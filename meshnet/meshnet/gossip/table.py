"""Records by owner, and what a peer lacks of them (Scuttlebutt reconciliation).

Every node owns its records. The owner numbers each change with a version that only grows; a
restart starts a new, greater generation. A peer's knowledge of an owner is one number, so a digest
is ``{owner: (generation, version)}`` and a delta holds exactly the records above that number, in
ascending order: cut anywhere, it is still valid.

Be aware: deletions are tombstones, which take no room from what lives. When they are reaped,
``floor`` remembers the version; a peer below the floor gets the owner's records whole (base 0) and
starts at 0 again, so that a whole that is cut and loses a piece is sent once more; what it holds
below the floor and is not told of again was deleted.
Source: van Renesse et al., Efficient Reconciliation and Flow Control for Anti-Entropy, 2008.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from meshnet.errors import CapacityError
from meshnet.model.ids import NodeId

KEY_LENGTH: Final = 128
"""Longest key of a record, characters."""
VALUE_BYTES: Final = 32 << 10
"""Largest value of a record; one fits into a frame of a stream."""
RECORDS: Final = 4096
"""Most live records of one owner."""
OWNER_BYTES: Final = 2 << 20
"""Most that the live records of one owner weigh."""
TOMBSTONES: Final = 4096
"""Most deletions of one owner that are remembered one by one; then the older half is forgotten, as
if its time were over."""
ENTRY_BYTES: Final = 16
"""What an entry of a delta adds to its key and value, at most, in bytes."""

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
    weight: int = 0
    """Of the live records."""
    tombstones: int = 0

    def keep(self, key: str, record: Record) -> None:
        self.drop(key)
        self.records[key] = record
        self._count(key, record, 1)
        if self.tombstones > TOMBSTONES:
            self._forget_older_half()

    def drop(self, key: str) -> None:
        record = self.records.pop(key, None)
        if record is not None:
            self._count(key, record, -1)

    def bury(self, key: str) -> None:
        """Forget a tombstone: only a whole delta tells of that deletion from now on."""
        self.floor = max(self.floor, self.records[key].version)
        self.drop(key)

    def has_room(self, entries: Iterable[tuple[str, bytes | None]]) -> bool:
        records, total = len(self.records) - self.tombstones, self.weight
        for key, value in entries:
            old = self.records.get(key)
            if old is not None and old.value is not None:
                records -= 1
                total -= _weight(key, old.value)
            if value is not None:
                records += 1
                total += _weight(key, value)
        return records <= RECORDS and total <= OWNER_BYTES

    def _count(self, key: str, record: Record, sign: int) -> None:
        if record.value is None:
            self.tombstones += sign
        else:
            self.weight += sign * _weight(key, record.value)

    def _forget_older_half(self) -> None:
        dead = [key for key, record in self.records.items() if record.value is None]
        dead.sort(key=lambda key: self.records[key].version)
        for key in dead[: len(dead) // 2]:
            self.bury(key)


class Table:
    """Everything known, by owner."""

    def __init__(self) -> None:
        self._owners: dict[NodeId, _Owned] = {}
        self.changes = 0
        """Grows whenever a version is new."""

    def put(
        self, owner: NodeId, generation: int, key: str, value: bytes | None, now: float
    ) -> bool:
        """The owner itself changes a record; returns whether anything changed.

        Raises:
            CapacityError: more than any peer would take; nothing changed.
        """
        owned = self._owners.setdefault(owner, _Owned(generation))
        current = owned.records.get(key)
        if (current.value if current else None) == value:
            return False
        if value is not None and (
            not 0 < len(key) <= KEY_LENGTH
            or len(value) > VALUE_BYTES
            or not owned.has_room([(key, value)])
        ):
            raise CapacityError(f"record {key} is more than one node may gossip")
        owned.version += 1
        self.changes += 1
        owned.keep(key, Record(owned.version, value, now))
        return True

    def begin(self, owner: NodeId, generation: int) -> None:
        """The owner itself begins ``generation`` with the records it has, if any."""
        owned = self._owners.setdefault(owner, _Owned(generation))
        owned.generation = generation
        self.changes += 1

    def version_of(self, owner: NodeId) -> tuple[int, int]:
        """(generation, highest version known) of one owner; (0, 0) when nothing is known."""
        owned = self._owners.get(owner)
        return (owned.generation, owned.version) if owned is not None else (0, 0)

    def versions(self, owners: Iterable[NodeId]) -> dict[NodeId, tuple[int, int]]:
        """What we know of each of ``owners``: a digest."""
        return {owner: self.version_of(owner) for owner in owners}

    def fingerprint(self, owners: Iterable[NodeId]) -> int:
        """A number that is equal on two nodes when they know the same of the same owners."""
        versions = self.versions(owners)
        # Whom nothing is known of is no difference from whom one never heard of.
        rows = sorted(f"{owner} {pair}" for owner, pair in versions.items() if pair != (0, 0))
        return zlib.crc32("\n".join(rows).encode())

    def values(self, owner: NodeId) -> dict[str, bytes]:
        """Live records of ``owner``."""
        owned = self._owners.get(owner)
        if owned is None:
            return {}
        return {key: r.value for key, r in owned.records.items() if r.value is not None}

    def value(self, owner: NodeId, key: str) -> bytes | None:
        """One live record of ``owner``."""
        owned = self._owners.get(owner)
        record = owned.records.get(key) if owned is not None else None
        return record.value if record is not None else None

    def lacking(self, peer: Digest, owners: Iterable[NodeId] | None = None) -> Iterable[Delta]:
        """What a peer with digest ``peer`` does not know, one delta per owner.

        Args:
            peer: who is not in it is unknown there.
            owners: of whom to speak; None: everybody.
        """
        for owner in list(self._owners) if owners is None else owners:
            owned = self._owners.get(owner)
            generation, version = peer.get(owner, (0, 0))
            if owned is None or (generation, version) >= (owned.generation, owned.version):
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

    def has_room(self, delta: Delta) -> bool:
        """Whether the owner of ``delta`` stays within what one member may hold.

        A new generation takes the place of the old one.
        """
        owned = self._owners.get(delta.owner)
        if owned is None or delta.generation > owned.generation:
            owned = _Owned(delta.generation)
        return owned.has_room((key, value) for key, _, value in delta.entries)

    def merge(self, delta: Delta, now: float) -> bool | None:
        """Takes a delta in. True: something new; False: nothing new; None: a gap, ask again."""
        owned = self._owners.get(delta.owner)
        if owned is not None and delta.generation < owned.generation:
            return False
        self.changes += 1
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
                owned.drop(key)
        if delta.base == 0:
            owned.floor = max(owned.floor, delta.floor)
        for key, version, value in delta.entries:
            current = owned.records.get(key)
            if current is None or version > current.version:
                owned.keep(key, Record(version, value, now))
        owned.version = delta.upto
        return True

    def forget(self, owner: NodeId) -> None:
        """Drops an owner and all of its records."""
        self._owners.pop(owner, None)
        self.changes += 1

    def reap(self, before: float) -> None:
        """Drops tombstones older than ``before``."""
        for owned in self._owners.values():
            for key, record in list(owned.records.items()):
                if record.value is None and record.since < before:
                    owned.bury(key)


def cut(delta: Delta, room: int) -> Iterator[Delta]:
    """``delta`` in pieces of at most ``room`` bytes; each is valid on top of the one before.

    An entry that is larger than ``room`` makes a piece of its own.

    Args:
        delta: what to cut.
        room: bytes for the entries of one piece.
    """
    base, used = delta.base, 0
    held: list[tuple[str, int, bytes | None]] = []
    for entry in delta.entries:
        need = weight(entry)
        if held and used + need > room:
            upto = held[-1][1]
            yield replace(delta, base=base, upto=upto, entries=tuple(held))
            base, used = upto, 0
            held = []
        held.append(entry)
        used += need
    yield replace(delta, base=base, entries=tuple(held))


def weight(entry: tuple[str, int, bytes | None]) -> int:
    """Bytes of one entry of a delta, at most."""
    key, _, value = entry
    return _weight(key, value)


def _weight(key: str, value: bytes | None) -> int:
    return len(key) + len(value or b"") + ENTRY_BYTES
