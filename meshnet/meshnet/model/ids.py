"""Identifiers. Cluster objects carry 25 base-36 characters (128 random bits), as in SwarmKit."""

from __future__ import annotations

import string
from ipaddress import IPv4Address
from typing import NewType, Protocol

NodeId = NewType("NodeId", str)
NetworkId = NewType("NetworkId", str)
ServiceId = NewType("ServiceId", str)
TaskId = NewType("TaskId", str)
Vni = NewType("Vni", int)
MacAddress = NewType("MacAddress", str)
"""Lower-case, colon separated: ``02:42:0a:00:01:02``."""

ID_LENGTH = 25
_DIGITS = string.digits + string.ascii_lowercase
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]


class Rng(Protocol):
    """Randomness handed to pure code; ``random.Random`` and ``secrets.SystemRandom`` fit."""

    def getrandbits(self, k: int, /) -> int: ...  # noqa: D102

    def random(self) -> float: ...  # noqa: D102


def base36(number: int, width: int) -> str:
    """``number`` in base 36, padded on the left with zeros to ``width`` characters."""
    pairs: list[str] = []
    while number:
        number, pair = divmod(number, 36 * 36)
        pairs.append(_PAIRS[pair])
    return "".join(reversed(pairs)).lstrip("0").rjust(width, "0")


def new_id(rng: Rng) -> str:
    """A fresh object id: 128 random bits in base 36 (swarmkit identity/randomid.go)."""
    return base36(rng.getrandbits(128), ID_LENGTH)


def mac_of(address: IPv4Address) -> MacAddress:
    """The MAC address an endpoint gets from its overlay address: ``02:42`` and the four bytes.

    Source: moby libnetwork netutils GenerateMACFromIP.
    """
    return MacAddress("02:42:" + ":".join(f"{byte:02x}" for byte in address.packed))
