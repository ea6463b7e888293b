"""How many addresses of a network are in use, and how many are left: ``Status`` of API 1.52. Pure.

    10.0.1.0/24: .0 and .255 reserved, .1 gateway, .2 a VIP, .3 a task    -> in use 5, available 251

In use is what the allocator gives to nobody else: also the address of a task that was given up on
a node which may still run it. Other than in Swarm no node has one but on the ingress network.

Source: moby api/types/network SubnetStatus, integration/network/network_test.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_interface, ip_network
from typing import Any, Final

from meshnet_control.api import control_pb2 as pb

_MOST: Final = (1 << 64) - 1
"""That the engine's clients can read; it says so of whatever is more."""


def status(
    network: pb.Network,
    services: Iterable[pb.Service],
    tasks: Iterable[pb.Task],
    nodes: Iterable[pb.Node],
) -> dict[str, Any]:
    """``{"IPAM": {"Subnets": {"10.0.1.0/24": {"IPsInUse": 5, "DynamicIPsAvailable": 251}}}}``.

    Args:
        network: one of the cluster's; without a subnet yet it has no ``Subnets``.
        services: all that may have a VIP on it.
        tasks: all that are attached to it, with their addresses on it and their states.
        nodes: all of the cluster.
    """
    held = set(_held(network, services, tasks, {node.id: node for node in nodes}))
    subnets = {
        config.subnet: _subnet(config, held)
        for config in network.ipam_options.configs
        if config.subnet
    }
    return {"IPAM": {"Subnets": subnets} if subnets else {}}


def _subnet(config: pb.IPAMConfig, held: set[int]) -> dict[str, int]:
    subnet = ip_network(config.subnet, strict=False)
    given = ip_network(config.ip_range, strict=False) if config.ip_range else subnet
    gateway = config.gateway or str(subnet[1])
    taken = held | {int(subnet.network_address), int(subnet.broadcast_address)}
    taken |= set(_numbers((gateway, *config.auxiliary_addresses.values())))
    return {
        "IPsInUse": _within(taken, given=(int(subnet[0]), int(subnet[-1]))),
        "DynamicIPsAvailable": min(
            _MOST, given.num_addresses - _within(taken, given=(int(given[0]), int(given[-1])))
        ),
    }


def _within(numbers: Iterable[int], given: tuple[int, int]) -> int:
    first, last = given
    return sum(first <= number <= last for number in numbers)


def _held(
    network: pb.Network,
    services: Iterable[pb.Service],
    tasks: Iterable[pb.Task],
    nodes: dict[str, pb.Node],
) -> Iterator[int]:
    for service in services:
        vips = service.endpoint.virtual_ips
        yield from _numbers(vip.addr for vip in vips if vip.network_id == network.id)
    for task in tasks:
        if _holds(task, nodes):
            for attached in task.networks_attachments:
                if attached.network.id == network.id:
                    yield from _numbers(attached.addresses)
    if network.spec.ingress:
        for node in nodes.values():
            yield from _numbers((node.ingress_address, node.ingress_address6))


def _holds(task: pb.Task, nodes: dict[str, pb.Node]) -> bool:
    """Whether nobody else is given its addresses, see ``orchestrate.tasks.holds_addresses``."""
    if task.status.state == pb.TASK_STATE_ORPHANED:
        return task.node_id in nodes and nodes[task.node_id].status.state == "down"
    return bool(task.status.state <= pb.TASK_STATE_RUNNING)


def _numbers(addresses: Iterable[str]) -> Iterator[int]:
    for address in addresses:
        try:
            yield int(ip_interface(address).ip)
        except ValueError:
            continue  # none yet
