"""Who belongs to the cluster, and for how long those that are gone are remembered and told of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set

from meshnet.gossip.config import GossipConfig
from meshnet.gossip.members import Member, State
from meshnet.model.ids import NodeId


class Departed:
    """Members that are gone.

    Args:
        config: how long each kind is remembered.
    """

    def __init__(self, config: GossipConfig) -> None:
        self._config = config
        self._hands: Mapping[NodeId, bytes] | None = None
        self.retired: dict[NodeId, Member] = {}
        """Left, told to nobody any more, and still to be known to whoever asks here."""

    def expect(self, hands: Mapping[NodeId, bytes]) -> Set[NodeId]:
        """Who belongs to the cluster, dead or not, and the public key of each.

        Returns:
            Who has another key than before.
        """
        before, self._hands = self._hands or {}, dict(hands)
        return {id_ for id_, hand in hands.items() if before.get(id_, hand) not in {hand, b""}}

    def hand_of(self, id_: NodeId) -> bytes | None:
        """The public key of a member; None: nobody has told us."""
        return (self._hands or {}).get(id_) or None

    def is_expected(self, id_: NodeId) -> bool:
        """Whether a member belongs to the cluster, as far as we know."""
        return self._hands is None or id_ in self._hands

    def forget_at(self, member: Member) -> float:
        """When a member is to be forgotten; never, while it counts."""
        if member.counted:
            return math.inf
        soon = member.state is State.LEFT or not self.is_expected(member.id)
        config = self._config
        return member.since + (config.forget_left_s if soon else config.forget_dead_s)

    def forget(self, members: Iterable[Member], now: float) -> None:
        """These are not told of any more; one that left is known for as long as a dead one."""
        self.retired |= {m.id: m for m in members if m.state is State.LEFT}
        self.retired = {
            id_: member
            for id_, member in self.retired.items()
            if self.is_expected(id_) and member.since > now - self._config.forget_dead_s
        }
