"""DNS messages to values and back. dnslib is used here and nowhere else.

Replies are made by dnslib. Queries come from programs that may mean us harm and are read here: one
walk over the bytes, no pointer is followed, nothing is decoded but the question and EDNS. dnslib
would follow each name of each record, milliseconds for a packet that was made for it.

A reply is kept in three pieces, head (header and question), records, tail (EDNS), because all A
records of one name have the same size: rotating them is slicing (``Reply.packets``).

Sizes (RFC 1035 4.2.1, RFC 6891): over UDP 512 bytes, with EDNS what the client offers but at most
1232 (no fragments on any path, dnsflagday.net/2020); over TCP 65535. What does not fit is left out
whole record by whole record and TC is set; the rotation goes over all records, so that clients that
ignore TC (musl) see all of them in turn.

Be aware: EDNS options are ignored and not echoed; a packet with options (a cookie differs in every
query) is not worth a cache entry, ``Query.cacheable`` says so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from itertools import repeat
from typing import Any, Final

from dnslib import (
    AAAA,
    EDNS0,
    PTR,
    QTYPE,
    RCODE,
    RR,
    SRV,
    A,
    DNSBuffer,
    DNSError,
    DNSHeader,
    DNSLabel,
    DNSRecord,
)

from meshnet.errors import WireError
from meshnet_dns.answer import (
    FORMERR,
    NOTIMP,
    REFUSED,
    SERVFAIL,
    TTL_S,
    WEIGHT,
    Answer,
    Question,
)

HEADER: Final = 12
UDP_PLAIN: Final = 512
UDP_EDNS: Final = 1232
TCP: Final = 65535
BADVERS: Final = 16
_A_RECORD: Final = 16
"""Bytes of an A record whose name is a pointer: 2 + 2 + 2 + 4 + 2 + 4."""
_AAAA_RECORD: Final = 28
_OPT: Final = 41
_RESPONSE: Final = 0x8000
_OPCODE: Final = 0x7800
_TC: Final = 0x0200
_RA: Final = 0x0080
_RD_CD: Final = 0x0110
_NAME: Final = 255
_WITHOUT_QUESTION: Final = frozenset({FORMERR, SERVFAIL, NOTIMP, REFUSED})
_COUNTS: Final = struct.Struct("!HHHHHH")
_TYPE_CLASS: Final = struct.Struct("!HH")
RECORD: Final = struct.Struct("!HHIH")
"""Type, class, TTL and the size of the data (RFC 1035 section 3.2.1)."""
_LABEL: Final = 64
_POINTER: Final = 192


@dataclass(frozen=True, slots=True)
class Query:
    """A question with what its asker can take.

    Attributes:
        question: lower case.
        label: the name as it was spelt; replies repeat it letter by letter.
        bits: header bits to repeat (RD, CD).
        offered: UDP bytes the asker can take by EDNS, None without EDNS.
        version: EDNS version, 0 is the only one there is.
        dnssec: DO bit, repeated (RFC 3225).
        options: EDNS options are present.
    """

    question: Question
    label: DNSLabel
    bits: int
    offered: int | None = None
    version: int = 0
    dnssec: bool = False
    options: bool = False

    @property
    def cacheable(self) -> bool:
        """Whether the same bytes are likely to come again."""
        return not self.options

    @property
    def udp_limit(self) -> int:
        """Bytes that a reply over UDP may have."""
        if self.offered is None:
            return UDP_PLAIN
        return min(max(self.offered, UDP_PLAIN), UDP_EDNS)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply without its ID (the first two bytes are zero)."""

    head: bytes
    records: bytes = b""
    tail: bytes = b""
    shown: int = 0
    """Bytes of ``records`` in one packet; fewer than all when truncated."""
    step: int = 0
    """Bytes of each record, where they are of one size and take turns; 0: they do not."""

    @property
    def rotates(self) -> bool:
        """Each packet begins with another record."""
        return self.step > 0

    def packets(self, first: int = 0) -> Iterator[bytes]:
        """The reply again and again, the addresses rotated by one each time. Never ends.

        Args:
            first: the record that the first packet begins with, modulo their number.
        """
        if not self.rotates:
            return repeat(self.head + self.records[: self.shown] + self.tail)
        return self._rotations(first)

    def _rotations(self, first: int) -> Iterator[bytes]:
        twice = self.records * 2
        start = first * self.step % len(self.records)
        while True:
            yield self.head + twice[start : start + self.shown] + self.tail
            start = (start + self.step) % len(self.records)


