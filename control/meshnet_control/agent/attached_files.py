"""/etc/hosts and /etc/resolv.conf of a container that we attach to networks. Pure.

The engine makes both anew at each start, and mounts them; it knows nothing of our networks.
Source: moby libnetwork sandbox_dns_unix.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Final

from meshnet.model.wellknown import RESOLVER_ADDRESS

_NDOTS: Final = "ndots"


def hosts(text: str, hostname: str, ours: Iterable[str], engines: Iterable[str]) -> str:
    """/etc/hosts with the container's own name on our networks.

    Args:
        text: as it is.
        hostname: the container's name for itself.
        ours: its addresses on our networks, in interface order.
        engines: its addresses on the engine's networks, whose lines stay.
    """
    kept = set(engines)
    lines = [line for line in text.splitlines() if not _own(line, hostname, kept)]
    return "\n".join([*lines, *(f"{address}\t{hostname}" for address in ours)]) + "\n"


def _own(line: str, hostname: str, kept: set[str]) -> bool:
    words = line.split()
    if words[1:] != [hostname] or words[0] in kept:
        return False
    return not words[0].startswith("127.") and ":" not in words[0]


def name_servers(text: str) -> tuple[str, ...]:
    """Whom a resolv.conf asks, but for us."""
    found: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1 and words[1] != RESOLVER_ADDRESS:
            try:
                found.append(str(ip_address(words[1])))
            except ValueError:
                continue
    return tuple(found)


def options(text: str) -> tuple[str, ...]:
    """The options of a resolv.conf, those of all its lines (man 5 resolv.conf)."""
    lines = (line.split() for line in text.splitlines())
    return tuple(word for words in lines if words[:1] == ["options"] for word in words[1:])


def with_ndots(options: Sequence[str]) -> list[str]:
    """A resolv.conf's options, as we are to be asked: for a name without a dot as it is, first."""
    if any(option.startswith(_NDOTS) for option in options):
        return list(options)
    return [*options, f"{_NDOTS}:0"]


def resolv(text: str) -> str:
    """The same resolv.conf, but we are asked: search domains and options stay."""
    named = {"search", "domain", "sortlist"}
    kept = [line for line in text.splitlines() if line.split()[:1] and line.split()[0] in named]
    asked = " ".join(with_ndots(options(text)))
    return "\n".join([f"nameserver {RESOLVER_ADDRESS}", *kept, f"options {asked}"]) + "\n"
