"""A container's place on a network: what nodes and managers call it. Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from meshnet.model.ids import ID_LENGTH, base36
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.node_local import is_node_local

MOST: Final = 2048
"""Places of one node's containers on networks."""
_ID_BYTES: Final = 16


def is_attachment(task: pb.Task) -> bool:
    """The task is no program: a container has a place on a network by it."""
    return bool(task.spec.HasField("network_attachment_spec"))


def attachment_id(node_id: str, container_id: str, network_id: str) -> str:
    """The id of the task for a container's place on a network."""
    digest = sha256("/".join((node_id, container_id, network_id)).encode()).digest()
    return base36(int.from_bytes(digest[:_ID_BYTES]), ID_LENGTH)


def told(network: pb.Network) -> pb.Network:
    """As much of a network as a node needs to put a container on it, or to make it itself."""
    shown = pb.Network(id=network.id)
    spec = network.spec
    shown.spec.name, shown.spec.attachable = spec.name, spec.attachable
    shown.spec.internal, shown.spec.scope = spec.internal, spec.scope
    shown.driver_state.name = network.driver_state.name or spec.driver_configuration.name
    if is_node_local(network):
        shown.spec.config_from, shown.spec.ipv6_enabled = spec.config_from, spec.ipv6_enabled
        shown.spec.driver_configuration.CopyFrom(spec.driver_configuration)
        shown.spec.ipam_options.CopyFrom(spec.ipam_options)
        shown.spec.labels.update(spec.labels)
    return shown


def not_found(reference: str) -> str:
    """Swarm's words for a network that there is not."""
    return f"rpc error: code = NotFound desc = network {reference} not found"


def not_attachable(name: str) -> str:
    """Swarm's words for a network that only services may use."""
    return f"rpc error: code = PermissionDenied desc = network {name} not manually attachable"


def unavailable(why: str) -> str:
    """Swarm's words for a manager that cannot be asked."""
    return f"rpc error: code = Unavailable desc = {why}"


def could_not(name: str, why: str) -> str:
    """Docker's words for a network that a container was not attached to."""
    return f"Could not attach to network {name}: {why}"
