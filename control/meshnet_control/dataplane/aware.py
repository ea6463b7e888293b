"""Who must know of a container before its program begins, and who knows the way to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set

from meshnet.gossip.members import Member, State
from meshnet.gossip.shares import Share, share_of
from meshnet.model.ids import NodeId, TaskId
from meshnet.model.shared_map import difference
from meshnet.model.snapshot import Snapshot


def sharing(
    task: TaskId, snapshot: Snapshot, members: Mapping[NodeId, Member]
) -> frozenset[NodeId]:
    """Other nodes that are there, with somebody on a network of this task.

    The ingress network does not count: nobody speaks there first.
    """
    own = snapshot.endpoints.get(task)
    if own is None:
        return frozenset()
    mesh = snapshot.ingress
    networks = own.addresses.keys() - ({mesh.id} if mesh is not None else set())
    nodes = {each.node for each in snapshot.endpoints.values() if networks & each.addresses.keys()}
    return frozenset(
        node
        for node in nodes - {snapshot.self_id}
        if node in members and members[node].state is State.ALIVE and members[node].direct
    )


def not_reached(wanted: Snapshot, made: Snapshot) -> Set[Share]:
    """Nodes, on networks, with a task in ``wanted`` that ``made`` has no way to, or another."""
    found: set[Share] = set()
    on = {network for box in wanted.sandboxes.values() for network, _ in box.networks}
    for task in difference(made.endpoints, wanted.endpoints):
        now, had = wanted.endpoints.get(task), made.endpoints.get(task)
        if now is None or now.node == wanted.self_id:
            continue
        places = had.addresses.items() if had is not None and had.node == now.node else ()
        new = (network for network, _ in now.addresses.items() - places)
        found |= {share_of(now.node, network) for network in new if network in on}
    return found
