"""Answers of upstreams that are good for a while: by their TTLs, bounded in number and bytes. PURE.

| answer | kept for (RFC 2181 section 5.2, RFC 2308 section 5) |
|---|---|
| NOERROR with records | the lowest TTL of all its records, ``LONGEST_S`` at most |
| NXDOMAIN, or NOERROR without an answer | the SOA's TTL or its MINIMUM, ``NEGATIVE_S`` at most |
| the same without an SOA, any other result code, cut (TC), more than ``MOST_BYTES`` | not at all |

What is given out has its TTLs lowered by its age. Who was the first to ask owns an entry: a
container has at most ``EACH`` of ``ENTRIES`` and as large a part of the bytes, and its own oldest
goes first, so that one that asks for thousands of names takes nothing from the others.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from meshnet.errors import WireError
from meshnet_dns import wire
from meshnet_dns.answer import NOERROR, NXDOMAIN

LONGEST_S: Final = 3600
NEGATIVE_S: Final = 300
"""A name that somebody has just made is not denied for hours; RFC 2308 would allow three."""
MOST_BYTES: Final = 4096
"""Of an answer that is kept."""
ENTRIES: Final = 8192
BYTES: Final = 8 << 20
EACH: Final = 1024
OVERHEAD: Final = 400
"""Bytes that an entry costs besides its question and its answer, about."""
_SOA: Final = 6
_OPT: Final = 41
_SOA_LEAST: Final = 22
"""Bytes of an SOA's data: two names and five numbers (RFC 1035 section 3.3.13)."""
_TTL: Final = struct.Struct("!I")

Key = tuple[Hashable, bytes]
"""Who was asked, and ``forwarded.key_of`` the question."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long an answer is good, and where its TTLs are."""

    seconds: int
    ttls: tuple[int, ...]


def lifetime(response: bytes) -> Lifetime | None:
    """How long ``response``, at least a header, may be given to others; None: not at all."""
    rcode = wire.rcode_of(response)
    if rcode not in {NOERROR, NXDOMAIN} or wire.truncated(response) or len(response) > MOST_BYTES:
        return None
    try:
        ttls, minimum = _ttls(response)
    except WireError:
        return None
    denies = rcode == NXDOMAIN or not int.from_bytes(response[6:8])
    if not ttls or (denies and minimum is None):
        return None
    values = [int.from_bytes(response[at : at + 4]) for at in ttls]
    if minimum is not None:
        values.append(minimum)
    # RFC 2181 section 8: one with the highest bit set is none.
    least = min(0 if value >> 31 else value for value in values)
    seconds = min(least, NEGATIVE_S if minimum is not None else LONGEST_S)
    return Lifetime(seconds, tuple(ttls)) if seconds > 0 else None


def _ttls(response: bytes) -> tuple[list[int], int | None]:
    """Where each record's TTL is, and the MINIMUM of an SOA among the authorities.

    Raises:
        WireError: it has not one question and as many records as its header says.
    """
    questions, answers, authorities, others = struct.unpack_from("!HHHH", response, 4)
    question = wire.question_of(response)
    if questions != 1 or not question:
        raise WireError("a DNS server", "malformed")
    at, found, minimum = wire.HEADER + len(question), [], None
    for index in range(answers + authorities + others):
        at = wire.past_name(response, at)
        kind, _, _, size = wire.record_at(response, at)
        if kind != _OPT:
            found.append(at + 4)
        at += wire.RECORD.size + size
        if at > len(response):
            raise WireError("a DNS server", "malformed")
        if kind == _SOA and answers <= index < answers + authorities and size >= _SOA_LEAST:
            minimum = int.from_bytes(response[at - 4 : at])
    if at != len(response):
        raise WireError("a DNS server", "malformed")
    return found, minimum


@dataclass(slots=True)
class _Entry:
    response: bytes
    ttls: tuple[int, ...]
    since: float
    until: float
    owner: Hashable
    size: int


class KeptAnswers:
    """What upstreams said, oldest first.

    Args:
        entries: how many at most; an owner has an eighth.
        size: their bytes at most; an owner has an eighth.
    """

    def __init__(self, entries: int = ENTRIES, size: int = BYTES) -> None:
        self._most = (entries, size)
        self._each = (max(1, entries * EACH // ENTRIES), size * EACH // ENTRIES)
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._owned: dict[Hashable, OrderedDict[Key, int]] = {}
        self._sizes: dict[Hashable, int] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key, now: float) -> bytes | None:
        """The answer, its TTLs as they are ``now``; None: none that is still good."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.until:
            self._drop(key)
            return None
        age = int(now - entry.since)
        if not age:
            return entry.response
        aged = bytearray(entry.response)
        for at in entry.ttls:
            _TTL.pack_into(aged, at, max(0, _TTL.unpack_from(aged, at)[0] - age))
        return bytes(aged)

    def keep(self, key: Key, response: bytes, owner: Hashable, now: float) -> None:
        """Keep ``response`` if it may be, in place of one that is there.

        Args:
            key: whom it is for.
            response: with its one question.
            owner: the container that asked.
            now: seconds of a clock that never goes back.
        """
        good = lifetime(response)
        if good is None:
            return
        self._drop(key)
        size = len(response) + len(key[1]) + OVERHEAD
        self._entries[key] = _Entry(response, good.ttls, now, now + good.seconds, owner, size)
        owned = self._owned.setdefault(owner, OrderedDict())
        owned[key] = size
        self._sizes[owner] = self._sizes.get(owner, 0) + size
        self.bytes += size
        while owned and (len(owned) > self._each[0] or self._sizes[owner] > self._each[1]):
            self._drop(next(iter(owned)))
        while self._entries and (len(self._entries) > self._most[0] or self.bytes > self._most[1]):
            self._drop(next(iter(self._entries)))

    def forget(self, owner: Hashable) -> None:
        """Nothing of that owner is kept any more."""
        for key in list(self._owned.get(owner, ())):
            self._drop(key)

    def clear(self) -> None:
        """Keep nothing of what there is."""
        self._entries.clear()
        self._owned.clear()
        self._sizes.clear()
        self.bytes = 0

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self.bytes -= entry.size
        owned = self._owned[entry.owner]
        del owned[key]
        self._sizes[entry.owner] -= entry.size
        if not owned:
            del self._owned[entry.owner], self._sizes[entry.owner]
