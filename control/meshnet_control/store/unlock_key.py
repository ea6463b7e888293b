"""The key that ``docker swarm unlock`` takes, and the form in which users write it. Pure.

Source: swarmkit manager/encryption (HumanReadableKey, ParseHumanReadableKey).
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from meshnet.model.ids import Rng

KEY_BYTES: Final = 32
_PREFIX: Final = "SWMKEY-1-"


def new_unlock_key(rng: Rng) -> bytes:
    """A new unlock key, from a cryptographic source of randomness."""
    return rng.getrandbits(8 * KEY_BYTES).to_bytes(KEY_BYTES, "big")


def unlock_key_text(key: bytes) -> str:
    """An unlock key as users write it: ``SWMKEY-1-`` and unpadded base64."""
    return _PREFIX + base64.b64encode(key).decode().rstrip("=")


def unlock_key_of(text: str) -> bytes:
    """An unlock key from what a user wrote.

    Raises:
        ValueError: it is not the form of one.
    """
    digits = text.removeprefix(_PREFIX)
    if digits == text:
        raise ValueError("invalid key string")
    try:
        key = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except binascii.Error:
        raise ValueError("invalid key string") from None
    if len(key) != KEY_BYTES:
        raise ValueError("invalid key string")
    return key
