"""What is for one peer, in packets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from meshnet.gossip import wire
from meshnet.gossip.messages import Buckets, DigestMessage, Message, Summary
from meshnet.gossip.shares import Share

_DIGEST_HEAD_BYTES: Final = 8
_PAIR_BYTES: Final = 2 + 1 + 2 * 9
"""What a digest adds to the name of a share, at most."""


def packed(messages: Sequence[Message], packet_bytes: int) -> Iterator[tuple[list[bytes], int]]:
    """The messages of each packet, encoded, and the bytes that are left in it.

    Of several summaries only the newest goes. A packet has one digest, so that what it asks for is
    bounded: several become one.

    Args:
        messages: what is for one peer; each fits into a packet.
        packet_bytes: largest sealed packet.
    """
    messages = _one_digest(messages, packet_bytes)
    newest = {type(m): place for place, m in enumerate(messages)}
    room = packet_bytes - wire.OVERHEAD - wire.LIST_HEAD
    held: list[bytes] = []
    left = room
    for place, message in enumerate(messages):
        if isinstance(message, Summary | Buckets) and newest[type(message)] != place:
            continue
        encoded = wire.encode(message)
        if held and (len(encoded) > left or len(held) == wire.MESSAGES):
            yield held, 0
            held, left = [], room
        held.append(encoded)
        left -= len(encoded)
    yield held, left


def named(shares: Iterable[Share], packet_bytes: int) -> list[Share]:
    """The first of these shares, as many as one digest in one packet can name."""
    room = packet_bytes - wire.OVERHEAD - wire.LIST_HEAD - _DIGEST_HEAD_BYTES
    some: list[Share] = []
    for share in shares:
        room -= len(share) + _PAIR_BYTES
        if room < 0:
            break
        some.append(share)
    return some


def _one_digest(messages: Sequence[Message], packet_bytes: int) -> Sequence[Message]:
    """What several digests name is asked for by one; what does not fit is asked for again."""
    digests = [message for message in messages if isinstance(message, DigestMessage)]
    if len(digests) < 2:  # noqa: PLR2004 - several
        return messages
    told = {share: pair for digest in digests for share, pair in digest.versions.items()}
    others = [message for message in messages if not isinstance(message, DigestMessage)]
    return [*others, DigestMessage({share: told[share] for share in named(told, packet_bytes)})]
