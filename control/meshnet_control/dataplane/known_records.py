"""What each node last said of itself, kept for as long as the managers know the node. Pure.

A member whose process starts anew says nothing of its tasks until it has found them again: until
then it says no epoch. Its containers run on meanwhile, and the way to them must stay; what its last
process had applied and could not reach is no more. What a dead member last said gossip still has,
and gives to a process that starts meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshnet.gossip.engine import UNREACHED_KEY
from meshnet.model.ids import NodeId
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.gossip_records import EPOCH_KEY, Records


def remembered(before: Records, told: Records, nodes: Iterable[NodeId]) -> Records:
    """Records of ``nodes``: as they are told now, else as they were before.

    Args:
        before: the answer of the last time.
        told: what gossip has now, of all members that it remembers.
        nodes: every node that the managers know.
    """
    whole = {owner for owner, key in told if key == EPOCH_KEY}
    known = set(nodes)
    kept = {
        (owner, key): value
        for (owner, key), value in before.items()
        if owner in known
        and owner not in whole
        and key not in {EPOCH_KEY, UNREACHED_KEY}
        and not gossip_records.is_applied_key(key)
    }
    return {**kept, **{place: value for place, value in told.items() if place[0] in known}}


def epochs(records: Records) -> dict[NodeId, int]:
    """Each node's epoch; a node that does not know its endpoints (yet) has none."""
    return {
        owner: gossip_records.decode_epoch(value) or 0
        for (owner, key), value in records.items()
        if key == EPOCH_KEY
    }


def applied(records: Records, node: NodeId, peer: NodeId) -> int:
    """The epoch of ``peer``'s endpoints that ``node`` chooses from, as it says; 0: it does not."""
    told = records.get((node, gossip_records.applied_key(peer)), b"")
    return (gossip_records.decode_applied(told) or {}).get(peer, 0)
