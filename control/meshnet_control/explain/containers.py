"""Which container of the cluster a user means, and on which node it runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from meshnet.errors import ControlError
from meshnet.model.families import FAMILIES, Address, Family
from meshnet.model.ids import NetworkId
from meshnet.model.snapshot import Endpoint, Node, Sandbox, Snapshot
from meshnet_control.explain import references

CLIENT: Final = "client"
"""Who asks from outside, at a published port."""


def endpoint(snapshot: Snapshot, reference: str, others: Iterable[str] = ()) -> Endpoint:
    """By container id, its beginning, container or task name, task id or its beginning.

    Args:
        snapshot: of this moment.
        reference: as typed.
        others: what else could be typed in its place.

    Raises:
        ControlError: none, or several, are meant.
    """
    by_container = [
        each
        for each in snapshot.endpoints.values()
        if reference and each.container.startswith(reference)
    ]
    if len(by_container) == 1:
        return by_container[0]
    known = {str(each.task): each for each in snapshot.endpoints.values()}
    names = {str(each.task): each.name for each in snapshot.endpoints.values()}
    return references.found("container on an overlay network", reference, known, names, others)


def caller(snapshot: Snapshot, reference: str) -> Endpoint:
    """By what ``endpoint`` takes, by an address, or any task of a service, of this node first.

    Raises:
        ControlError: none, or several, are meant.
    """
    every = sorted(
        snapshot.live_endpoints(), key=lambda each: (each.node != snapshot.self_id, each.name)
    )
    for each in every:
        if reference in map(str, (*each.addresses.values(), *each.addresses6.values())):
            return each
    services = {each.id for each in snapshot.services.values() if reference in {each.id, each.name}}
    for each in every:
        if each.service in services:
            return each
    names = [each.name for each in snapshot.services.values()]
    return endpoint(snapshot, reference, [CLIENT, *names])


def common(snapshot: Snapshot, one: Endpoint, other: Endpoint, family: Family = 4) -> Address:
    """The address by which ``one`` reaches ``other``.

    Raises:
        ControlError: they are on no network together, or on none of that family.
    """
    first = family == FAMILIES[0]
    theirs: Mapping[NetworkId, Address] = other.addresses if first else other.addresses6
    ours: Mapping[NetworkId, Address] = one.addresses if first else one.addresses6
    for network, address in theirs.items():
        known = snapshot.networks.get(network)
        if network in ours and known is not None and not known.ingress:
            return address
    if not first and not one.addresses.keys().isdisjoint(other.addresses):
        raise ControlError(
            f"{one.name} and {other.name} are on no dual stack network together: docker network "
            "create --ipv6 makes one",
            404,
        )
    raise ControlError(
        f"{one.name} and {other.name} are on no network together: docker service update "
        "--network-add NETWORK SERVICE",
        404,
    )


def host(snapshot: Snapshot, reference: str) -> Node | None:
    """The node with that host name, address, id or beginning of an id; None: no such."""
    for node in snapshot.nodes.values():
        if reference in {node.hostname, str(node.vtep), node.id}:
            return node
    fits = [n for n in snapshot.nodes.values() if reference and n.id.startswith(reference)]
    return fits[0] if len(fits) == 1 else None


def sandbox(snapshot: Snapshot, of: Endpoint) -> Sandbox:
    """The namespace of a container of this node.

    Raises:
        ControlError: it runs elsewhere, or is not wired here.
    """
    found = snapshot.sandboxes.get(of.task)
    if found is None:
        node = snapshot.nodes.get(of.node)
        where = node.hostname if node is not None else of.node
        here = of.node == snapshot.self_id
        why = "has no network here (any more)" if here else f"runs on {where}"
        raise ControlError(f"container {of.name} {why}", 404)
    return found
