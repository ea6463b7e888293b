"""Fingerprints of a map by members, kept as it changes: of the whole, and of each bucket. Pure.

Two nodes that differ in one entry of thousands find it by comparing few numbers: the whole, the
buckets, then the entries of the buckets that differ. An entry's hash is added to the sums and
subtracted again, so a change costs the same whatever the number of members.

Source: hash trees of anti-entropy (Dynamo 2007, section 4.7), one level; the sums are those of
incremental hashing (Bellare, Micciancio 1997). They prove nothing against who forges entries: a
holder of the key may say what it likes anyway.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from meshnet.model.ids import NodeId

BUCKETS: Final = 64
"""Buckets of members; 1 000 members are 16 a bucket, whose versions fit into a datagram."""
SUM_BYTES: Final = 4
"""Bytes of the sum of a bucket, on the wire."""
_WHOLE: Final = (1 << 62) - 1
_PART: Final = (1 << 8 * SUM_BYTES) - 1


@lru_cache(maxsize=8192)
def bucket_of(member: NodeId) -> int:
    """The bucket that a member falls into, the same on every node."""
    return blake2b(member.encode(), digest_size=1).digest()[0] % BUCKETS


class Sums:
    """The sums of one map of members."""

    def __init__(self) -> None:
        self._hashes: dict[NodeId, int] = {}
        self._parts = [0] * BUCKETS
        self.whole = 0
        """62 bits; equal on two nodes whose maps are equal."""

    def set(self, member: NodeId, entry: str | None) -> None:
        """``member`` has this entry now; None: none."""
        new = 0
        if entry is not None:
            text = f"{member} {entry}".encode()
            new = int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
        change = new - self._hashes.get(member, 0)
        if entry is not None:
            self._hashes[member] = new
        else:
            self._hashes.pop(member, None)
        self.whole = (self.whole + change) & _WHOLE
        self._parts[bucket_of(member)] += change

    def plus(self, others: Iterable[Sums]) -> Sums:
        """Those of several maps together; not to be set."""
        found = [self, *others]
        whole = Sums()
        whole.whole = sum(each.whole for each in found) & _WHOLE
        whole._parts = list(map(sum, zip(*(each.buckets for each in found), strict=True)))
        return whole

    @property
    def buckets(self) -> tuple[int, ...]:
        """The sum of each bucket, 32 bits each."""
        return tuple(part & _PART for part in self._parts)

    def differing(self, theirs: Sequence[int]) -> frozenset[int]:
        """The buckets in which a peer with these sums differs."""
        pairs = enumerate(zip(self._parts, theirs, strict=True))
        return frozenset(number for number, (mine, other) in pairs if mine & _PART != other)


def packed(buckets: Sequence[int]) -> bytes:
    """Sums of buckets as they go over the wire."""
    return struct.pack(f">{BUCKETS}I", *buckets)


def unpacked(told: bytes) -> tuple[int, ...]:
    """Sums of buckets as a peer sent them.

    Raises:
        ValueError: not of this many buckets.
    """
    if len(told) != BUCKETS * SUM_BYTES:
        raise ValueError("not as many sums as there are buckets")
    return struct.unpack(f">{BUCKETS}I", told)
