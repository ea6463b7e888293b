"""What a swarm-scoped overlay network cannot be, its addresses aside. PURE.

Source: swarmkit manager/controlapi/network.go validateNetworkSpec; moby libnetwork ovmanager.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import Network, NetworkCreateRequest, Node
from meshnet_control.cluster import encryption, vxlan_ids
from meshnet_control.controlapi.refusals import invalid, unimplemented

_PREDEFINED_LABEL: Final = "com.docker.swarm.predefined"


def check(request: NetworkCreateRequest) -> None:
    """Refuse what no overlay network can be, whichever others there are.

    Raises:
        ControlError: the first thing wrong with it.
    """
    if _PREDEFINED_LABEL in request.labels:
        raise ControlError(
            f"rpc error: code = PermissionDenied desc = label {_PREDEFINED_LABEL} is for "
            "internally created predefined networks and cannot be applied by users",
            HTTPStatus.FORBIDDEN,
        )
    if request.ingress and request.attachable:
        raise invalid("ingress network cannot be attachable")
    families = [":" in config.subnet for config in request.ipam.config]
    if request.ingress and len(set(families)) < len(families):
        raise unimplemented(
            "an ingress network of several subnets is not supported by this version of meshnet: "
            "give it one --subnet of a family that is large enough"
        )
    _vxlan_id(request)
    try:
        encryption.read(request.options)
    except ValueError as error:
        said = str(error)
        raise invalid(f"invalid value {said!r} of option encrypted: true or false") from None


def check_vxlan_id(request: NetworkCreateRequest, others: Iterable[Network]) -> None:
    """Refuse the VXLAN id of another network.

    Raises:
        ControlError: whose it is (400).
    """
    asked = _vxlan_id(request)
    for other in others if asked is not None else ():
        if asked in {other.vni, vxlan_ids.wanted(other)}:
            raise invalid(f"could not assign vxlan id {asked}: network {other.spec.name} has it")


def check_encrypted_ingress(request: NetworkCreateRequest, nodes: Iterable[Node]) -> None:
    """Refuse to encrypt the ingress network, which every node is on, while one cannot.

    Raises:
        ControlError: which ones (400).
    """
    if not request.ingress or not encryption.read(request.options):
        return
    without = sorted(
        each.description.hostname or each.id
        for each in nodes
        if each.status.state != "down" and not each.description.esp
    )
    if without:
        raise invalid(
            "the ingress network is on every node, and cannot be encrypted on those whose kernel "
            f"has no ESP (module esp4) or whose meshnet is too old: {', '.join(without)}"
        )


def _vxlan_id(request: NetworkCreateRequest) -> int | None:
    try:
        return vxlan_ids.read(request.options)
    except ValueError as error:
        said = str(error)
    if "," in said and said.isprintable():
        raise invalid(f"{vxlan_ids.OPTION} {said}: the subnets of a network share one, give one id")
    raise invalid(f"invalid vxlan id value {said!r} passed: it is a number up to {vxlan_ids.LAST}")
