"""Who is known, by id, by address, by bucket, and some at random."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

from meshnet.gossip.members import Address, Member
from meshnet.gossip.sums import Sums, bucket_of
from meshnet.model.ids import NodeId, Rng


class Roster:
    """Members, and what is looked up of them often.

    Args:
        self_id: this node.
        rng: picks members.
    """

    def __init__(self, self_id: NodeId, rng: Rng) -> None:
        self._self_id = self_id
        self._rng = rng
        self._at: dict[Address, NodeId] = {}
        self._unreached: set[NodeId] = set()
        self._counted: list[NodeId] | None = None
        self._peers: list[Member] | None = None
        self.sums = Sums()
        """Fingerprints of who takes part."""
        self.changes = 0
        """Grows whenever a member is new, changed or forgotten."""
        self.all: dict[NodeId, Member] = {}

    @property
    def me(self) -> Member:
        """This node's own entry."""
        return self.all[self._self_id]

    def peers(self) -> Sequence[Member]:
        """Members that can be talked to, without this node; not to be changed."""
        if self._peers is None:
            self._peers = [m for m in self.all.values() if m.present and m.id != self._self_id]
        return self._peers

    def counted(self) -> list[NodeId]:
        """Members whose records count, this node included; not to be changed."""
        if self._counted is None:
            self._counted = [m.id for m in self.all.values() if m.counted]
        return self._counted

    def at(self, address: Address) -> Member | None:
        """The member that receives at ``address``."""
        id_ = self._at.get(address)
        return self.all.get(id_) if id_ is not None else None

    def sample(self, count: int, among: Iterable[NodeId] | None = None) -> list[Member]:
        """``count`` peers at random, or all of them in random order.

        Args:
            count: how many.
            among: whom to take them of; None: of all.
        """
        peers = self.peers()
        if among is not None:
            found = [self.all[id_] for id_ in sorted(among) if id_ in self.all]
            peers = [each for each in found if each.present and each.id != self._self_id]
        if 2 * count < len(peers):
            chosen: dict[int, Member] = {}
            while len(chosen) < count:
                place = int(self._rng.random() * len(peers))
                chosen[place] = peers[place]
            return list(chosen.values())
        some = list(peers)
        for i in range(min(count, len(some))):
            j = i + int(self._rng.random() * (len(some) - i))
            some[i], some[j] = some[j], some[i]
        return some[:count]

    def fingerprint(self) -> int:
        """A number that is equal on two nodes when they believe that the same take part."""
        return self.sums.whole

    def within(self, buckets: Set[int]) -> list[NodeId]:
        """Members that are spoken of and fall into one of these buckets."""
        return [id_ for id_ in self.all if bucket_of(id_) in buckets]

    def unreached(self) -> list[NodeId]:
        """Members that others reach and we do not, ascending."""
        return sorted(self._unreached)

    def size(self) -> int:
        """Members that can be talked to, this node included."""
        return sum(1 for m in self.all.values() if m.present)

    def keep(self, member: Member) -> None:
        """A member is this one now."""
        before = self.all.get(member.id)
        if before is not None and self._at.get(before.address) == before.id:
            del self._at[before.address]
        if member.present or member.address not in self._at:
            self._at[member.address] = member.id
        if member.present and not member.direct:
            self._unreached.add(member.id)
        else:
            self._unreached.discard(member.id)
        self.all[member.id] = member
        self.sums.set(member.id, str(member.incarnation) if member.counted else None)
        self._changed()

    def drop(self, member: Member) -> None:
        """A member is known no more."""
        del self.all[member.id]
        self.sums.set(member.id, None)
        if self._at.get(member.address) == member.id:
            del self._at[member.address]
        self._unreached.discard(member.id)
        self._changed()

    def _changed(self) -> None:
        self.changes += 1
        self._peers = self._counted = None
