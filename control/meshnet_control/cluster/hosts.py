"""What a node knows of hosts by gossip and by asking them. A value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from meshnet.gossip.members import State
from meshnet.model.ids import NodeId
from meshnet_control.api import control_pb2 as pb


@dataclass(frozen=True)
class Hosts:
    """What is known of hosts whose daemons may be silent; a host in neither is not known."""

    gone: AbstractSet[str] = frozenset()
    """Node ids: gossip holds the node for dead or heard it leave, and the host does not answer."""
    there: AbstractSet[str] = frozenset()
    """Node ids: gossip hears the node, or its host answers."""
    unreached: Mapping[str, AbstractSet[str]] = field(default_factory=dict)
    """Node id -> ids of nodes that it does not reach though others do."""

    def on(self, own: str) -> Hosts:
        """The same as it is known on the host of the node ``own``: that one is there."""
        return replace(self, there={*self.there, own}, gone=self.gone - {own})

    def unheard(self) -> Hosts:
        """The same once nobody tells any more: one that was gone may have come back."""
        return replace(self, gone=frozenset())


def manager_missed(
    remote: str, managers: Iterable[pb.RemoteManager], states: Mapping[NodeId, State]
) -> bool:
    """Whether gossip misses the host of a manager.

    Args:
        remote: ``host:port`` of the manager.
        managers: all of them.
        states: of the members that gossip knows; of another host it says nothing.
    """
    at = [NodeId(each.node_id) for each in managers if each.addr == remote]
    return any(states.get(node, State.ALIVE) is not State.ALIVE for node in at)
