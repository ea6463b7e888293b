"""Keys of encrypted overlays: from the managers' ring, and from what both nodes chose afresh. Pure.

```
 ring key (managers) ─┐
 salts of both lives ─┼─ HKDF ──> key, SPI     of one direction between two nodes
 ids of both nodes ───┘
```
Law: two directions, two nodes, two lives of either, or two keys of the ring have nothing in common.
A life is what a node's kernel keeps (``meshnet.netstate.esp``): no key is ever used from the start
a second time, neither by who sends (AES-GCM would be broken) nor by who receives (what was captured
could be played again).

Of the ring the first key seals and all open, as of the ring of gossip: rings that are used at one
moment are neighbours in A | A, B | B, A | B, so what anybody sends, everybody opens.
Source: RFC 5869 (HKDF), RFC 4106 (AES-GCM in ESP), RFC 4303 (ESP).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from meshnet.model.snapshot import Node
from meshnet.model.wellknown import GOSSIP_PORT, LARGEST_PORT

SALT_BYTES: Final = 16
_KEY_BYTES: Final = 20
"""AES-128, and four bytes of salt (RFC 4106 section 8.1)."""
_SPI_BYTES: Final = 4
_RESERVED: Final = 256
"""SPIs below are IANA's (RFC 4303 section 2.1)."""
_LABEL: Final = b"meshnet overlay esp 1"

HEADERS: Final = 20 + 8 + 8 + 16
"""Outer IPv4, ESP, its IV, its ICV: bytes."""
_BLOCK: Final = 4
_INNER: Final = 8 + 8 + 14 + 2
"""Inside ESP: UDP, VXLAN, inner Ethernet, and ESP's own trailer."""


def port_of(vxlan_port: int) -> int:
    """UDP port of encrypted overlays: the one above that of the others, but never gossip's."""
    above = vxlan_port + 1 if vxlan_port < LARGEST_PORT else vxlan_port - 1
    return above + 1 if above == GOSSIP_PORT else above


def inside(outer: int) -> int:
    """Bytes of the largest packet inside an encrypted overlay whose own packets have ``outer``.

    What ESP encrypts is padded to four bytes (RFC 4303 section 2.4).
    """
    return (outer - HEADERS) // _BLOCK * _BLOCK - _INNER


def derived(key: bytes, sender: Node, receiver: Node) -> tuple[int, bytes]:
    """SPI and key of what ``sender`` sends to ``receiver`` under a key of the ring."""
    told = (sender.id.encode(), receiver.id.encode())
    info = b"".join((_LABEL, *(len(each).to_bytes(2, "big") + each for each in told)))
    made = HKDF(SHA256(), _KEY_BYTES + _SPI_BYTES, sender.salt + receiver.salt, info).derive(key)
    number = int.from_bytes(made[_KEY_BYTES:], "big")
    return _RESERVED + number % ((1 << 32) - _RESERVED), made[:_KEY_BYTES]


Direction = tuple[IPv4Address, IPv4Address, int, bytes]
"""(from, to, SPI, key)."""


def directions(ring: Sequence[bytes], itself: Node, peer: Node) -> Iterator[Direction]:
    """What this node must have with another: one way out, and a way in for each key of the ring."""
    for at, key in enumerate(ring):
        if at == 0:
            yield itself.vtep, peer.vtep, *derived(key, itself, peer)
        yield peer.vtep, itself.vtep, *derived(key, peer, itself)
