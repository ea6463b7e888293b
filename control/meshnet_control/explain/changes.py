"""What is different in a newer Snapshot, and whose word it is: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from meshnet.model.shared_map import difference
from meshnet.model.snapshot import Endpoint, Network, Node, Service, Snapshot

MANAGERS: Final = "managers"
GOSSIP: Final = "gossip"
_K = TypeVar("_K", bound=str)
_V = TypeVar("_V")
Said = tuple[str, str]
"""Who, and what."""


def between(
    old: Snapshot, new: Snapshot, unknown: Callable[[str], bool] = lambda _: False
) -> Iterator[Said]:
    """Each difference: first of nodes, then of networks, services and tasks, by id.

    Args:
        old: the Snapshot before.
        new: the Snapshot now.
        unknown: whether what is said on a network is not heard of here, or not all of it yet. What
            is on such networks alone has not come and has not gone: it is heard of, or no more.
    """
    for node, before, now in _pairs(old.nodes, new.nodes):
        yield from _node(node, before, now)
    for _, was, network in _pairs(old.networks, new.networks):
        yield from _network(was, network)
    for _, had, service in _pairs(old.services, new.services):
        yield from _service(had, service)
    for _, left, endpoint in _pairs(old.endpoints, new.endpoints):
        networks = {*(left.addresses if left else ()), *(endpoint.addresses if endpoint else ())}
        if not networks or not all(map(unknown, networks)):
            yield from _endpoint(new, left, endpoint)


def _pairs(old: Mapping[_K, _V], new: Mapping[_K, _V]) -> Iterator[tuple[_K, _V | None, _V | None]]:
    for key in sorted(difference(old, new)):
        yield key, old.get(key), new.get(key)


def _node(node: str, before: Node | None, now: Node | None) -> Iterator[Said]:
    if now is None:
        yield MANAGERS, f"node {before.hostname if before is not None else node} was removed"
        return
    name = now.hostname or node
    if before is None:
        yield MANAGERS, f"node {name} at {now.vtep} is part of the cluster"
        return
    if before.down != now.down:
        yield MANAGERS, f"node {name} is {'down' if now.down else 'there again'}"
    elif before.live != now.live:
        yield GOSSIP, f"node {name} is {'heard again' if now.live else 'silent'}"
    elif before.doubted != now.doubted and now.live:
        yield GOSSIP, f"node {name} {'is silent for now' if now.doubted else 'answers again'}"
    if replace(before, live=now.live, doubted=now.doubted, down=now.down) != now:
        yield MANAGERS, f"node {name} was changed"


def _network(before: Network | None, now: Network | None) -> Iterator[Said]:
    one = now or before
    if one is not None:
        how = "was changed" if before and now else "was made" if now else "was removed"
        yield MANAGERS, f"network {one.name} ({one.subnet}) {how}"


def _service(before: Service | None, now: Service | None) -> Iterator[Said]:
    one = now or before
    if one is not None:
        how = "was changed" if before and now else "was made" if now else "was removed"
        yield MANAGERS, f"service {one.name} {how}"


def _endpoint(snapshot: Snapshot, before: Endpoint | None, now: Endpoint | None) -> Iterator[Said]:
    one = now or before
    if one is None:
        return
    node = snapshot.nodes.get(one.node)
    where = node.hostname if node is not None else one.node
    if now is None:
        yield where, f"{one.name} has gone"
    elif before is None:
        yield where, f"{one.name} is there, {_state(now)}"
    elif before.ready != now.ready:
        yield where, f"{one.name} is {_state(now)}"
    elif before.node != now.node or before.addresses != now.addresses:
        yield MANAGERS, f"{one.name} was moved"


def _state(endpoint: Endpoint) -> str:
    return "ready" if endpoint.ready else "not ready"
