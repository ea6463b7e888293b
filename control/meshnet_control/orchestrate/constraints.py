"""Placement constraints: ``node.role==worker``, ``node.labels.zone != a``. Pure.

Keys: node.id, node.hostname, node.ip (an address or a CIDR), node.role, node.platform.os,
node.platform.arch, node.labels.<name>, engine.labels.<name>; all but label names in any case.
Operators ``==`` and ``!=``; values are compared without regard to case, there are no patterns.

Be aware: a label that a node does not have is the empty value: ``!=`` holds. A key nobody knows is
never satisfied, with either operator.
Source: swarmkit manager/constraint/constraint.go.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, NetmaskValueError
from ipaddress import IPv4Network as Subnet

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.constraint import parse

_NODE_LABEL, _ENGINE_LABEL = "node.labels.", "engine.labels."
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}


def satisfied(constraint: str, node: pb.Node) -> bool:
    """True when a node meets one constraint; a text that is none is never met."""
    try:
        asked = parse(constraint)
    except ValueError:
        return False
    if asked.key.lower() == "node.ip":
        return _same_address(node.status.addr, asked.value) == asked.equal
    value = value_of(asked.key, node)
    return value is not None and (value.lower() == asked.value.lower()) == asked.equal


def value_of(key: str, node: pb.Node) -> str | None:
    """What a node has under a key; "" for a label it lacks, None for a key nobody knows."""
    lower = key.lower()
    if lower.startswith(_NODE_LABEL):
        return node.spec.labels.get(key[len(_NODE_LABEL) :], "")
    if lower.startswith(_ENGINE_LABEL):
        return node.description.engine.labels.get(key[len(_ENGINE_LABEL) :], "")
    platform = node.description.platform
    known = {
        "node.id": node.id,
        "node.hostname": node.description.hostname,
        "node.role": node.spec.role,
        "node.platform.os": platform.os,
        "node.platform.arch": platform.architecture,
    }
    return known.get(lower)


def runs_platform(node: pb.Node, platforms: list[pb.Platform]) -> bool:
    """True when a node is one of these platforms; none asked for: any will do.

    An empty part of a platform fits every node; ``x86_64`` and ``amd64`` are the same.
    """
    if not platforms:
        return True
    here = node.description.platform
    return any(
        (not wanted.os or wanted.os.lower() == here.os.lower())
        and (
            not wanted.architecture
            or _architecture(wanted.architecture) == _architecture(here.architecture)
        )
        for wanted in platforms
    )


def _architecture(name: str) -> str:
    return _ARCHITECTURES.get(name.lower(), name.lower())


def _same_address(address: str, wanted: str) -> bool:
    """True when a node's address is the wanted one, or inside the wanted subnet."""
    try:
        return IPv4Address(address) in Subnet(wanted, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        return False
