"""Who of the others chooses from which epoch of ours: asked after, and waited for.

An epoch is of one process: what others acknowledged to an earlier one is no answer to this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Set

from meshnet.gossip.acknowledgements import reaches
from meshnet.gossip.shares import Share, share_of
from meshnet.model.ids import NodeId
from meshnet.model.snapshot import Node
from meshnet_control.cluster.gossip_records import Epoch
from meshnet_control.dataplane.applied import Applied
from meshnet_control.dataplane.judge import Judge
from meshnet_control.dataplane.sources import Gossip


class Awaited:
    """The waits of one process for others.

    Args:
        self_id: this node, which answers itself.
        applied: what this node says that it chooses from.
        judge: says who is gone.
        look: judges anew if it has to be.
        nodes: of the newest Snapshot.
    """

    def __init__(
        self,
        self_id: NodeId,
        applied: Applied,
        judge: Judge,
        look: Callable[[], None],
        nodes: Callable[[], Mapping[NodeId, Node]],
    ) -> None:
        self._self_id = self_id
        self._applied = applied
        self._judge, self._look, self._nodes = judge, look, nodes
        self._gossip: Gossip | None = None
        self._waiting: list[tuple[Mapping[str, Epoch], Set[NodeId] | None]] = []
        self._changed = asyncio.Event()
        self._closed = False

    def attach(self, gossip: Gossip) -> None:
        """Others are asked by this gossip; call once."""
        self._gossip = gossip

    def close(self) -> None:
        """Nobody is asked any more; who waits does so for as long as it said."""
        self._closed = True

    async def news(self) -> None:
        """Returns when there is something new to look at, or may be."""
        await self._changed.wait()

    def notify(self) -> None:
        """There is."""
        # Whoever waits holds the old event; a check and the next wait never miss a change between.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def unaware(self, epochs: Mapping[str, Epoch], of: Set[NodeId] | None = None) -> list[NodeId]:
        """Nodes that may still choose what we withdrew, ascending.

        Args:
            epochs: network, or to all -> with which it was.
            of: these nodes alone; None: all.
        """
        self._look()
        some = self._nodes() if of is None else of
        return sorted(node for node in some if self._may_choose(node, epochs))

    async def unaware_after(
        self, epochs: Mapping[str, Epoch], within_s: float, of: Set[NodeId] | None = None
    ) -> str:
        """Names of the nodes that have not acknowledged the epochs after that time; empty: none.

        Args:
            epochs: network, or to all -> epoch.
            within_s: longest wait, seconds.
            of: these nodes alone; None: all.
        """
        late = await self._late(epochs, within_s, of)
        nodes = self._nodes()
        return ", ".join(nodes[node].hostname if node in nodes else node for node in late)

    async def _late(
        self, epochs: Mapping[str, Epoch], within_s: float, of: Set[NodeId] | None
    ) -> list[NodeId]:
        waiting = (epochs, of)
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(within_s):
                while unaware := self.unaware(epochs, of):
                    self._ask()
                    while self._may_choose(unaware[0], epochs):  # one answers for all that wait
                        await self.news()
        except TimeoutError:
            return self.unaware(epochs, of)
        finally:
            self._waiting.remove(waiting)
            self._ask()
        return []

    def _may_choose(self, node: NodeId, epochs: Mapping[str, Epoch]) -> bool:
        """Whether a node is there and chooses from an older epoch of ours."""
        there = node in self._nodes() and node not in self._judge.gone
        return there and bool(self._unanswered(node, epochs))

    def _unanswered(self, node: NodeId, epochs: Mapping[str, Epoch]) -> list[str]:
        """On which of these networks a node hears of us and has not applied our epoch."""
        if self._gossip is None:
            return []
        here = node == self._self_id
        told = self._applied.epochs if here else self._gossip.acknowledged()
        hears = self._gossip.audiences.hears
        return [
            network
            for network, epoch in epochs.items()
            if hears(node, network) and not reaches(told.get(share_of(node, network)), epoch)
        ]

    def _ask(self) -> None:
        """Of the epochs that are waited for the newest: who chooses from it has the others."""
        if self._gossip is None or self._closed:
            return
        newest: dict[str, Epoch] = {}
        some: set[NodeId] = set()
        for epochs, of in self._waiting:
            newest |= {n: max(epoch, newest.get(n, epoch)) for n, epoch in epochs.items()}
            some |= self._nodes().keys() if of is None else of
        wanted: dict[Share, Epoch] = {
            share_of(node, network): newest[network]
            for node in (self.unaware(newest, some) if newest else [])
            if node != self._self_id
            for network in self._unanswered(node, newest)
        }
        self._gossip.ask(wanted)
