"""What each node last said of itself, kept for as long as the managers know the node. Pure.

A member whose process starts anew says nothing of its tasks until it has found them again: until
then it says no epoch. Its containers run on meanwhile, and the way to them must stay; what its last
process had applied and could not reach is no more. What a dead member last said gossip still has,
and gives to a process that starts meanwhile.

``KnownRecords`` is ``remembered`` of each moment, at the cost of the nodes that said something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from meshnet.gossip.engine import UNREACHED_KEY
from meshnet.model.ids import NodeId
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.gossip_records import EPOCH_KEY, Epoch, Records

News = Mapping[tuple[NodeId, str], bytes | None]
"""(owner, key) -> value; None: it is gone."""
_OF_A_PROCESS = frozenset({EPOCH_KEY, UNREACHED_KEY})


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
        if owner in known and owner not in whole and key not in _OF_A_PROCESS
    }
    return {**kept, **{place: value for place, value in told.items() if place[0] in known}}


def epochs(records: Records) -> dict[NodeId, Epoch]:
    """Each node's epoch; a node that does not know its endpoints (yet) has none."""
    return {
        owner: gossip_records.decode_epoch(value) or (0, 0)
        for (owner, key), value in records.items()
        if key == EPOCH_KEY
    }


class KnownRecords:
    """What is remembered, by owner."""

    def __init__(self) -> None:
        self._told: dict[NodeId, dict[str, bytes]] = {}
        self._known: dict[NodeId, dict[str, bytes]] = {}
        self._nodes: Set[NodeId] = frozenset()
        self._spoke: set[NodeId] = set()

    def tell_all(self, told: Records) -> None:
        """All that gossip has now."""
        fresh: dict[NodeId, dict[str, bytes]] = {}
        for (owner, key), value in told.items():
            fresh.setdefault(owner, {})[key] = value
        self._spoke |= {
            owner
            for owner in fresh.keys() | self._told.keys()
            if fresh.get(owner) != self._told.get(owner)
        }
        self._told = fresh

    def tell(self, news: News) -> None:
        """What is new in gossip since the last time."""
        for (owner, key), value in news.items():
            self._spoke.add(owner)
            if value is not None:
                self._told.setdefault(owner, {})[key] = value
            elif key in self._told.get(owner, {}):
                del self._told[owner][key]
                if not self._told[owner]:
                    del self._told[owner]

    def settle(self, nodes: Set[NodeId]) -> News:
        """What is remembered otherwise than when this was asked last.

        Args:
            nodes: every node that the managers know.
        """
        news: dict[tuple[NodeId, str], bytes | None] = {}
        if nodes is not self._nodes:
            self._spoke |= nodes ^ self._nodes
            self._nodes = nodes
        for owner in self._spoke:
            before = self._known.get(owner, {})
            now = self._remembered(owner, before) if owner in nodes else {}
            for key in before.keys() | now.keys():
                if before.get(key) != now.get(key):
                    news[owner, key] = now.get(key)
            if now:
                self._known[owner] = now
            else:
                self._known.pop(owner, None)
        self._spoke.clear()
        return news

    def _remembered(self, owner: NodeId, before: Mapping[str, bytes]) -> dict[str, bytes]:
        told = self._told.get(owner, {})
        if EPOCH_KEY in told:
            return dict(told)
        return {k: v for k, v in before.items() if k not in _OF_A_PROCESS} | told
