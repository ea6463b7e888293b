"""Addresses of docker_gwbridge: who of this node has which. Nothing but the values of one process.

A task's is in a label of its container, so a restart of meshnetd finds it there (``gateway_in``).
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Interface
from typing import Final

from meshnet.errors import PoolExhaustedError
from meshnet.model.snapshot import Gwbridge

GATEWAY_LABEL: Final = "meshnet.gateway_address"
_FIRST_HOST: Final = 3


class GatewayAddresses:
    """Who has which.

    Attributes:
        bridge: docker_gwbridge of the local engine; to be there before anything is asked.
    """

    def __init__(self, bridge: Gwbridge | None = None) -> None:
        self.bridge: Gwbridge
        if bridge is not None:
            self.bridge = bridge
        self._used: dict[str, IPv4Interface] = {}
        """By task ID, or by key of an attached container."""

    def of(self, key: str) -> IPv4Interface:
        """The address that a key has, or the lowest free one from .3 on, which it has from now on.

        Raises:
            PoolExhaustedError: all are taken.
        """
        found = self._used.get(key)
        if found is None:
            found = self._used[key] = self._free()
        return found

    def hold(self, key: str, address: IPv4Interface) -> None:
        """That address is a key's already."""
        self._used[key] = address

    def keep(self, key: str, address: IPv4Interface) -> bool:
        """That address is a key's already; False: it is none of this bridge, which is another."""
        if address.network != self.bridge.subnet:
            return False
        self.hold(key, address)
        return True

    def release(self, key: str) -> None:
        """It has none any more."""
        self._used.pop(key, None)

    def _free(self) -> IPv4Interface:
        subnet = self.bridge.subnet
        taken = {interface.ip for interface in self._used.values()} | {self.bridge.gateway}
        for host in range(_FIRST_HOST, subnet.num_addresses - 1):
            if subnet[host] not in taken:
                return IPv4Interface(f"{subnet[host]}/{subnet.prefixlen}")
        raise PoolExhaustedError(str(subnet), "address")


def gateway_in(labels: Mapping[str, str]) -> IPv4Interface | None:
    """The address on docker_gwbridge that a container of ours was made with."""
    try:
        return IPv4Interface(labels[GATEWAY_LABEL])
    except (KeyError, ValueError):
        return None
