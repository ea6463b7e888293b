"""The kernel's hash of an address, so that a person can be told where a client is led: pure.

Source: linux/jhash.h (``jhash`` of whole words, Bob Jenkins' lookup3), net/netfilter/nft_hash.c,
linux/kernel.h ``reciprocal_scale``.
"""

from __future__ import annotations

import struct
from typing import Final

from meshnet.model.families import Address

_INITIAL: Final = 0xDEADBEEF
_MASK: Final = 0xFFFFFFFF
_FINAL: Final = (14, 11, 25, 16, 4, 14, 24)
"""Rotations of ``__jhash_final``."""
_MIX: Final = (4, 6, 8, 16, 19, 4)
"""Rotations of ``__jhash_mix``."""
_AT_ONCE: Final = 3
"""Words that are mixed together."""


def slot_of(client: Address, size: int, seed: int) -> int:
    """What ``jhash ip saddr mod <size> seed <seed>`` of nft makes of a client."""
    return (jhash(client.packed, seed) * size) >> 32


def jhash(key: bytes, seed: int) -> int:
    """The hash of an address's bytes, 32 bits."""
    a = b = c = (_INITIAL + len(key) + seed) & _MASK
    words: list[int] = list(struct.unpack(f"<{len(key) // 4}I", key))
    while len(words) > _AT_ONCE:
        a, b, c = _mixed(
            *(each + word & _MASK for each, word in zip((a, b, c), words, strict=False))
        )
        del words[:_AT_ONCE]
    a, b, c = (each + word & _MASK for each, word in zip((a, b, c), [*words, 0, 0], strict=False))
    for rotation in _FINAL:  # c, a, b, c, a, b, c take their turns
        c = ((c ^ b) - _rotated(b, rotation)) & _MASK
        a, b, c = b, c, a
    return b


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for rotation in _MIX:  # a, b, c take their turns
        a = ((a - c) & _MASK) ^ _rotated(c, rotation)
        c = (c + b) & _MASK
        a, b, c = b, c, a
    return a, b, c


def _rotated(word: int, by: int) -> int:
    return ((word << by) | (word >> (32 - by))) & _MASK
