"""Bytes on the wire: msgpack lists, sealed with AES-GCM. docs/protocol.md has the format.

A packet is ``version(1) nonce(12) ciphertext+tag(16)``; the plaintext is one msgpack list of
messages, and a message is a list that begins with its number. The newest key of the ring seals,
every key of the ring opens, so that keys rotate without a lost packet.

Be aware: there is no replay window. Replayed messages are harmless: incarnations and versions
only grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from meshnet.errors import WireError

VERSION: Final = 1
OVERHEAD: Final = 1 + 12 + 16
"""Bytes that sealing adds."""

PING: Final = 1
PING_REQ: Final = 2
ACK: Final = 3
NACK: Final = 4
ALIVE: Final = 5
SUSPECT: Final = 6
DEAD: Final = 7
DIGEST: Final = 8
DELTA: Final = 9
SYNC: Final = 10

Message = list[Any]
"""``[number, field, …]``; the fields of each number are listed in docs/protocol.md."""

_FIELDS: Final = {
    PING: 3,
    PING_REQ: 5,
    ACK: 2,
    NACK: 2,
    ALIVE: 5,
    SUSPECT: 4,
    DEAD: 4,
    DIGEST: 3,
    DELTA: 7,
    SYNC: 4,
}


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The cluster's gossip keys, 16 bytes each (AES-128), newest first."""

    keys: tuple[bytes, ...]

    def seal(self, messages: Sequence[Message], nonce: bytes) -> bytes:
        """One packet from ``messages``.

        Args:
            messages: what to send.
            nonce: 12 random bytes, never used twice with one key.
        """
        plain = msgpack.packb(list(messages))
        return bytes((VERSION,)) + nonce + AESGCM(self.keys[0]).encrypt(nonce, plain, None)

    def open(self, packet: bytes, peer: str) -> list[Message]:
        """The messages of ``packet``.

        Raises:
            WireError: not ours, wrong key or malformed; nothing was taken from it.
        """
        if len(packet) <= OVERHEAD or packet[0] != VERSION:
            raise WireError(peer, "not a meshnet gossip packet")
        nonce, sealed = packet[1:13], packet[13:]
        for key in self.keys:
            try:
                plain = AESGCM(key).decrypt(nonce, sealed, None)
            except InvalidTag:
                continue
            return _checked(plain, peer)
        raise WireError(peer, "sealed with a key we do not have")


def _checked(plain: bytes, peer: str) -> list[Message]:
    try:
        messages = msgpack.unpackb(plain, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(peer, "malformed msgpack") from error
    if not isinstance(messages, list):
        raise WireError(peer, "not a list of messages")
    for message in messages:
        if not isinstance(message, list) or not message or _FIELDS.get(message[0]) != len(message):
            raise WireError(peer, "malformed message")
    return messages


def size_of(message: Message) -> int:
    """Bytes of ``message`` inside a packet."""
    return len(msgpack.packb(message))
