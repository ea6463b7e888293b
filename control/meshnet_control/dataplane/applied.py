"""Which epochs of our peers' endpoints this node chooses from, told to whoever asks.

Said when the kernel has it: whoever withdrew something counts on the word. What fails in one
namespace keeps back the epochs of what can be chosen there, and no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from meshnet.gossip.shares import Share, parts
from meshnet.model.ids import NetworkId, NodeId
from meshnet.model.snapshot import Snapshot
from meshnet.reconcile import Reconciler
from meshnet_control.cluster.gossip_records import Epoch
from meshnet_control.dataplane import aware, concerns
from meshnet_control.dataplane.sources import Gossip

_Reconcilers = Sequence[Reconciler[Any, Any, Any]]


class Applied:
    """The word of one process.

    Args:
        self_id: this node.
        reconcilers: that realise its Snapshots.

    Attributes:
        epochs: as they were said last; of peers that the managers know and networks heard of.
    """

    def __init__(self, self_id: NodeId, reconcilers: _Reconcilers) -> None:
        self._self_id = self_id
        self._choosing = [r for r in reconcilers if r.operations.chooses]
        self._others = [r for r in reconcilers if not r.operations.chooses]
        self.epochs: Mapping[Share, Epoch] = {}

    def say(self, gossip: Gossip, newest: Snapshot) -> None:
        """Look at what the kernel has now, and say it if it is other than before.

        Args:
            gossip: tells it.
            newest: whose nodes may ask.
        """
        tried = [r.tried for r in self._choosing if r.tried is not None and r.tried.complete]
        if len(tried) < len(self._choosing) or not tried:
            return
        all_said = {**self.epochs, **self._fresh(tried)}
        hears = gossip.audiences.hears
        said = {
            share: epoch
            for share, epoch in all_said.items()
            if parts(share)[0] in newest.nodes and hears(self._self_id, parts(share)[1])
        }
        if said != self.epochs:
            self.epochs = said
            gossip.applied(said)

    def _fresh(self, tried: Sequence[Snapshot]) -> dict[Share, Epoch]:
        """Epochs that every reconciler that chooses has, and that were not said yet."""
        oldest = min(tried, key=lambda each: each.revision)
        unreached = self._not_reached(oldest)
        new = {
            share: epoch
            for share, epoch in oldest.epochs.items()
            if self.epochs.get(share) != epoch and share not in unreached
        }
        failing = [
            (r, each, concerns.networks_of_peers(each))
            for r, each in zip(self._choosing, tried, strict=True)
            if new and r.failures
        ]
        return {
            share: epoch
            for share, epoch in new.items()
            if all(
                r.holds(concerns.of_networks(_networks_in(share, on), each))
                for r, each, on in failing
            )
        }

    def _not_reached(self, chosen_of: Snapshot) -> Set[Share]:
        """Nodes, on networks, with tasks that the kernel may have no way to yet."""
        made = [r.tried for r in self._others]
        found = (aware.not_reached(chosen_of, each) for each in made if each is not None)
        return frozenset[Share]().union(*found)


def _networks_in(share: Share, on: Mapping[NodeId, Set[NetworkId]]) -> Set[NetworkId]:
    """What endpoints of a share are on, of what all of its owner's are on."""
    owner, network = parts(share)
    return frozenset({NetworkId(network)}) if network else on.get(owner, frozenset())
