"""What is known of one question of one container, as values. PURE."""

from __future__ import annotations

from dataclasses import dataclass

from meshnet_dns.answer import Why


@dataclass(frozen=True, slots=True)
class Explained:
    """What the resolver answers, and why (``meshnet_dns.answer``).

    Attributes:
        network: whose zone decided; empty: none did.
        addresses: that are answered.
        own: ``upstreams`` are the container's own, not the host's.
        upstreams: who is asked, when it is forwarded.
    """

    why: Why
    network: str
    addresses: tuple[str, ...]
    own: bool
    upstreams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """What the container hears.

    Attributes:
        result: name of the result code; empty: nothing came.
        records: of the answer, as text.
        seconds: until it came, or was given up.
    """

    result: str
    records: tuple[str, ...]
    seconds: float
