"""What each node last said of itself, kept for as long as the managers know the node. Pure.

A member whose process starts anew says nothing of its tasks until it has found them again: until
then it says no epoch. Its containers run on meanwhile, and the way to them must stay; what its last
process had applied and could not reach is no more. What a dead member last said gossip still has,
and gives to a process that starts meanwhile. So it is on each network: until it says an epoch
there, or that it is not on it, what its last process said there stays.

``KnownRecords`` costs the nodes that said something; law: it has what ``of_one`` is of every node.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from meshnet.gossip.audiences import takes_part_key
from meshnet.gossip.engine import UNREACHED_KEY
from meshnet.gossip.shares import TO_ALL, placed
from meshnet.model.ids import NodeId
from meshnet_control.cluster.gossip_records import EPOCH_KEY, Records, epoch_key

News = Mapping[tuple[NodeId, str], bytes | None]
"""(owner, key) -> value; None: it is gone."""
_OF_A_PROCESS = frozenset({EPOCH_KEY, UNREACHED_KEY})


def of_one(
    before: Mapping[str, bytes], told: Mapping[str, bytes], networks: Set[str]
) -> dict[str, bytes]:
    """What is remembered of one node: as it says now, else as it said before.

    Args:
        before: the answer of the last time, by key.
        told: what gossip has of it now.
        networks: that this node hears of.
    """
    kept = {
        key: value
        for key, value in before.items()
        if key not in told and _stays(*placed(key), told, networks)
    }
    return kept | dict(told)


def _stays(network: str, name: str, told: Mapping[str, bytes], networks: Set[str]) -> bool:
    """Whether a node that does not say a record of its last process (yet) may have it still."""
    if name in _OF_A_PROCESS:
        return False
    if EPOCH_KEY not in told:
        return network == TO_ALL or network in networks
    says_nothing_yet = takes_part_key(network) in told and epoch_key(network) not in told
    return network != TO_ALL and network in networks and says_nothing_yet


class KnownRecords:
    """What is remembered, by owner."""

    def __init__(self) -> None:
        self._told: dict[NodeId, dict[str, bytes]] = {}
        self._known: dict[NodeId, dict[str, bytes]] = {}
        self._nodes: Set[NodeId] = frozenset()
        self._networks: Set[str] = frozenset()
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

    def settle(self, nodes: Set[NodeId], networks: Set[str] = frozenset()) -> News:
        """What is remembered otherwise than when this was asked last.

        Args:
            nodes: every node that the managers know.
            networks: that this node hears of.
        """
        news: dict[tuple[NodeId, str], bytes | None] = {}
        if nodes is not self._nodes:
            self._spoke |= nodes ^ self._nodes
            self._nodes = nodes
        if networks != self._networks:
            if self._networks - networks:
                self._spoke |= self._known.keys()
            self._networks = frozenset(networks)
        for owner in self._spoke:
            before = self._known.get(owner, {})
            told = self._told.get(owner, {})
            now = of_one(before, told, self._networks) if owner in nodes else {}
            for key in before.keys() | now.keys():
                if before.get(key) != now.get(key):
                    news[owner, key] = now.get(key)
            if now:
                self._known[owner] = now
            else:
                self._known.pop(owner, None)
        self._spoke.clear()
        return news
