"""News of members: told to some at once, and riding on every packet some times more."""

from __future__ import annotations

from collections import deque

from meshnet.gossip import wire
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.members import Address, Member, State
from meshnet.gossip.messages import Dead, Message, Suspect
from meshnet.gossip.suspicion import retransmit_limit
from meshnet.model.ids import NodeId

Outbox = deque[tuple[Address, Message]]
"""Messages waiting to be packed and sealed."""


def of(member: Member, teller: NodeId) -> Message:
    """What there is to say of a member; whatever it said itself is passed on in its own hand."""
    if member.state is State.SUSPECT:
        accuser = teller if teller in member.accusers else min(member.accusers)
        return Suspect(member.id, member.incarnation, accuser)
    if member.state is State.DEAD:
        return Dead(member.id, member.incarnation, teller)
    return member.word


class News:
    """What still has to ride.

    Args:
        config: how often.
    """

    def __init__(self, config: GossipConfig) -> None:
        self._config = config
        self._news: dict[NodeId, tuple[bytes, int]] = {}

    def add(self, member: NodeId, message: Message) -> None:
        """The newest of a member; it takes the place of what was said of it before."""
        self._news[member] = (wire.encode(message), 0)

    def forget(self, member: NodeId) -> None:
        """Nothing more is to be said of it."""
        self._news.pop(member, None)

    def riders(self, room: int, members: int) -> list[bytes]:
        """News that still has retransmissions left and fits into ``room`` bytes.

        Args:
            room: bytes.
            members: how many there are.
        """
        limit = retransmit_limit(members, self._config.retransmit_mult)
        taken: list[bytes] = []
        for id_, (message, sent) in sorted(self._news.items(), key=lambda item: item[1][1]):
            room -= len(message)
            if room < 0:
                break
            taken.append(message)
            if sent + 1 >= limit:
                del self._news[id_]
            else:
                self._news[id_] = (message, sent + 1)
        return taken
