"""One owner's records, what is told of them, and how it is known that the owner says so.

An owner signs the *head* of each share: generation, version, and a digest of what lives. So what is
accepted is exactly what the owner had at that version, whoever passes it on, in however many
pieces, with whatever tombstones and floor: these are for finding the way there and prove nothing.

Be aware: the digest is of what lives, as every node forgets deletions at a time of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final

from meshnet.gossip import signing
from meshnet.gossip.shares import Share

KEY_LENGTH: Final = 128
"""Longest key of a record, characters."""
VALUE_BYTES: Final = 32 << 10
"""Largest value of a record; one fits into a frame of a stream."""
RECORDS: Final = 4096
"""Most live records of one owner, in all of its shares."""
OWNER_BYTES: Final = 2 << 20
"""Most that the live records of one owner weigh."""
TOMBSTONES: Final = 4096
"""Most deletions of one share that are remembered one by one; then the older half is forgotten, as
if its time were over."""
ENTRY_BYTES: Final = 16
"""What an entry of a delta adds to its key and value, at most, in bytes."""
DIGEST_BYTES: Final = 16
PROOF_BYTES: Final = DIGEST_BYTES + signing.SIGNATURE_BYTES

Entry = tuple[str, int, bytes | None]
"""(key, version, value); no value: it was deleted."""


@dataclass(frozen=True, slots=True)
class Proof:
    """An owner's signature under its head."""

    digest: bytes
    """Of its live records at that version, 16 bytes."""
    signature: bytes

    def holds(self, public: bytes, share: Share, generation: int, version: int) -> bool:
        """Whether the owner with this public key signed it for this version."""
        said = head(share, generation, version, self.digest)
        return signing.is_signed(public, self.signature, said)


def head(share: Share, generation: int, version: int, digest: bytes) -> bytes:
    """What an owner signs."""
    return signing.text("records", share, generation, version, digest)


@dataclass(frozen=True, slots=True)
class Delta:
    """Records of ``share`` above version ``base``, up to and including ``upto``."""

    share: Share
    generation: int
    base: int
    upto: int
    floor: int
    """Deletions up to this version are no longer remembered; only a whole delta tells of them."""
    entries: tuple[Entry, ...]
    """Ascending by version."""
    proof: Proof | None = None
    """Of ``upto``, in the last piece of a delta that was cut; None: another piece follows."""


@dataclass(frozen=True, slots=True)
class Record:
    """One value of one owner; ``value`` None is a tombstone, ``since`` when it became one."""

    version: int
    value: bytes | None
    since: float
    mark: bytes
    """A hash of key, version and value."""

    @classmethod
    def of(cls, key: str, version: int, value: bytes | None, now: float) -> Record:
        """The record at a key."""
        said = f"{version} {key} ".encode() + (value or b"")
        return cls(version, value, now, blake2b(said, digest_size=DIGEST_BYTES).digest())


@dataclass(frozen=True, slots=True)
class Room:
    """What live records take."""

    records: int = 0
    weight: int = 0
    """Bytes."""

    def plus(self, other: Room) -> Room:
        """Both together."""
        return Room(self.records + other.records, self.weight + other.weight)

    def fits(self, times: int = 1) -> bool:
        """Within so many times what one member may hold."""
        return self.records <= times * RECORDS and self.weight <= times * OWNER_BYTES


@dataclass(slots=True)
class Owned:
    """What is known of one share."""

    generation: int
    version: int = 0
    floor: int = 0
    records: dict[str, Record] = field(default_factory=dict)
    weight: int = 0
    """Of the live records."""
    tombstones: int = 0
    proof: Proof | None = None
    """None: not known yet, or of what changed since."""
    counts: bool = False
    """It concerns this node; what does not is kept for a moment, as news come in any order."""

    @property
    def live(self) -> int:
        """Records that were not deleted."""
        return len(self.records) - self.tombstones

    def copy(self) -> Owned:
        """Another one, free to be changed."""
        return replace(self, records=dict(self.records), proof=None, counts=False)

    def digest(self) -> bytes:
        """Of what lives, in the order of versions."""
        live = sorted((r.version, r.mark) for r in self.records.values() if r.value is not None)
        joined = b"".join(mark for _, mark in live)
        return blake2b(joined, digest_size=DIGEST_BYTES).digest()

    def values(self) -> dict[str, bytes]:
        """What lives."""
        return {key: r.value for key, r in self.records.items() if r.value is not None}

    def keep(self, key: str, record: Record) -> None:
        """A record is this one now."""
        self.drop(key)
        self.records[key] = record
        self._count(key, record, 1)
        if self.tombstones > TOMBSTONES:
            self._forget_older_half()

    def drop(self, key: str) -> None:
        """A record, or its tombstone, is no more."""
        record = self.records.pop(key, None)
        if record is not None:
            self._count(key, record, -1)

    def take(self, delta: Delta, now: float) -> None:
        """A delta that fits on top; one from 0 names everything, so it goes on top of nothing."""
        if delta.base == 0:
            self.floor = max(self.floor, delta.floor)
        for key, version, value in delta.entries:
            current = self.records.get(key)
            if current is None or version > current.version:
                self.keep(key, Record.of(key, version, value, now))
        self.version = max(self.version, delta.upto)

    def bury(self, key: str) -> None:
        """Forget a tombstone: only a whole delta tells of that deletion from now on."""
        self.floor = max(self.floor, self.records[key].version)
        self.drop(key)

    def has_room(self, key: str, value: bytes, beside: Room) -> bool:
        """Whether it still fits with this one.

        Args:
            key: of the record.
            value: of the record.
            beside: what the owner's other shares take.
        """
        old = self.records.get(key)
        lives = old is not None and old.value is not None
        live = self.live + (not lives)
        less = _weight(key, old.value) if old is not None and old.value is not None else 0
        room = Room(live, self.weight - less + _weight(key, value))
        return room.plus(beside).fits()

    @property
    def room(self) -> Room:
        """What the live records take."""
        return Room(self.live, self.weight)

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


def cut(delta: Delta, room: int) -> Iterator[Delta]:
    """``delta`` in pieces of at most ``room`` bytes; the last one has the proof of the whole.

    An entry that is larger than ``room`` makes a piece of its own.

    Args:
        delta: what to cut.
        room: bytes for the entries of one piece.
    """
    base, used = delta.base, 0
    held: list[Entry] = []
    for entry in delta.entries:
        need = weight(entry)
        if held and used + need > room:
            upto = held[-1][1]
            yield replace(delta, base=base, upto=upto, entries=tuple(held), proof=None)
            base, used = upto, 0
            held = []
        held.append(entry)
        used += need
    yield replace(delta, base=base, entries=tuple(held))


def weight(entry: Entry) -> int:
    """Bytes of one entry of a delta, at most."""
    key, _, value = entry
    return _weight(key, value)


def total(entries: Iterable[Entry]) -> int:
    """Bytes of these entries, at most."""
    return sum(map(weight, entries))


def _weight(key: str, value: bytes | None) -> int:
    return len(key) + len(value or b"") + ENTRY_BYTES
