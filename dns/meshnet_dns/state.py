"""What the resolver is told and remembers, as msgpack values with digests. PURE.

A zone or a sandbox travels as a plain map, and a zone that changed as what changed in it. A digest
of 12 bytes in hex is made of it on both sides, so that meshnetd can compare what it wants with what
the resolver has without sending it: BLAKE2b of a sandbox's packed map; of a zone the sum of those
of its names and pointers, so that a change costs what it changes (``meshnet.gossip.sums``).
docs/protocol.md, section Resolver, has the format.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import msgpack

from meshnet.errors import WireError
from meshnet.model.families import Address, order
from meshnet.model.ids import NetworkId, TaskId
from meshnet.model.shared_map import SharedMap, shared
from meshnet_dns.zone import ServedPort, Zone

K = TypeVar("K")
V = TypeVar("V")
VERSION: Final = 1
_IPV4: Final = 4
_IPV6: Final = 16
_DIGEST_BYTES: Final = 12

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
        stack: whose services it finds first by a short name, lower case.
    """

    netns: str
    networks: tuple[NetworkId, ...]
    upstreams: tuple[str, ...] = ()
    forwards: bool = True
    stack: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything the resolver was told: enough to go on after a restart."""

    zones: Mapping[NetworkId, Zone] = field(default_factory=dict)
    sandboxes: Mapping[TaskId, SandboxDns] = field(default_factory=dict)


Packed: TypeAlias = bytes | list[bytes]
"""Addresses: of IPv4 alone, or those of IPv4 and those of IPv6."""


def digest(payload: Payload) -> str:
    """24 hex digits that differ when the payload does."""
    return blake2b(msgpack.packb(payload), digest_size=_DIGEST_BYTES).hexdigest()


@dataclass(frozen=True, slots=True)
class ZoneChange:
    """What makes a zone of the one with the digest ``before``; None: it is there no more."""

    before: str
    names: Mapping[str, tuple[Address, ...] | None]
    pointers: Mapping[Address, str | None]
    ports: Mapping[str, tuple[ServedPort, ...] | None] = field(default_factory=dict)
    near: Mapping[Address, bool] = field(default_factory=dict)
    """True: it is on this node now."""

    @property
    def keys(self) -> ZoneKeys:
        """What it is about."""
        return ZoneKeys(self.names, self.pointers, self.ports, self.near)


class ZoneKeys(NamedTuple):
    """Parts of a zone: of its names, pointers, ports and near addresses."""

    names: Iterable[str]
    pointers: Iterable[Address]
    ports: Iterable[str]
    near: Iterable[Address]


def zone_sum(zone: Zone) -> int:
    """What its digest is made of."""
    subnets = " ".join(map(str, (zone.subnet, *zone.more)))
    head = _hash(b"z", f"{zone.network} {subnets}".encode(), b"")
    return head + sum_of(zone, ZoneKeys(zone.names, zone.pointers, zone.ports, zone.near))


def sum_of(zone: Zone, keys: ZoneKeys) -> int:
    """The part of ``zone_sum`` that these have; those it lacks have none."""
    named = [(name, zone.names.get(name)) for name in keys.names]
    total = sum(_hash(b"n", name.encode(), _packed(at)) for name, at in named if at is not None)
    pointed = [(address, zone.pointers.get(address)) for address in keys.pointers]
    total += sum(
        _hash(b"p", address.packed, name.encode()) for address, name in pointed if name is not None
    )
    served = [(name, zone.ports.get(name)) for name in keys.ports]
    total += sum(_hash(b"s", name.encode(), _ports_text(of)) for name, of in served if of)
    return total + sum(_hash(b"l", at.packed, b"") for at in keys.near if at in zone.near)


def zone_digest(total: int) -> str:
    """24 hex digits of a ``zone_sum``."""
    return f"{total % (1 << 8 * _DIGEST_BYTES):0{2 * _DIGEST_BYTES}x}"


def changed(zone: Zone, change: ZoneChange) -> Zone:
    """The zone that a change makes of this one."""
    return replace(
        zone,
        names=_with(zone.names, change.names),
        pointers=_with(zone.pointers, change.pointers),
        ports=_with(zone.ports, change.ports),
        near=_with(zone.near, {at: True if there else None for at, there in change.near.items()}),
    )


def _with(of: Mapping[K, V], changes: Mapping[K, V | None]) -> SharedMap[K, V]:
    put = {key: value for key, value in changes.items() if value is not None}
    return shared(of).changed(put, changes.keys() - put.keys())


def change_payload(change: ZoneChange) -> Payload:
    """``change`` as a map."""
    return {
        "before": change.before,
        "names": {n: None if at is None else _told(at) for n, at in change.names.items()},
        "pointers": {address.packed: name for address, name in change.pointers.items()},
        "ports": {n: None if of is None else list(map(list, of)) for n, of in change.ports.items()},
        "near": {address.packed: there for address, there in change.near.items()},
    }


def change_of(payload: Payload) -> ZoneChange:
    """The change in ``payload``.

    Raises:
        WireError: it is not one.
    """
    try:
        return ZoneChange(
            before=str(payload["before"]),
            names={
                str(name): None if packed is None else _addresses(packed)
                for name, packed in payload["names"].items()
            },
            pointers={
                ip_address(bytes(packed)): None if name is None else str(name)
                for packed, name in payload["pointers"].items()
            },
            ports={
                str(name): None if of is None else _ports(of)
                for name, of in payload.get("ports", {}).items()
            },
            near={
                ip_address(bytes(packed)): bool(there)
                for packed, there in payload.get("near", {}).items()
            },
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise WireError("meshnetd", f"not a change of a zone: {error!r}") from error


def _hash(kind: bytes, key: bytes, value: bytes) -> int:
    said = b"\0".join((kind, key, value))
    return int.from_bytes(blake2b(said, digest_size=_DIGEST_BYTES).digest(), "big")


def _packed(addresses: Iterable[Address]) -> bytes:
    return b"".join(address.packed for address in addresses)


def zone_payload(zone: Zone) -> Payload:
    """``zone`` as a map; addresses are 4 bytes each, those of IPv6 behind them 16."""
    return {
        "network": zone.network,
        "subnet": str(zone.subnet),
        "more": [str(subnet) for subnet in zone.more],
        "names": {name: _told(addresses) for name, addresses in zone.names.items()},
        "pointers": {address.packed: name for address, name in zone.pointers.items()},
        "ports": {name: list(map(list, ports)) for name, ports in zone.ports.items()},
        "near": _told(sorted(zone.near, key=order)),
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
            names=SharedMap(
                {str(name): _addresses(packed) for name, packed in payload["names"].items()}
            ),
            pointers=SharedMap(
                {
                    ip_address(bytes(packed)): str(name)
                    for packed, name in payload["pointers"].items()
                }
            ),
            ports=SharedMap({str(n): _ports(of) for n, of in payload.get("ports", {}).items()}),
            near=SharedMap(dict.fromkeys(_addresses(payload.get("near", b"")), True)),
            more=tuple(ip_network(each) for each in payload.get("more", ())),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise WireError("meshnetd", f"not a zone: {error!r}") from error


def _ports(said: Iterable[Any]) -> tuple[ServedPort, ...]:
    return tuple(ServedPort(str(each[0]), int(each[1]), str(each[2])) for each in said)


def _ports_text(ports: Iterable[ServedPort]) -> bytes:
    return " ".join(f"{each.protocol}/{each.number}/{each.name}" for each in ports).encode()


def _told(addresses: Sequence[Address]) -> Packed:
    """Addresses as they are told, IPv4 first: of IPv4 alone as one text of bytes, else as two."""
    second = [at for at in addresses if isinstance(at, IPv6Address)]
    first = _packed(at for at in addresses if isinstance(at, IPv4Address))
    return [first, _packed(second)] if second else first


def _addresses(told: Packed) -> tuple[Address, ...]:
    """Raises ValueError: they are none."""
    first, second = (told, b"") if isinstance(told, bytes) else told
    return (
        *(IPv4Address(first[i : i + _IPV4]) for i in range(0, len(first), _IPV4)),
        *(IPv6Address(second[i : i + _IPV6]) for i in range(0, len(second), _IPV6)),
    )


def sandbox_payload(sandbox: SandboxDns) -> Payload:
    """``sandbox`` as a map."""
    return {
        "netns": sandbox.netns,
        "networks": list(sandbox.networks),
        "upstreams": list(sandbox.upstreams),
        "forwards": sandbox.forwards,
        "stack": sandbox.stack,
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
            stack=str(payload.get("stack", "")),
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


def decode_memory(packed: bytes) -> tuple[Memory, list[Payload]]:
    """What ``encode_memory`` wrote, and the messages that were taken and appended since.

    Raises:
        WireError: it begins with something else; another version too.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    unpacker.feed(packed)
    messages: list[Payload] = []
    try:
        held = unpacker.unpack()
        if held["version"] != VERSION:
            raise WireError("resolver.state", f"version {held['version']!r}, mine is {VERSION}")
        memory = Memory(
            zones={NetworkId(id_): zone_of(zone) for id_, zone in held["zones"].items()},
            sandboxes={TaskId(id_): sandbox_of(told) for id_, told in held["sandboxes"].items()},
        )
    except (LookupError, TypeError, ValueError, AttributeError, msgpack.UnpackException) as error:
        raise WireError("resolver.state", f"unreadable: {error!r}") from error
    # What was written by halves meshnetd tells again.
    with suppress(ValueError, TypeError, msgpack.UnpackException):
        messages.extend(message for message in unpacker if isinstance(message, dict))
    return memory, messages