def parse(packet: bytes) -> Query:
    """The query in ``packet``.

    Raises:
        WireError: not a query at all (a response, or no header): drop it; never answer a response.
        RefusedQueryError: a query that is answered with a result code only.
    """
    if len(packet) < HEADER:
        raise WireError("client", "short")
    _, bits, questions, answers, authorities, others = _COUNTS.unpack_from(packet)
    if bits & _RESPONSE:
        raise WireError("client", "response")
    if bits & _OPCODE:
        raise RefusedQueryError("client", "opcode", NOTIMP)
    if questions != 1:
        raise RefusedQueryError("client", "malformed", FORMERR)
    labels, at = _labels(packet)
    kind, cls = _unpacked(_TYPE_CLASS, packet, at)
    # A dot within a label is not one between labels.
    name = b".".join(label.replace(b".", b"\\.") for label in labels).lower().decode("latin-1")
    query = Query(Question(name, kind, cls), DNSLabel(labels), bits & _RD_CD)
    opt = _opt(packet, at + _TYPE_CLASS.size, answers + authorities, others)
    if opt is None:
        return query
    offered, ttl, size = opt
    return replace(
        query, offered=offered, version=ttl >> 16 & 0xFF, dnssec=bool(ttl & 0x8000),
        options=size > 0,
    )  # fmt: skip


def _labels(packet: bytes) -> tuple[list[bytes], int]:
    """The labels of the question and where its name ends. A first name has nothing to point to."""
    found: list[bytes] = []
    at = HEADER
    while at < len(packet) and 0 < packet[at] < _LABEL:
        end = at + 1 + packet[at]
        found.append(packet[at + 1 : end])
        at = end
    if at >= len(packet) or packet[at] != 0 or at - HEADER >= _NAME:
        raise RefusedQueryError("client", "malformed", FORMERR)
    return found, at + 1


def _opt(packet: bytes, at: int, before: int, others: int) -> tuple[int, int, int] | None:
    """Class, TTL and size of the EDNS record among the ``others``, which follow ``before`` records.

    At most one record for 11 bytes of ``packet``, whatever the header counts.
    """
    opt: tuple[int, int, int] | None = None
    for index in range(before + others):
        at = past_name(packet, at)
        kind, cls, ttl, size = record_at(packet, at)
        at += RECORD.size + size
        if kind == _OPT and index >= before:
            if opt is not None:  # RFC 6891 section 6.1.1
                raise RefusedQueryError("client", "malformed", FORMERR)
            opt = cls, ttl, size
    if at > len(packet):
        raise RefusedQueryError("client", "malformed", FORMERR)
    return opt


def past_name(packet: bytes, at: int) -> int:
    """Where the name at ``at`` ends; a pointer ends it and is not followed.

    Raises:
        WireError: it has no end, or a label of no known kind.
    """
    while at < len(packet):
        size = packet[at]
        if size == 0:
            return at + 1
        if size >= _POINTER:
            return at + 2
        if size >= _LABEL:
            break
        at += 1 + size
    raise RefusedQueryError("client", "malformed", FORMERR)


def record_at(packet: bytes, at: int) -> tuple[int, ...]:
    """Type, class, TTL and size of the data of the record whose name ends at ``at``.

    Raises:
        WireError: ``packet`` ends before.
    """
    return _unpacked(RECORD, packet, at)


def _unpacked(form: struct.Struct, packet: bytes, at: int) -> tuple[int, ...]:
    if at + form.size > len(packet):
        raise RefusedQueryError("client", "malformed", FORMERR)
    return form.unpack_from(packet, at)


