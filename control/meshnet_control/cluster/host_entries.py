"""``--host`` of a service: lines for /etc/hosts, as the specification carries them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

HOST_GATEWAY: Final = "host-gateway"
"""In place of an address: that of the host a task runs on.

Source: moby opts/hosts.go ``HostGatewayName``.
"""


def entries(hosts: Iterable[str]) -> list[tuple[str, list[str]]]:
    """(address, names) of each; as in Swarm, one without a name says nothing."""
    words = [entry.split() for entry in hosts]  # as in hosts(5)
    return [(address, names) for address, *names in filter(None, words) if names]
