"""What a node says of itself by gossip: its underlay and its endpoints, as msgpack maps.

Keys: ``node`` (one) and ``ep/<task id>`` (one per endpoint). A record of a newer version may carry
more fields than we know: they are ignored. docs/protocol.md lists the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any, Final

import msgpack

from meshnet.errors import WireError
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId
from meshnet.model.snapshot import Endpoint

NODE_KEY: Final = "node"
_ENDPOINT_PREFIX: Final = "ep/"


def endpoint_key(task: TaskId) -> str:
    """The gossip key of a task's endpoint."""
    return _ENDPOINT_PREFIX + task


def encode_node(underlay_mtu: int) -> bytes:
    """The ``node`` record.

    Args:
        underlay_mtu: MTU of the interface that carries our VXLAN packets, bytes.
    """
    return bytes(msgpack.packb({"mtu": underlay_mtu}))


def decode_mtu(value: bytes) -> int:
    """Underlay MTU of a ``node`` record, bytes; 1500 when it is malformed."""
    try:
        mtu = msgpack.unpackb(value)["mtu"]
    except (ValueError, KeyError, TypeError, msgpack.UnpackException):
        return 1500
    return mtu if isinstance(mtu, int) and 576 <= mtu <= 65535 else 1500  # noqa: PLR2004 - RFC 791


def encode_endpoint(endpoint: Endpoint) -> bytes:
    """The ``ep/…`` record of one of our endpoints."""
    return bytes(
        msgpack.packb(
            {
                "name": endpoint.name,
                "svc": endpoint.service,
                "addr": {net: int(address) for net, address in endpoint.addresses.items()},
                "ctr": endpoint.container,
                "host": endpoint.hostname,
                "alias": {net: list(names) for net, names in endpoint.aliases.items()},
                "ready": endpoint.ready,
            }
        )
    )


def decode_endpoints(records: Mapping[tuple[NodeId, str], bytes]) -> dict[TaskId, Endpoint]:
    """Every endpoint among gossip records; a malformed one is left out.

    A task said by two nodes (its address moved while a node was cut off) belongs to the one whose
    endpoint is ready, else to the greater node id, so that all nodes agree.
    """
    found: dict[TaskId, Endpoint] = {}
    for (owner, key), value in records.items():
        if not key.startswith(_ENDPOINT_PREFIX):
            continue
        task = TaskId(key.removeprefix(_ENDPOINT_PREFIX))
        try:
            endpoint = _decode(owner, task, msgpack.unpackb(value))
        except (WireError, ValueError, msgpack.UnpackException):
            continue
        other = found.get(task)
        if other is None or (endpoint.ready, endpoint.node) > (other.ready, other.node):
            found[task] = endpoint
    return found


def _decode(owner: NodeId, task: TaskId, fields: Any) -> Endpoint:  # noqa: ANN401 - msgpack
    try:
        return Endpoint(
            task=task,
            name=str(fields["name"]),
            node=owner,
            service=ServiceId(fields["svc"]) if fields["svc"] else None,
            addresses={NetworkId(n): IPv4Address(int(a)) for n, a in fields["addr"].items()},
            container=str(fields.get("ctr", "")),
            hostname=str(fields.get("host", "")),
            aliases={NetworkId(n): tuple(names) for n, names in fields.get("alias", {}).items()},
            ready=bool(fields["ready"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise WireError(owner, "malformed endpoint record") from error