@dataclass
class RefusedQueryError(WireError):
    """A query that we answer with ``rcode`` and nothing else."""

    rcode: int


def reply(query: Query, answer: Answer, limit: int) -> Reply:
    """``answer`` as bytes, at most ``limit`` of them in one packet."""
    tail = _edns(query)
    rcode = answer.rcode
    if query.version:
        answer, rcode = Answer(), 0  # BADVERS is 16: its low four bits are in the header
    header: Any = DNSHeader(
        id=0, bitmap=query.bits, qr=1, aa=int(answer.authoritative), ra=1, rcode=rcode
    )
    message: Any = DNSRecord(header)
    message.add_question(_question(query))
    head_size = len(message.pack())
    for record in _records(query, answer):
        message.add_answer(record)
    packed = message.pack()
    records, count = packed[head_size:], header.a
    for record in _additional(answer):
        message.add_ar(record)
    additional, more = message.pack()[len(packed) :], header.ar
    room = limit - head_size - len(tail)
    size = _record_size(answer)
    if len(records) > room:
        count = room // size if size else 0
        header.tc = 1
    shown = len(records) if not header.tc else count * size
    if header.tc or shown + len(additional) > room:  # no TC for these (RFC 2181 section 9)
        additional, more = b"", 0
    counts = _COUNTS.pack(0, header.bitmap, 1, count, 0, more + bool(tail))
    head = counts + packed[HEADER:head_size]
    step = size if len(answer.addresses) > 1 else 0
    return Reply(head, records, additional + tail, shown, step)


def _record_size(answer: Answer) -> int:
    """Bytes of each record of addresses; 0: it has none, or of both families."""
    sizes = {_AAAA_RECORD if isinstance(at, IPv6Address) else _A_RECORD for at in answer.addresses}
    return sizes.pop() if len(sizes) == 1 else 0


def failure(packet: bytes, rcode: int) -> bytes:
    """A reply with ``rcode`` and the question to ``packet``, which ``parse`` could read."""
    question = question_of(packet)
    return _header(packet, rcode, 1 if question else 0) + question


def refusal(packet: bytes, rcode: int) -> bytes:
    """A reply with ``rcode`` and nothing else to ``packet`` (>= 12 bytes).

    Nothing of a packet that could not be read is sent back: its "question" may be no name at all.
    """
    return _header(packet, rcode, 0)


def _header(packet: bytes, rcode: int, questions: int) -> bytes:
    number, bits, _, _, _, _ = _COUNTS.unpack_from(packet)
    bits = _RESPONSE | _RA | bits & (_RD_CD | _OPCODE) | rcode
    return _COUNTS.pack(number, bits, questions, 0, 0, 0)


def question_of(packet: bytes) -> bytes:
    """The bytes of the first question of ``packet``, empty when it has none that is whole.

    Only plain labels: a compressed first question does not exist. A name of more than 255 bytes is
    none (RFC 1035 section 2.3.4).
    """
    at = HEADER
    while at < len(packet) and 0 < packet[at] < 64:  # noqa: PLR2004 - the two high bits: a pointer
        at += 1 + packet[at]
    end = at + 5
    if end > len(packet) or packet[at] != 0 or at >= HEADER + _NAME:
        return b""
    return packet[HEADER:end]


def answers(response: bytes, query: bytes) -> bool:
    """Whether ``response`` answers ``query``: same ID, same question, and a response (RFC 5452).

    Some servers leave the question out where they have no data: a truncated response, a refusal.
    That can tell nobody anything false, so it counts (as in BIND, lib/dns/resolver.c
    same_question).
    """
    if len(response) < HEADER or response[:2] != query[:2] or not response[2] & 0x80:
        return False
    if response[4:HEADER] == bytes(8):
        return truncated(response) or rcode_of(response) in _WITHOUT_QUESTION
    return folded(question_of(response)) == folded(question_of(query))


def folded(question: bytes) -> bytes:
    """The bytes of a question with its name in lower case; its type and class are no letters."""
    return question[:-4].lower() + question[-4:]


