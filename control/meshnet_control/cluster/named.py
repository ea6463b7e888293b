"""What of a node's state its messages were of: who keeps something up looks at that alone. Pure.

Law: what no message since named is in the state as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshnet_control.api import control_pb2 as pb


@dataclass(frozen=True)
class Named:
    """What one state may have otherwise than the one before: ids that messages were of."""

    nodes: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()

    def __or__(self, other: Named) -> Named:
        """What several messages in a row were of."""
        return Named(
            self.nodes | other.nodes,
            self.networks | other.networks,
            self.services | other.services,
        )


def named(message: pb.Assignments) -> Named | None:
    """What a message is of; None: anything, as it is full."""
    if message.full:
        return None
    return Named(
        frozenset(message.removed_nodes).union(each.id for each in message.nodes),
        frozenset(message.removed_networks).union(each.id for each in message.networks),
        frozenset(message.removed_services).union(each.id for each in message.services),
    )
