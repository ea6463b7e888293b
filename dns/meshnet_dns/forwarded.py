"""A question on its way to an upstream, and what comes back: bytes in, bytes out. PURE.

What is sent is what the client sent, but for the ID and for the UDP size it offers: no more than
``wire.UDP_EDNS``, so that no answer comes in fragments, which can be lost or forged piece by piece
(RFC 6891 section 6.2.5, RFC 8900). Types we know nothing of, DO, CD, options all pass, and the
name as it is spelt ("0x20"): some clients compare it letter by letter with what comes back.

Two questions are the same when their bytes are, the ID and the case of letters aside: flags, EDNS
and DO may change an answer. One with EDNS options is nobody else's: a cookie is the client's own
(RFC 7873), a client subnet changes the answer (RFC 7871).

Be aware: letters are not spelt at random on our side, as draft-vixie-dnsext-dns0x20 would: servers
that answer in lower case would have to be believed, too.
"""

from __future__ import annotations

from typing import Final

from meshnet_dns import wire

_OPT_SIZE: Final = 11
"""Bytes of an EDNS record without options: root, type, size, TTL, length (RFC 6891 6.1.2)."""
_ONE_MORE: Final = b"\0\0\0\0\0\1"
"""Counts of a query that has an additional record and no other."""
_OPT_BEGIN: Final = b"\0\0\x29"


def key_of(query: bytes) -> bytes | None:
    """The same for queries that have the same answer; None: it may have one of its own.

    Args:
        query: of a client, at least a header.
    """
    question = wire.question_of(query)
    rest = query[wire.HEADER + len(question) :]
    if not question or (rest and not _plain_edns(query, rest)):
        return None
    return query[2 : wire.HEADER] + wire.folded(question) + rest


def sent(query: bytes, number: bytes) -> bytes:
    """``query`` as it goes to an upstream, with the ID ``number``."""
    at = wire.HEADER + len(wire.question_of(query))
    said = number + query[2:]
    if query[6 : wire.HEADER] != _ONE_MORE or query[at : at + 3] != _OPT_BEGIN:
        return said
    size = int.from_bytes(query[at + 3 : at + 5])
    if size <= wire.UDP_EDNS:
        return said
    return said[: at + 3] + wire.UDP_EDNS.to_bytes(2) + said[at + 5 :]


def returned(response: bytes, query: bytes, *, tcp: bool) -> bytes:
    """``response``, which answers the same question, as ``query`` was asked: ID and letters.

    By UDP what is longer than the client can take becomes the header and the question, with TC.
    """
    question = wire.question_of(query)
    end = wire.HEADER + len(question)
    if not tcp and len(response) > _udp_limit(query, end):
        return query[:2] + wire.cut(response)[2 : wire.HEADER] + question
    if wire.question_of(response)[-4:] != question[-4:]:
        return query[:2] + response[2:]
    return query[:2] + response[2 : wire.HEADER] + question + response[end:]


def _udp_limit(query: bytes, end: int) -> int:
    """Bytes that the client of ``query``, whose question ends there, can take by UDP."""
    rest = query[end:]
    offered = int.from_bytes(rest[3:5]) if rest[:3] == _OPT_BEGIN else 0
    return min(max(offered, wire.UDP_PLAIN), wire.UDP_EDNS)


def _plain_edns(query: bytes, rest: bytes) -> bool:
    return len(rest) == _OPT_SIZE and query[6 : wire.HEADER] == _ONE_MORE and rest[:3] == _OPT_BEGIN
