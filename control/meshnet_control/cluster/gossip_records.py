"""What a node says of itself by gossip: its underlay, its endpoints, its ways, as msgpack values.

A record of a newer version may carry more fields than we know, and keys that we do not know: they
are ignored. ``is_well_formed`` is the only way in: gossip keeps a record that does not pass it from
everybody who reads records, and names the node that wrote it. docs/protocol.md lists the fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any, Final

import msgpack

from meshnet.gossip.engine import UNREACHED_KEY
from meshnet.gossip.shares import TO_ALL, key_of, placed
from meshnet.gossip.table import VALUE_BYTES
from meshnet.model.esp import SALT_BYTES
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId
from meshnet.model.snapshot import Endpoint

NODE_KEY: Final = "node"
EPOCH_KEY: Final = "epoch"
ESP_KEY: Final = "esp"
_ENDPOINT_PREFIX: Final = "ep/"
_NAME_LENGTH: Final = 255
_CONTAINER_LENGTH: Final = 64
_SMALLEST_MTU: Final = 576  # RFC 791
_LARGEST_MTU: Final = 65535
_USUAL_MTU: Final = 1500
NARROW_MOST: Final = 32
"""Narrow ways that one node tells of one by one."""
_ADDRESS6_BYTES: Final = 16
_NUMBER_MAX: Final = (1 << 62) - 1
_ALIAS_BYTES: Final = VALUE_BYTES // 2
"""Most that the aliases of one endpoint take in its record."""
_TEXT_HEAD_BYTES: Final = 5
"""Most that msgpack puts before a text."""

Epoch = tuple[int, int]
"""(generation of a node's process, how often its endpoints changed since it started)."""
Narrow = tuple[tuple[NodeId, int], ...]
"""Nodes, and the bytes of the largest packet that comes there uncut."""
Records = Mapping[tuple[NodeId, str], bytes]
"""(owner, key) -> value, as gossip gives them."""


class _MalformedError(Exception):
    """A record that is not what its key promises."""


def is_well_formed(key: str, value: bytes) -> bool:
    """Whether a record is what its key promises; a key we do not know promises msgpack alone."""
    try:
        told = _unpacked(value)
        if key == NODE_KEY:
            _node(told)
        elif key == ESP_KEY:
            _salt(told)
        elif key == EPOCH_KEY:
            _epoch(told)
        elif key == UNREACHED_KEY:
            _ids(told)
        elif key.startswith(_ENDPOINT_PREFIX):
            _endpoint(NodeId(""), TaskId(key), told)
    except _MalformedError:
        return False
    return True


def endpoint_key(task: TaskId, network: str = TO_ALL) -> str:
    """The gossip key of a task's endpoint, as it is told on a network or to all."""
    return key_of(network, _ENDPOINT_PREFIX + task)


def epoch_key(network: str = TO_ALL) -> str:
    """The gossip key of the epoch of what a node says on a network or to all."""
    return key_of(network, EPOCH_KEY)


def encode_node(underlay_mtu: int, narrow: Mapping[NodeId, int] | None = None) -> bytes:
    """The ``node`` record.

    Args:
        underlay_mtu: MTU of the interface that carries our VXLAN packets, bytes.
        narrow: nodes that packets of that size do not reach uncut, and the bytes that do; of more
            than ``NARROW_MOST`` the lowest is said as if it were the interface's.
    """
    found = narrow or {}
    if len(found) > NARROW_MOST:
        return bytes(msgpack.packb({"mtu": min(underlay_mtu, *found.values())}))
    more = {"narrow": dict(sorted(found.items()))} if found else {}
    return bytes(msgpack.packb({"mtu": underlay_mtu, **more}))


@lru_cache(maxsize=64)
def decode_node(value: bytes) -> tuple[int, Narrow]:
    """(underlay MTU, narrow ways) of a ``node`` record, bytes; (1500, none) when malformed."""
    try:
        return _node(_unpacked(value))
    except _MalformedError:
        return _USUAL_MTU, ()


def encode_salt(salt: bytes) -> bytes:
    """The ``esp`` record: what this node's keys of encrypted overlays are fresh by."""
    return bytes(msgpack.packb(salt))


@lru_cache(maxsize=1024)
def decode_salt(value: bytes) -> bytes:
    """The salt of an ``esp`` record; empty when there is none, or it is malformed."""
    try:
        return _salt(_unpacked(value)) if value else b""
    except _MalformedError:
        return b""


def encode_epoch(epoch: Epoch) -> bytes:
    """The ``epoch`` record."""
    return bytes(msgpack.packb(list(epoch)))


def decode_epoch(value: bytes) -> Epoch | None:
    """How often a node's endpoints changed (record ``epoch``), or None when it is malformed."""
    try:
        return _epoch(_unpacked(value))
    except _MalformedError:
        return None


def unreached(records: Records) -> dict[NodeId, frozenset[NodeId]]:
    """Who says among all these records that it cannot reach whom though others can."""
    return decode_unreached({node: v for (node, key), v in records.items() if key == UNREACHED_KEY})


def decode_unreached(told: Mapping[NodeId, bytes]) -> dict[NodeId, frozenset[NodeId]]:
    """Who cannot reach whom though others can; what crosses such a way is lost.

    Args:
        told: the record ``unreachable`` of each node that has one; a malformed one is left out.

    Be aware: where packets get lost in one direction, maybe only one of the two says so.
    """
    found: dict[NodeId, frozenset[NodeId]] = {}
    for owner, value in told.items():
        try:
            found[owner] = _ids(_unpacked(value))
        except _MalformedError:
            continue
    return found


def encode_endpoint(endpoint: Endpoint) -> bytes:
    """The ``ep/…`` record of one of our endpoints.

    What no resolver could serve is left out, and the last aliases if the record would be larger
    than one may be: the endpoint itself is always told.
    """
    left = _ALIAS_BYTES
    aliases: dict[NetworkId, list[str]] = {}
    for net, names in endpoint.aliases.items():
        aliases[net] = []
        for name in filter(_is_name, names):
            left -= len(name.encode()) + _TEXT_HEAD_BYTES
            if left >= 0:
                aliases[net].append(name)
    second = {net: address.packed for net, address in endpoint.addresses6.items()}
    return bytes(
        msgpack.packb(
            {
                "name": endpoint.name,
                "svc": endpoint.service,
                "addr": {net: int(address) for net, address in endpoint.addresses.items()},
                **({"addr6": second} if second else {}),
                "ctr": endpoint.container,
                "host": endpoint.hostname if _is_name(endpoint.hostname) else "",
                "alias": aliases,
                "ready": endpoint.ready,
                "made": endpoint.made,
            }
        )
    )


def endpoint_records(endpoint: Endpoint, everywhere: Set[NetworkId]) -> dict[str, bytes]:
    """The records of one of our endpoints: on each network what is to be known there.

    Args:
        endpoint: of ours.
        everywhere: networks that all nodes are on; one without any network is told to all, too.
    """
    told: dict[str, set[NetworkId]] = {}
    for network in endpoint.addresses:
        told.setdefault(TO_ALL if network in everywhere else network, set()).add(network)
    return {
        endpoint_key(endpoint.task, audience): encode_endpoint(_on(endpoint, networks))
        for audience, networks in (told or {TO_ALL: set[NetworkId]()}).items()
    }


def decode_endpoint(owner: NodeId, task: TaskId, value: bytes) -> Endpoint | None:
    """The endpoint that a node says of one of its tasks, or None when it is malformed."""
    try:
        return _endpoint(owner, task, _unpacked(value))
    except _MalformedError:
        return None


def decode_endpoints(records: Records) -> dict[TaskId, Endpoint]:
    """Every endpoint among gossip records; a malformed one is left out.

    A task said by two nodes (its address moved while a node was cut off) belongs to the one whose
    endpoint is ready, else to the greater node id, so that all nodes agree.
    """
    found: dict[TaskId, dict[NodeId, dict[str, Endpoint]]] = {}
    for (owner, key), value in records.items():
        task = task_of(key)
        endpoint = decode_endpoint(owner, task, value) if task is not None else None
        if endpoint is not None:
            said = found.setdefault(endpoint.task, {}).setdefault(owner, {})
            said[placed(key)[0]] = endpoint
    chosen = {task: of_several(map(whole, said.values())) for task, said in found.items()}
    return {task: endpoint for task, endpoint in chosen.items() if endpoint is not None}


def task_of(key: str) -> TaskId | None:
    """Whose endpoint the record ``key`` is; None: it is none."""
    _, name = placed(key)
    if not name.startswith(_ENDPOINT_PREFIX):
        return None
    return TaskId(name.removeprefix(_ENDPOINT_PREFIX))


def whole(said: Mapping[str, Endpoint]) -> Endpoint:
    """What a node says of one task on several networks, as one endpoint; of each its own part.

    It is ready when all of them say so: what is withdrawn is not chosen from the first word on.
    """
    last = max(said.values(), key=lambda each: (each.made, bool(each.container)))
    shown = [_on(each, {NetworkId(at)}) if at else each for at, each in sorted(said.items())]
    return replace(
        last,
        addresses={net: address for each in shown for net, address in each.addresses.items()},
        addresses6={net: address for each in shown for net, address in each.addresses6.items()},
        aliases={net: names for each in shown for net, names in each.aliases.items()},
        ready=all(each.ready for each in shown),
    )


def _on(endpoint: Endpoint, networks: Set[NetworkId]) -> Endpoint:
    """What of an endpoint is on these networks."""
    return replace(
        endpoint,
        addresses={net: at for net, at in endpoint.addresses.items() if net in networks},
        addresses6={net: at for net, at in endpoint.addresses6.items() if net in networks},
        aliases={net: names for net, names in endpoint.aliases.items() if net in networks},
    )


def of_several(said: Iterable[Endpoint]) -> Endpoint | None:
    """Which of the endpoints that nodes say of one task is taken; None: nobody says one."""
    return max(said, key=lambda each: (each.ready, each.node), default=None)


def _unpacked(value: bytes) -> Any:  # noqa: ANN401 - msgpack
    try:
        return msgpack.unpackb(value, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise _MalformedError from error


def _endpoint(owner: NodeId, task: TaskId, told: object) -> Endpoint:
    fields = _map(told)
    service = fields.get("svc")
    ready = fields.get("ready")
    if not isinstance(ready, bool):
        raise _MalformedError
    addresses = {NetworkId(n): _address(a) for n, a in _map(fields.get("addr")).items()}
    seconds = {NetworkId(n): _address6(a) for n, a in _map(fields.get("addr6", {})).items()}
    return Endpoint(
        task=task,
        name=_name(fields.get("name")),
        node=owner,
        service=ServiceId(_name(service)) if service is not None else None,
        addresses=addresses,
        container=_text(fields.get("ctr", ""), _CONTAINER_LENGTH),
        hostname=_text(fields.get("host", ""), _NAME_LENGTH),
        aliases={NetworkId(n): _names(a) for n, a in _map(fields.get("alias", {})).items()},
        ready=ready,
        made=_number(fields.get("made", 0)),
        addresses6={network: at for network, at in seconds.items() if network in addresses},
    )


def _map(told: object) -> dict[str, Any]:
    if not isinstance(told, dict) or not all(_is_name(key) for key in told):
        raise _MalformedError
    return told


def _names(told: object) -> tuple[str, ...]:
    if not isinstance(told, list):
        raise _MalformedError
    return tuple(_name(each) for each in told)


def _name(told: object) -> str:
    if not _is_name(told):
        raise _MalformedError
    return str(told)


def _text(told: object, longest: int) -> str:
    if not isinstance(told, str) or len(told) > longest or not told.isprintable():
        raise _MalformedError
    return told


def _is_name(told: object) -> bool:
    return isinstance(told, str) and 0 < len(told) <= _NAME_LENGTH and told.isprintable()


def _address(told: object) -> IPv4Address:
    try:
        address = IPv4Address(_number(told))
    except AddressValueError as error:
        raise _MalformedError from error
    if address.is_unspecified or address.is_loopback or address.is_multicast or address.is_reserved:
        raise _MalformedError
    return address


def _address6(told: object) -> IPv6Address:
    if not isinstance(told, bytes) or len(told) != _ADDRESS6_BYTES:
        raise _MalformedError
    address = IPv6Address(told)
    strange = address.is_unspecified or address.is_loopback or address.is_multicast
    if strange or address.is_link_local or address.ipv4_mapped is not None:
        raise _MalformedError
    return address


def _number(told: object) -> int:
    if type(told) is not int or not 0 <= told <= _NUMBER_MAX:  # a bool is no number
        raise _MalformedError
    return told


def _node(told: object) -> tuple[int, Narrow]:
    fields = _map(told)
    narrow = _map(fields.get("narrow", {}))
    if len(narrow) > NARROW_MOST:
        raise _MalformedError
    return _mtu(fields.get("mtu")), tuple((NodeId(n), _mtu(size)) for n, size in narrow.items())


def _mtu(told: object) -> int:
    mtu = _number(told)
    if not _SMALLEST_MTU <= mtu <= _LARGEST_MTU:
        raise _MalformedError
    return mtu


def _salt(told: object) -> bytes:
    if not isinstance(told, bytes) or len(told) != SALT_BYTES:
        raise _MalformedError
    return told


def _epoch(told: object) -> Epoch:
    match told:
        case [generation, changes]:
            return _number(generation), _number(changes)
        case _:
            raise _MalformedError


def _ids(told: object) -> frozenset[NodeId]:
    return frozenset(NodeId(each) for each in _names(told))
