"""Networks of the cluster that each node makes for itself: macvlan, ipvlan and bridge. Pure.

``docker network create -d macvlan --scope swarm --config-from lan mv``: the cluster knows a name
and a driver. Each node's engine makes the network from its own network ``lan``, which is nothing
but a configuration (``--config-only``), when a container of the node is to be on it. Nobody gives
such a network addresses, a VNI or virtual IPs: who is on it is reached as the node's LAN has it.

Source: swarmkit manager/allocator/cnmallocator (isNodeLocal), moby
daemon/cluster/executor/container/container.go (networkCreateRequest).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import engine_networks

DRIVERS: Final = frozenset({"bridge", "ipvlan", "macvlan"})


def driver_of(network: pb.Network) -> str:
    """``macvlan``."""
    return str(network.driver_state.name or network.spec.driver_configuration.name or "overlay")


def is_node_local(network: pb.Network) -> bool:
    """Each node makes it for itself; the engine's own network ``bridge`` is there already."""
    return driver_of(network) in DRIVERS and network.id not in engine_networks.NAMES


def of_task(task: pb.Task) -> list[pb.NetworkAttachment]:
    """A task's places on such networks, in order."""
    return [each for each in task.networks_attachments if is_node_local(each.network)]


def endpoint(task: pb.Task, place: pb.NetworkAttachment) -> dict[str, Any]:
    """What the engine is to know of a task's place on one, as ``EndpointSettings``.

    It answers for these names to the containers of its own host alone.
    """
    names = [task.service_name, f"tasks.{task.service_name}"] if task.service_name else []
    return {"Aliases": list(dict.fromkeys([*names, *place.aliases]))}


def conflict(networks: Collection[pb.Network], *, ports: Iterable[pb.PortConfig]) -> str | None:
    """Why a service cannot be on all of these networks at once; None: it can.

    Args:
        networks: those that it names.
        ports: that it publishes; one on every node has it on the ingress network, too.
    """
    modes = {port.publish_mode == "host" for port in ports}
    local = [network.spec.name for network in networks if is_node_local(network)]
    others = len(local) < len(networks) or False in modes
    if local and others and True in modes:
        return (
            f"a service on network {local[0]} and on overlay networks cannot publish a port with "
            "mode=host: publish it on every node"
        )
    return None
