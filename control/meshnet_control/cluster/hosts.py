"""What a node knows of hosts by gossip and by asking them. A value."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace


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
