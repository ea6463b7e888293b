"""Bytes on the wire: msgpack lists, sealed with AES-GCM. docs/protocol.md has the format.

A packet is ``version(1) nonce(12) ciphertext+tag(16)``; the plaintext is one msgpack list of
messages, and a message is a list that begins with its number. The first key of the ring seals,
every key of the ring opens, so that keys rotate without a lost packet. A packet is taken whole or
not at all: every message in it is parsed before the first is looked at.

Be aware: there is no replay window. Replayed messages are harmless: incarnations and versions
only grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from meshnet.errors import WireError
from meshnet.gossip.messages import Message, fields
from meshnet.gossip.parsing import parse

VERSION: Final = 4
OVERHEAD: Final = 1 + 12 + 16
"""Bytes that sealing adds."""
LIST_HEAD: Final = 5
"""Most bytes that the list around the messages adds."""
MESSAGES: Final = 512
"""Most messages of one packet."""
DATAGRAM_BYTES: Final = 1400
"""Largest sealed datagram that is taken; a larger one is not ours. What is sent is smaller."""
KEY_BYTES: Final = 16
NOT_OURS: Final = "not a meshnet gossip packet"
WRONG_KEY: Final = "sealed with a key we do not have"


def encode(message: Message) -> bytes:
    """``message`` as it stands inside a packet."""
    return bytes(msgpack.packb(fields(message)))


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The cluster's gossip keys, 16 bytes each (AES-128); the first seals."""

    keys: tuple[bytes, ...] = field(repr=False)

    def seal(self, encoded: Sequence[bytes], nonce: bytes) -> bytes:
        """One packet.

        Args:
            encoded: messages, as ``encode`` gives them.
            nonce: 12 random bytes, never used twice with one key.
        """
        plain = msgpack.Packer().pack_array_header(len(encoded)) + b"".join(encoded)
        return bytes((VERSION,)) + nonce + AESGCM(self.keys[0]).encrypt(nonce, plain, None)

    def open(self, packet: bytes, peer: str) -> tuple[Message, ...]:
        """The messages of ``packet``.

        Raises:
            WireError: not ours, wrong key or malformed; nothing was taken from it.
        """
        if len(packet) <= OVERHEAD or packet[0] != VERSION:
            raise WireError(peer, NOT_OURS)
        nonce, sealed = packet[1:13], packet[13:]
        for key in self.keys:
            try:
                plain = AESGCM(key).decrypt(nonce, sealed, None)
            except InvalidTag:
                continue
            return _parsed(plain, peer)
        raise WireError(peer, WRONG_KEY)


def _parsed(plain: bytes, peer: str) -> tuple[Message, ...]:
    try:
        told = msgpack.unpackb(plain, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        # TypeError: a list or a map as the key of a map.
        raise WireError(peer, "malformed msgpack") from error
    if not isinstance(told, list) or len(told) > MESSAGES:
        raise WireError(peer, "not a list of messages")
    return tuple(parse(each, peer) for each in told)
