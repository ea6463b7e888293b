"""Who takes part in which network, as each says in records that go to all. Pure.

``in/<network>``: it has something on that network, hears what others say there, and may say
something there itself. ``in/*``: it hears of every network, for those who ask it.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from meshnet.gossip.shares import TO_ALL, Share, parts
from meshnet.model.ids import NodeId

EVERY: Final = "*"
"""In place of a network: all of them."""
_PREFIX: Final = "in/"


def takes_part_key(network: str) -> str:
    """The key of the record that says it."""
    return _PREFIX + network


def network_of(key: str) -> str | None:
    """The network that a record is about; None: it is about something else."""
    return key.removeprefix(_PREFIX) if key.startswith(_PREFIX) else None


class Audiences:
    """What all say, and what of it concerns this node.

    Args:
        self_id: this node.
    """

    def __init__(self, self_id: NodeId) -> None:
        self._self_id = self_id
        self._members: dict[str, set[NodeId]] = {}
        self._networks: dict[NodeId, set[str]] = {}

    def said(self, member: NodeId, network: str, *, takes_part: bool) -> None:
        """A member takes part in a network from now on, or does not."""
        if takes_part:
            self._members.setdefault(network, set()).add(member)
            self._networks.setdefault(member, set()).add(network)
            return
        self._members.get(network, set()).discard(member)
        self._networks.get(member, set()).discard(network)
        if not self._members.get(network, True):
            del self._members[network]
        if not self._networks.get(member, True):
            del self._networks[member]

    def members(self, network: str) -> Set[NodeId]:
        """Who has something on a network; not to be changed."""
        return self._members.get(network, frozenset())

    def hearers(self, network: str) -> Set[NodeId]:
        """Whom what is said on a network concerns."""
        return self.members(network) | self.members(EVERY)

    def networks(self, member: NodeId) -> Set[str]:
        """What a member says that it takes part in; not to be changed."""
        return self._networks.get(member, frozenset())

    def hears(self, member: NodeId, network: str) -> bool:
        """Whether what is said on a network, or to all, concerns a member."""
        mine = self.networks(member)
        return network == TO_ALL or network in mine or EVERY in mine

    def heard(self, member: NodeId) -> Set[str]:
        """Every network that concerns a member."""
        mine = self.networks(member)
        return (self._members.keys() if EVERY in mine else mine) - {EVERY}

    def shared(self, member: NodeId) -> Set[str]:
        """The networks that concern both this node and a member."""
        return self.heard(self._self_id) & self.heard(member)

    def counts(self, share: Share) -> bool:
        """Whether a share is to be known here: its owner is on a network that concerns us."""
        owner, network = parts(share)
        if network == TO_ALL:
            return True
        return owner in self.members(network) and self.hears(self._self_id, network)
