"""What of a host's VXLAN packets is encrypted, as values: associations, policies, a life (XFRM).

```
 policy out   UDP port of encrypted overlays ──> must leave in ESP      no association: goes nowhere
 policy in    UDP port of encrypted overlays ──> must have come in ESP  else it is dropped
 association  (from, to, SPI): one direction between two nodes, one key
 life         what this node's keys are fresh by; it ends when the kernel has lost any association
```
Ours are known by ``REQID``; what others made is neither read as ours nor touched.

Be aware: a key is never shown: not by repr, not in a comparison. An SPI follows from the same
secret as its key (``meshnet.model.esp``), so associations with one SPI have one key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address
from typing import Final, Literal, TypeAlias

from meshnet.errors import MeshnetError

Direction: TypeAlias = Literal["in", "out"]
REQID: Final = 0x6D6E6574
"""``mnet``: whose associations and policies these are (ip-xfrm(8), "reqid")."""


@dataclass(frozen=True, slots=True, order=True)
class Association:
    """One direction between two VTEPs (a "state" of XFRM, an SA of RFC 4301)."""

    source: IPv4Address
    destination: IPv4Address
    spi: int
    key: bytes = field(default=b"", repr=False, compare=False)
    """AES-128 and the four bytes of salt behind it (RFC 4106); empty: as the kernel tells it."""
    port: int = field(default=0, compare=False)
    """The only UDP port that may come out of it."""


@dataclass(frozen=True, slots=True, order=True)
class Policy:
    """UDP to a port, from a VTEP (out) or to it (in), is in ESP, or is dropped."""

    direction: Direction
    vtep: IPv4Address
    port: int


@dataclass(frozen=True, slots=True)
class Life:
    """What the kernel keeps for as long as it has lost no association of ours.

    Attributes:
        salt: 16 random bytes, chosen with it.
        digest: ``digest`` of the associations that were there when it was last written.
    """

    salt: bytes
    digest: int


def digest(associations: frozenset[Association]) -> int:
    """63 bits that tell sets of associations apart."""
    told = b"".join(
        each.source.packed + each.destination.packed + each.spi.to_bytes(4, "big")
        for each in sorted(associations)
    )
    return int.from_bytes(sha256(told).digest()[:8], "big") >> 1


@dataclass(frozen=True, slots=True)
class Esp:
    """What should be, while this node is on an encrypted overlay.

    Attributes:
        vtep: of this node.
        port: UDP port of encrypted overlays.
        salt: of this node's life, as the others were told it; empty: they were not yet.
        associations: with the nodes that told theirs.
        nodes: VTEPs of the nodes that there are.
        namespaces: of encrypted overlays: none is there unless the kernel can encrypt.
    """

    vtep: IPv4Address
    port: int
    salt: bytes = b""
    associations: frozenset[Association] = frozenset()
    nodes: frozenset[IPv4Address] = frozenset()
    namespaces: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class EspState:
    """What is."""

    associations: frozenset[Association] = frozenset()
    policies: frozenset[Policy] = frozenset()
    life: Life | None = None


@dataclass(frozen=True, slots=True)
class AddPolicy:
    """Make or replace it."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class DelPolicy:
    """Remove it."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class BeginLife:
    """Begin another life: a fresh salt. Associations stay until their successors are there."""


@dataclass(frozen=True, slots=True)
class EndLife:
    """This node encrypts no more."""


@dataclass(frozen=True, slots=True)
class AddAssociation:
    """Make one that was never there in this life."""

    association: Association


@dataclass(frozen=True, slots=True)
class DelAssociation:
    """Remove it."""

    association: Association


@dataclass(frozen=True, slots=True)
class Remember:
    """Write down which associations there are after those changes, if all were made."""

    life: Life


EspChange: TypeAlias = (
    AddPolicy | DelPolicy | BeginLife | EndLife | AddAssociation | DelAssociation | Remember
)


@dataclass
class NoEspError(MeshnetError):
    """The kernel cannot encrypt; no encrypted overlay is on this host."""

    why: str

    def __str__(self) -> str:
        return (
            f"encrypted networks cannot be on this host, kernel without ESP ({self.why}): it needs "
            "the modules esp4 and gcm (Ubuntu: linux-modules-extra-$(uname -r))"
        )
