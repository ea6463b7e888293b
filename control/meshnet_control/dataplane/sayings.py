"""What this node says of its endpoints by gossip: to all, and on each network what is there.

Each audience has an epoch: how often what it is told has changed since the process started.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from meshnet.gossip.shares import TO_ALL, placed
from meshnet.model.ids import NetworkId, TaskId
from meshnet.model.snapshot import Endpoint
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.gossip_records import Epoch
from meshnet_control.dataplane.sources import Gossip


class Sayings:
    """The records of one process.

    Args:
        generation: of its epochs.
    """

    def __init__(self, generation: int) -> None:
        self._generation = generation
        self._changes: dict[str, int] = {TO_ALL: 0}
        self._records: dict[TaskId, Mapping[str, bytes]] = {}
        self.adopted = False
        """Everything that runs here is said, so epochs are."""

    def say(
        self, gossip: Gossip, task: TaskId, endpoint: Endpoint | None, everywhere: Set[NetworkId]
    ) -> None:
        """An endpoint is this one now, or there no more.

        Args:
            gossip: says it.
            task: whose it is.
            endpoint: None: it is gone.
            everywhere: networks that all nodes are on.
        """
        before = self._records.pop(task, {})
        now: Mapping[str, bytes] = {}
        if endpoint is not None:
            now = self._records[task] = gossip_records.endpoint_records(endpoint, everywhere)
        changed = [key for key in sorted(before.keys() | now) if before.get(key) != now.get(key)]
        for key in changed:
            gossip.set_record(key, now.get(key))
        for network in sorted({placed(key)[0] for key in changed}):
            self._changes[network] = self._changes.get(network, 0) + 1
            if self.adopted:
                self._tell(gossip, network)

    def begin(self, gossip: Gossip, networks: Set[str]) -> None:
        """This node is on these networks now, whatever it has to say there."""
        for network in sorted(networks):
            self._changes.setdefault(network, 0)
            if self.adopted:
                self._tell(gossip, network)

    def tell_epochs(self, gossip: Gossip) -> None:
        """That to all comes last: then everything is said."""
        for network in sorted(self._changes, reverse=True):
            self._tell(gossip, network)

    def epochs(self, task: TaskId | None = None) -> dict[str, Epoch]:
        """Network, or to all -> epoch, of where a task is or last was said; None: of everything."""
        said = self._records.get(task) if task is not None else None
        networks = {placed(key)[0] for key in said} if said else self._changes.keys()
        return {network: self._epoch(network) for network in networks}

    def _epoch(self, network: str) -> Epoch:
        return self._generation, self._changes[network]

    def _tell(self, gossip: Gossip, network: str) -> None:
        value = gossip_records.encode_epoch(self._epoch(network))
        gossip.set_record(gossip_records.epoch_key(network), value)
