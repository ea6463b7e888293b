"""What each node last said of itself, kept for as long as the managers know the node. Pure.

Gossip hides what a member said when it takes the member for dead, and a member whose process starts
anew says nothing of its tasks until it has found them again. Its containers run on meanwhile, and
the way to them must stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import msgpack

from meshnet.model.ids import NodeId

EPOCH_KEY: Final = "epoch"
"""Gossip record: how often this node's endpoints changed; not there until it knows them all."""
APPLIED_KEY: Final = "applied"
"""Gossip record: epoch of each node's endpoints that our kernel holds."""

Records: TypeAlias = Mapping[tuple[NodeId, str], bytes]
"""(owner, key) -> value."""


def remembered(before: Records, told: Records, nodes: Iterable[NodeId]) -> Records:
    """Records of ``nodes``: as they are told now, else as they were before.

    Args:
        before: the answer of the last time.
        told: what gossip has now, of members that take part and, if it still has them, of others.
        nodes: every node that the managers know.
    """
    whole = {owner for owner, key in told if key == EPOCH_KEY}
    known = set(nodes)
    kept = {
        (owner, key): value
        for (owner, key), value in before.items()
        if owner in known and owner not in whole and key not in {EPOCH_KEY, APPLIED_KEY}
    }
    return {**kept, **{place: value for place, value in told.items() if place[0] in known}}


def epochs(records: Records) -> dict[NodeId, int]:
    """Each node's epoch; a node that does not know its endpoints (yet) has none."""
    return {owner: _number(v) for (owner, key), v in records.items() if key == EPOCH_KEY}


def applied(records: Records, node: NodeId) -> Mapping[NodeId, int]:
    """The epochs that ``node`` has in its kernel, as it says."""
    value = records.get((node, APPLIED_KEY), b"")
    try:
        said = msgpack.unpackb(value)
    except (ValueError, msgpack.UnpackException):
        return {}
    if not isinstance(said, dict):
        return {}
    return {NodeId(k): v for k, v in said.items() if isinstance(k, str) and isinstance(v, int)}


def _number(value: bytes) -> int:
    try:
        number = msgpack.unpackb(value)
    except (ValueError, msgpack.UnpackException):
        return 0
    return number if isinstance(number, int) else 0
