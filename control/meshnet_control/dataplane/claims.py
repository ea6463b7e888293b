"""Whose an address is when more than one says that it has it. Pure.

A node that was cut off from the managers goes on with tasks that they have given up, and may come
back beside the task that got the address since. Records arrive in any order, and nodes see each
other's liveness differently: neither may decide, or two nodes send to different owners. The
managers' latest word does: what they say themselves (virtual IPs, ingress addresses of nodes)
before any record, and among records the task that they gave its addresses last. (Not the task that
they made last: one that waited for an address may be older than who had it before.)

Law: whoever holds the same word of the managers and the same records finds the same owners, in
whatever order they came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from meshnet.model.ids import NetworkId, NodeId, TaskId
from meshnet.model.snapshot import Endpoint, Network, Node, Service

Place = tuple[NetworkId, IPv4Address]


def settled(endpoints: Mapping[TaskId, Endpoint], taken: Iterable[Place]) -> dict[TaskId, Endpoint]:
    """``endpoints`` without the addresses that are somebody else's.

    Args:
        endpoints: what nodes say of their tasks.
        taken: addresses that the managers gave to no task.
    """
    owners: dict[Place, TaskId | None] = {}
    for task, endpoint in sorted(endpoints.items(), key=lambda item: word(item[1])):
        owners |= dict.fromkeys(endpoint.addresses.items(), task)
    owners |= dict.fromkeys(taken)
    return {
        task: with_addresses(
            endpoint, {n: a for n, a in endpoint.addresses.items() if owners[n, a] == task}
        )
        for task, endpoint in endpoints.items()
    }


def with_addresses(endpoint: Endpoint, own: Mapping[NetworkId, IPv4Address]) -> Endpoint:
    """The endpoint with these of its addresses alone; itself when those are all."""
    return endpoint if len(own) == len(endpoint.addresses) else replace(endpoint, addresses=own)


def taken(
    services: Iterable[Service], nodes: Iterable[Node], networks: Mapping[NetworkId, Network]
) -> list[Place]:
    """Addresses that the managers gave to services and to nodes."""
    ingress = [network.id for network in networks.values() if network.ingress]
    vips = [vip for service in services for vip in service.vips.items()]
    addresses = [node.ingress_address for node in nodes if node.ingress_address is not None]
    return [*vips, *((network, address) for network in ingress for address in addresses)]


class Taken:
    """The same, kept up: how often each address was given to a service or a node."""

    def __init__(self) -> None:
        self._times: dict[Place, int] = {}

    def change(self, before: Iterable[Place], now: Iterable[Place]) -> set[Place]:
        """These are given instead of those; the addresses that are taken, or free, since.

        Args:
            before: of some services or nodes, as it was told by the last change of them.
            now: of the same.
        """
        steps = Counter(now)
        steps.subtract(before)
        changed: set[Place] = set()
        for place, step in steps.items():
            had = self._times.get(place, 0)
            if had + step:
                self._times[place] = had + step
            else:
                self._times.pop(place, None)
            if (not had) != (not had + step):
                changed.add(place)
        return changed

    def __contains__(self, place: object) -> bool:
        return place in self._times


def lost(
    said: Mapping[TaskId, Endpoint], settled: Mapping[TaskId, Endpoint]
) -> dict[TaskId, frozenset[Place]]:
    """What of our own tasks is somebody else's: task -> (network, address)."""
    found = {
        task: frozenset(endpoint.addresses.items() - settled[task].addresses.items())
        for task, endpoint in said.items()
        if task in settled
    }
    return {task: places for task, places in found.items() if places}


def word(endpoint: Endpoint) -> tuple[int, TaskId, NodeId]:
    """Whose is the greatest has an address that several say that they have."""
    return endpoint.made, endpoint.task, endpoint.node
