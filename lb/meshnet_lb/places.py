"""On which node each endpoint's address is, Snapshot after Snapshot: pure but for its own memory.

Law: whatever came before, what is kept of a Snapshot is what it is of the first one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from meshnet.model.families import Address
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId
from meshnet.model.snapshot import Snapshot
from meshnet_lb.dialect import IPV4, Dialect

_Place = tuple[NetworkId, Address, NodeId]


@dataclass
class Places:
    """Of every network."""

    dialect: Dialect = IPV4
    _nodes: dict[NetworkId, dict[Address, NodeId]] = field(default_factory=dict)

    def node(self, network: NetworkId, address: Address) -> NodeId | None:
        """Whose the endpoint with this address is."""
        return self._nodes.get(network, {}).get(address)

    def follow(
        self, before: Snapshot, now: Snapshot, tasks: Iterable[TaskId]
    ) -> set[tuple[NetworkId, ServiceId]]:
        """Bring everything up to date.

        Args:
            before: the last one.
            now: this one.
            tasks: whose endpoints or nodes are other than before.

        Returns:
            Services, and networks of them, whose backends may weigh otherwise now.
        """
        some = tuple(tasks)
        dialect = self.dialect
        was, are = _placed(before, some, dialect), _placed(now, some, dialect)
        for network, address, _ in was - are:
            on = self._nodes[network]
            del on[address]
            if not on:
                del self._nodes[network]
        for network, address, node in are - was:
            self._nodes.setdefault(network, {})[address] = node
        return {
            (network, service)
            for snapshot in (before, now)
            for task in some
            if (endpoint := snapshot.endpoints.get(task)) is not None
            and (service := endpoint.service) is not None
            and (of := now.services.get(service)) is not None
            and of.policy.by_place
            for network in dialect.addresses(endpoint)
        }


def _placed(snapshot: Snapshot, tasks: Iterable[TaskId], dialect: Dialect) -> set[_Place]:
    return {
        (network, address, endpoint.node)
        for task in tasks
        if (endpoint := snapshot.endpoints.get(task)) is not None
        for network, address in dialect.addresses(endpoint).items()
    }
