"""What nodes say in their own hand: Ed25519 signatures (RFC 8032). Pure.

Each node has a key of its own for it. The managers, who let the node in, tell all others its public
half, so nothing that is gossiped says whose key is whose.

Be aware: a text begins with what it is about, so that a signature under one is none under another.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SEED_BYTES: Final = 32
PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class Signer:
    """A node's own hand.

    Args:
        seed: the private key, 32 random bytes.
    """

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()
        """What others need to know it; 32 bytes."""

    def sign(self, text: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(text)


def text(about: str, *said: Any) -> bytes:  # noqa: ANN401 - msgpack
    """What is signed: one sequence of bytes for one list of values."""
    return bytes(msgpack.packb([f"meshnet gossip: {about}", *said]))


def is_signed(public: bytes, signature: bytes, text: bytes) -> bool:
    """Whether who has the private half of ``public`` signed ``text``."""
    try:
        _key(public).verify(signature, text)
    except (InvalidSignature, ValueError):  # ValueError: no such key
        return False
    return True


@lru_cache(maxsize=4096)
def _key(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)
