"""Whose an address is when more than one says that it has it. Pure.

A node that was cut off from the managers goes on with tasks that they have given up, and may come
back beside the task that got the address since. Records arrive in any order, and nodes see each
other's liveness differently: neither may decide, or two nodes send to different owners. The
managers' latest word does: what they say themselves (virtual IPs, ingress addresses of nodes)
before any record, and among records the task that they gave its addresses last. (Not the task that
they made last: one that waited for an address may be older than who had it before.)

An address of IPv6 has the MAC of the one of IPv4 beside it: who loses that one has neither.

Law: whoever holds the same word of the managers and the same records finds the same owners, in
whatever order they came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from meshnet.model.families import Address
from meshnet.model.ids import NetworkId, NodeId, TaskId
from meshnet.model.snapshot import Endpoint, Network, Node, Service

Place = tuple[NetworkId, Address]


def settled(endpoints: Mapping[TaskId, Endpoint], taken: Iterable[Place]) -> dict[TaskId, Endpoint]:
    """``endpoints`` without the addresses that are somebody else's.

    Args:
        endpoints: what nodes say of their tasks.
        taken: addresses that the managers gave to no task.
    """
    owners: dict[Place, TaskId | None] = {}
    for task, endpoint in sorted(endpoints.items(), key=lambda item: word(item[1])):
        owners |= dict.fromkeys(places(endpoint), task)
    owners |= dict.fromkeys(taken)
    return {
        task: with_own(endpoint, lambda place, task=task: owners[place] == task)  # type: ignore[misc]
        for task, endpoint in endpoints.items()
    }


def places(endpoint: Endpoint) -> set[Place]:
    """Its addresses of both families."""
    return {*endpoint.addresses.items(), *endpoint.addresses6.items()}


def with_own(endpoint: Endpoint, owns: Callable[[Place], bool]) -> Endpoint:
    """The endpoint with those of its addresses alone that it owns; itself when those are all."""
    first = {net: at for net, at in endpoint.addresses.items() if owns((net, at))}
    second = {
        net: at for net, at in endpoint.addresses6.items() if net in first and owns((net, at))
    }
    if len(first) == len(endpoint.addresses) and len(second) == len(endpoint.addresses6):
        return endpoint
    return replace(endpoint, addresses=first, addresses6=second)


def taken(
    services: Iterable[Service], nodes: Iterable[Node], networks: Mapping[NetworkId, Network]
) -> list[Place]:
    """Addresses that the managers gave to services and to nodes."""
    ingress = [network.id for network in networks.values() if network.ingress]
    vips: list[Place] = []
    for service in services:
        vips += [*service.vips.items(), *service.vips6.items()]
    own = (each for node in nodes for each in (node.ingress_address, node.ingress_address6))
    addresses = [address for address in own if address is not None]
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
        task: frozenset(places(endpoint) - places(settled[task]))
        for task, endpoint in said.items()
        if task in settled
    }
    return {task: places for task, places in found.items() if places}


def word(endpoint: Endpoint) -> tuple[int, TaskId, NodeId]:
    """Whose is the greatest has an address that several say that they have."""
    return endpoint.made, endpoint.task, endpoint.node
