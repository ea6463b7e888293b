"""What the resolver is told and remembers, as msgpack values with digests. PURE.

A zone or a sandbox travels as a plain map; its digest (BLAKE2b of the packed map, 12 bytes in hex)
is made from those bytes on both sides, so that meshnetd can compare what it wants with what the
resolver has without sending it. docs/protocol.md, section Resolver, has the format.

Be aware: the order of a map's keys is part of its bytes; ``zone_payload`` writes names in the order
of the Zone, which is ascending.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any, Final

import msgpack

from meshnet.errors import WireError
from meshnet.model.ids import NetworkId, TaskId
from meshnet_dns.zone import Zone

VERSION: Final = 1
_IPV4: Final = 4

Payload = Mapping[str, Any]
"""Strings, bytes, numbers, lists and maps of them: what msgpack carries."""


@dataclass(frozen=True, slots=True)
class SandboxDns:
    """How the names of one container are found.

    Attributes:
        netns: path of its network namespace.
        networks: whose names it sees, in interface order; the first that knows a name answers.
        upstreams: IPv4 or IPv6 addresses of servers for all other names, asked from inside
            ``netns``: one may run in a container.
        forwards: without ``upstreams``, whether the host's own may be asked.
    """

    netns: str
    networks: tuple[NetworkId, ...]
    upstreams: tuple[str, ...] = ()
    forwards: bool = True


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything the resolver was told: enough to go on after a restart."""

    zones: Mapping[NetworkId, Zone] = field(default_factory=dict)
    sandboxes: Mapping[TaskId, SandboxDns] = field(default_factory=dict)


def digest(payload: Payload) -> str:
    """24 hex digits that differ when the payload does."""
    return blake2b(msgpack.packb(payload), digest_size=12).hexdigest()


def zone_payload(zone: Zone) -> Payload:
    """``zone`` as a map; addresses are 4 bytes each."""
    return {
        "network": zone.network,
        "subnet": str(zone.subnet),
        "names": {
            name: b"".join(address.packed for address in addresses)
            for name, addresses in zone.names.items()
        },
        "pointers": {address.packed: name for address, name in zone.pointers.items()},
    }


def zone_of(payload: Payload) -> Zone:
    """The zone in ``payload``.

    Raises:
        WireError: it is not one.
    """
    try:
        return Zone(
            network=str(payload["network"]),
            subnet=IPv4Network(payload["subnet"]),
            names={str(name): _addresses(packed) for name, packed in payload["names"].items()},
            pointers={
                IPv4Address(bytes(packed)): str(name)
                for packed, name in payload["pointers"].items()
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WireError("meshnetd", f"not a zone: {error!r}") from error


def _addresses(packed: bytes) -> tuple[IPv4Address, ...]:
    return tuple(IPv4Address(packed[i : i + _IPV4]) for i in range(0, len(packed), _IPV4))


def sandbox_payload(sandbox: SandboxDns) -> Payload:
    """``sandbox`` as a map."""
    return {
        "netns": sandbox.netns,
        "networks": list(sandbox.networks),
        "upstreams": list(sandbox.upstreams),
        "forwards": sandbox.forwards,
    }


def sandbox_of(payload: Payload) -> SandboxDns:
    """The sandbox in ``payload``.

    Raises:
        WireError: it is not one.
    """
    try:
        return SandboxDns(
            netns=str(payload["netns"]),
            networks=tuple(NetworkId(str(network)) for network in payload["networks"]),
            upstreams=tuple(str(ip_address(upstream)) for upstream in payload["upstreams"]),
            forwards=bool(payload["forwards"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WireError("meshnetd", f"not a sandbox: {error!r}") from error


def encode_memory(memory: Memory) -> bytes:
    """The bytes of ``resolver.state``."""
    packed: bytes = msgpack.packb(
        {
            "version": VERSION,
            "zones": {network: zone_payload(zone) for network, zone in memory.zones.items()},
            "sandboxes": {task: sandbox_payload(told) for task, told in memory.sandboxes.items()},
        }
    )
    return packed


def decode_memory(packed: bytes) -> Memory:
    """What ``encode_memory`` wrote.

    Raises:
        WireError: something else; another version too.
    """
    try:
        held = msgpack.unpackb(packed)
        if held["version"] != VERSION:
            raise WireError("resolver.state", f"version {held['version']!r}, mine is {VERSION}")
        return Memory(
            zones={NetworkId(id_): zone_of(zone) for id_, zone in held["zones"].items()},
            sandboxes={TaskId(id_): sandbox_of(told) for id_, told in held["sandboxes"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, msgpack.UnpackException) as error:
        raise WireError("resolver.state", f"unreadable: {error!r}") from error
