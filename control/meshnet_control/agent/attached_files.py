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


def with_ndots(options: Sequence[str]) -> list[str]:
    """A resolv.conf's options, as we are to be asked: for a name without a dot as it is, first."""
    if any(option.startswith(_NDOTS) for option in options):
        return list(options)
    return [*options, f"{_NDOTS}:0"]


def resolv(text: str) -> str:
    """The same resolv.conf, but we are asked: search domains and options stay."""
    kept: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["options"]:
            options += words[1:]
        elif words[:1] and words[0] in {"search", "domain", "sortlist"}:
            kept.append(line)
    lines = [f"nameserver {RESOLVER_ADDRESS}", *kept, f"options {' '.join(with_ndots(options))}"]
    return "\n".join(lines) + "\n"