def cut(response: bytes) -> bytes:
    """The header of ``response`` for a client that can take no more than that and the question."""
    bits = int.from_bytes(response[2:4]) | _TC
    return response[:2] + bits.to_bytes(2) + b"\0\1" + bytes(6)


def with_question(response: bytes, query: bytes) -> bytes:
    """``response``, which ``answers`` the query, with its question where the server left it out.

    Stubs are stricter than we are: glibc waits on for one that repeats its question.
    """
    if response[4:HEADER] != bytes(8):
        return response
    question = question_of(query)
    return response[:4] + (b"\0\1" if question else b"\0\0") + bytes(6) + question


def truncated(packet: bytes) -> bool:
    """Whether TC is set in ``packet``, which has at least a header."""
    return bool(int.from_bytes(packet[2:4]) & _TC)


def asking(name: str, kind: str, number: int) -> bytes:
    """A query as a program sends it.

    Raises:
        ValueError: no name or no type that can be asked.
    """
    said = name or "an empty text"
    no_name = f"{said} is no name that can be asked: its labels have 1 to 63 bytes"
    if not name:
        raise ValueError(no_name)
    try:
        packed = bytes(DNSRecord.question(name, kind).pack())
    except UnicodeError as error:
        raise ValueError(no_name) from error
    except (DNSError, ValueError) as error:
        raise ValueError(f"{name} {kind} cannot be asked: {error}") from error
    return number.to_bytes(2, "big") + packed[2:]


def type_number(kind: str) -> int:
    """IANA's number of a type such as ``AAAA``.

    Raises:
        ValueError: there is none.
    """
    try:
        return int(getattr(QTYPE, kind.upper()))
    except (DNSError, AttributeError) as error:
        raise ValueError(f"no such type: {kind}") from error


def told(response: bytes) -> tuple[str, list[str]]:
    """The result code's name and the answer's records, as a person reads them.

    Raises:
        WireError: not a message.
    """
    try:
        record = DNSRecord.parse(response)
    except (DNSError, ValueError, IndexError) as error:
        raise WireError("a DNS server", f"unreadable: {error}") from error
    return str(RCODE.get(record.header.rcode)), [str(each.rdata) for each in record.rr]


def rcode_of(packet: bytes) -> int:
    """The low four bits of the result code of ``packet``, which has at least a header."""
    return packet[3] & 0x0F


def _question(query: Query) -> Any:  # noqa: ANN401 - dnslib has no types
    from_dnslib: Any = DNSRecord.question(".", "A").q
    from_dnslib.qname = query.label
    from_dnslib.qtype = query.question.type
    from_dnslib.qclass = query.question.cls
    return from_dnslib


def _records(query: Query, answer: Answer) -> Iterator[Any]:
    for address in answer.addresses:
        if isinstance(address, IPv6Address):
            yield RR(query.label, QTYPE.AAAA, ttl=TTL_S, rdata=AAAA(str(address)))
        else:
            yield RR(query.label, QTYPE.A, ttl=TTL_S, rdata=A(str(address)))
    if answer.pointer:
        yield RR(query.label, QTYPE.PTR, ttl=TTL_S, rdata=PTR(answer.pointer))
    for place in answer.served:
        yield RR(
            query.label, QTYPE.SRV, ttl=TTL_S,
            rdata=SRV(place.priority, WEIGHT, place.port, place.target),
        )  # fmt: skip


def _additional(answer: Answer) -> Iterator[Any]:
    """The addresses of the names in the answer, each once."""
    for target, address in dict.fromkeys((each.target, each.address) for each in answer.served):
        yield RR(target, QTYPE.A, ttl=TTL_S, rdata=A(str(address)))


def _edns(query: Query) -> bytes:
    if query.offered is None:
        return b""
    buffer: Any = DNSBuffer()
    EDNS0(
        flags="do" if query.dnssec else "",
        udp_len=UDP_EDNS,
        ext_rcode=BADVERS >> 4 if query.version else 0,
    ).pack(buffer)
    return bytes(buffer.data)
