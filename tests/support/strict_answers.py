"""What a client of 2026 does not read in an answer: Go's netip.Addr and netip.Prefix, a MAC.

One malformed string breaks the whole answer for such a client (docker CLI 29, moby's
api/types/network and api/types/swarm): it lists nothing. Which fields are what is theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

ADDRESSES = {
    *("Gateway", "IPAddress", "IPv6Gateway", "GlobalIPv6Address", "IP", "HostIp", "VIP"),
    *("EndpointIP", "AuxiliaryAddresses", "Nameservers"),
}
PREFIXES = {
    *("Subnet", "IPRange", "IPv4Address", "IPv6Address", "VirtualIPs/Addr", "Addresses"),
    *("DefaultAddrPool", "Base", "InsecureRegistryCIDRs"),
}
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")


def refused(answer: Any) -> list[str]:
    """Every value that such a client would not read, with its path; empty: it reads all."""
    return [f"{path}: {value!r}" for path, value in _malformed(answer, "", "")]


def _malformed(value: Any, path: str, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, each in value.items():
            if key == "Subnets" and not _prefix(name):
                yield path, name
            inside = f"{key}/{name}" if name == "Addr" else name
            kept = key if key == "AuxiliaryAddresses" else inside
            yield from _malformed(each, f"{path}.{name}", kept)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _malformed(each, f"{path}[{number}]", key)
    elif value in ("", None):
        return
    elif (
        (key in ADDRESSES and not _address(value))
        or (key in PREFIXES and not _prefix(value))
        or (key == "MacAddress" and not _MAC.fullmatch(str(value)))
    ):
        yield path, value


def _address(said: Any) -> bool:
    try:
        return isinstance(said, str) and bool(str(ip_address(said)))
    except ValueError:
        return False


def _prefix(said: Any) -> bool:
    if not isinstance(said, str):
        return False
    address, slash, length = said.partition("/")
    if not slash or not _address(address) or not _LENGTH.fullmatch(length):
        return False
    return int(length) <= ip_address(address).max_prefixlen
