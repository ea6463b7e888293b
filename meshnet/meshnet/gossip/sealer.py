"""Packets sealed and opened with the key ring of the moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshnet.errors import WireError
from meshnet.gossip import wire
from meshnet.gossip.members import Address
from meshnet.gossip.messages import Buckets, DigestMessage, Message
from meshnet.gossip.refusals import Refusals
from meshnet.gossip.wire import KeyRing
from meshnet.model.ids import Rng

_KEYS: Final = 4
"""Most keys that are tried on a packet."""
_TOO_LONG: Final = "datagram too long"
_NO_KEY: Final = "no key yet"
STRANGERS: Final = frozenset({wire.NOT_OURS, wire.WRONG_KEY, _TOO_LONG, _NO_KEY})
"""Anybody can make these happen: they are counted and nothing else."""


class Sealer:
    """The ring, and what it does.

    Args:
        rng: makes nonces; must be unpredictable in production.
        refusals: counts keys that are none.
    """

    def __init__(self, rng: Rng, refusals: Refusals) -> None:
        self._rng = rng
        self._refusals = refusals
        self._ring: KeyRing | None = None

    @property
    def is_ready(self) -> bool:
        """There is a key."""
        return self._ring is not None

    def set_keys(self, keys: Sequence[bytes]) -> None:
        """Replaces the ring; the first seals."""
        usable = [key for key in keys if len(key) == wire.KEY_BYTES][:_KEYS]
        if len(usable) < len(keys):
            self._refusals.count("key of a wrong length, or too many", len(keys) - len(usable))
        self._ring = KeyRing(tuple(usable)) if usable else None

    def open_datagram(self, data: bytes, peer: Address) -> tuple[Message, ...]:
        """What a datagram says.

        Raises:
            WireError: not ours, or more than one may ask for; nothing was taken.
        """
        if len(data) > wire.DATAGRAM_BYTES:
            raise WireError(peer[0], _TOO_LONG)
        messages = self.open(data, peer)
        if sum(isinstance(message, DigestMessage | Buckets) for message in messages) > 1:
            raise WireError(peer[0], "several digests in one datagram")
        return messages

    def open(self, data: bytes, peer: Address) -> tuple[Message, ...]:
        """What a packet or frame says.

        Raises:
            WireError: not ours; nothing was taken.
        """
        if self._ring is None:
            raise WireError(peer[0], _NO_KEY)
        return self._ring.open(data, peer[0])

    def seal(self, encoded: Sequence[bytes]) -> bytes:
        """One packet of these messages.

        Raises:
            WireError: there is no key yet.
        """
        if self._ring is None:
            raise WireError("us", _NO_KEY)
        return self._ring.seal(encoded, self._rng.getrandbits(96).to_bytes(12, "big"))
