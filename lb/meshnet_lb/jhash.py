"""The kernel's hash of an address, so that a person can be told where a client is led: pure.

Source: linux/jhash.h (``jhash`` of four bytes, Bob Jenkins' lookup3), net/netfilter/nft_hash.c,
linux/kernel.h ``reciprocal_scale``.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final

_INITIAL: Final = 0xDEADBEEF
_MASK: Final = 0xFFFFFFFF
_FINAL: Final = (14, 11, 25, 16, 4, 14, 24)
"""Rotations of ``__jhash_final``."""


def slot_of(client: IPv4Address, size: int, seed: int) -> int:
    """What ``jhash ip saddr mod <size> seed <seed>`` of nft makes of a client."""
    return (jhash(client.packed, seed) * size) >> 32


def jhash(four: bytes, seed: int) -> int:
    """The hash of four bytes, 32 bits."""
    a = b = c = (_INITIAL + len(four) + seed) & _MASK
    a = (a + int.from_bytes(four, "little")) & _MASK
    for rotation in _FINAL:  # c, a, b, c, a, b, c take their turns
        c = ((c ^ b) - _rotated(b, rotation)) & _MASK
        a, b, c = b, c, a
    return b


def _rotated(word: int, by: int) -> int:
    return ((word << by) | (word >> (32 - by))) & _MASK
