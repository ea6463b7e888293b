"""The list of members and the news about it that rides on packets.

Transitions are decided in ``members.py``; this file remembers them, spreads them and refutes what
others say of us. Suspicions that run out are declared here too.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from meshnet.gossip import members as swim
from meshnet.gossip import wire
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.events import Event, MemberChanged
from meshnet.gossip.members import Address, Member, State
from meshnet.gossip.suspicion import remaining_suspicion_s, retransmit_limit, suspicion_bounds_s
from meshnet.gossip.timers import Timers
from meshnet.gossip.wire import Message
from meshnet.model.ids import NodeId, Rng

Outbox = deque[tuple[Address, Message]]
"""Messages waiting to be packed and sealed."""
_INSTANT_S = 0.001
"""Deadlines are not finer than this: a wait lost in the rounding of ``now`` must not spin."""


class Membership:
    """Who takes part, as this node believes.

    Args:
        config: timing and sizes.
        me: this node.
        rng: picks the members that news is sent to.
        outbox: where messages go.
        events: where changes are told.
        timers: suspicions arm ``suspicion`` deadlines here.
    """

    def __init__(
        self,
        config: GossipConfig,
        me: Member,
        rng: Rng,
        outbox: Outbox,
        events: deque[Event],
        timers: Timers,
    ) -> None:
        self._config = config
        self._self_id = me.id
        self._rng = rng
        self._outbox = outbox
        self._events = events
        self._timers = timers
        self._news: dict[NodeId, tuple[Message, int]] = {}
        self.all: dict[NodeId, Member] = {me.id: me}
        self._fingerprint: int | None = None
        self.health = 0
        """Local health score (Lifeguard): 0 is well; it stretches our own timeouts."""

    @property
    def me(self) -> Member:
        """This node's own entry."""
        return self.all[self._self_id]

    def peers(self) -> list[Member]:
        """Members that take part, without this node."""
        return [m for m in self.all.values() if m.counted and m.id != self._self_id]

    def at(self, address: Address) -> Member | None:
        """The member that receives at ``address``."""
        return next((m for m in self.all.values() if m.address == address), None)

    def sample(self, count: int) -> list[Member]:
        """``count`` peers at random, or all of them in random order."""
        peers = self.peers()
        for i in range(min(count, len(peers))):
            j = i + int(self._rng.random() * (len(peers) - i))
            peers[i], peers[j] = peers[j], peers[i]
        return peers[:count]

    def fingerprint(self) -> int:
        """A number that is equal on two nodes when they believe the same (suspicions aside)."""
        if self._fingerprint is None:
            rows = sorted(f"{m.id} {m.incarnation} {m.counted}" for m in self.all.values())
            self._fingerprint = zlib.crc32("\n".join(rows).encode())
        return self._fingerprint

    def rows(self) -> list[list[object]]:
        """Every member as the row of a sync message."""
        return [[m.id, *m.address, m.incarnation, m.state.value] for m in self.all.values()]

    # ---- what others say ----

    def heard_alive(self, id_: NodeId, address: Address, incarnation: int, now: float) -> None:
        """A member is alive at an address."""
        if id_ == self._self_id:
            me = self.me
            moved = incarnation == me.incarnation and address != me.address
            if incarnation > me.incarnation or moved:
                self._refute(incarnation, now)
            return
        self._became(swim.alive(self.all.get(id_), id_, address, incarnation, now), now)

    def heard_suspect(self, id_: NodeId, incarnation: int, accuser: NodeId, now: float) -> None:
        """Somebody suspects a member."""
        if id_ == self._self_id:
            self._refute(incarnation, now)
            return
        self._became(swim.suspect(self.all.get(id_), incarnation, accuser, now), now)

    def heard_dead(self, id_: NodeId, incarnation: int, accuser: NodeId, now: float) -> None:
        """Somebody declares a member dead; the member itself: it left."""
        if id_ == self._self_id:
            self._refute(incarnation, now)
            return
        self._became(swim.dead(self.all.get(id_), incarnation, accuser, now), now)

    def heard_rows(self, rows: Iterable[list[object]], sender: NodeId, now: float) -> None:
        """The member list of a peer.

        Raises:
            ValueError, TypeError: a malformed row; the rows before it were taken in.
        """
        for id_, host, port, incarnation, state in rows:
            member = Member(
                NodeId(str(id_)),
                (str(host), int(str(port))),
                int(str(incarnation)),
                State(state),
                now,
            )
            if not member.counted and member.id not in self.all:
                self._became(member, now)
                continue
            if member.counted:
                self.heard_alive(member.id, member.address, member.incarnation, now)
            if member.state is State.LEFT:
                self.heard_dead(member.id, member.incarnation, member.id, now)
            elif member.state is not State.ALIVE:
                # Hearsay of a death is only a suspicion: the member may refute.
                self.heard_suspect(member.id, member.incarnation, sender, now)

    # ---- what we find out ----

    def accuse(self, member: Member, now: float) -> None:
        """We could not reach ``member``."""
        self._became(swim.suspect(member, member.incarnation, self._self_id, now), now)

    def suspicion_due(self, subject: str, now: float) -> None:
        """The deadline of a suspicion: declares the member dead unless it refuted or has time."""
        id_, _, incarnation = subject.partition(" ")
        member = self.all.get(NodeId(id_))
        if (
            member is None
            or member.state is not State.SUSPECT
            or member.incarnation != int(incarnation)
        ):
            return
        if self._suspicion_left_s(member, now) > _INSTANT_S:
            self._arm_suspicion(member, now)
            return
        self._became(swim.dead(member, member.incarnation, self._self_id, now), now)

    def leave(self, now: float) -> None:
        """We go; everybody is told once, directly."""
        self._set(replace(self.me, state=State.LEFT, since=now))
        message: Message = [wire.DEAD, self._self_id, self.me.incarnation, self._self_id]
        self._outbox.extend((member.address, message) for member in self.peers())

    def forget(self, before: float) -> list[NodeId]:
        """Drops members that are dead or gone since before ``before``; returns who."""
        old = [m.id for m in self.all.values() if not m.counted and m.since < before]
        for id_ in old:
            if id_ != self._self_id:
                del self.all[id_]
        self._fingerprint = None
        return old

    def riders(self, room: int) -> list[Message]:
        """News that still has retransmissions left and fits into ``room`` bytes."""
        limit = retransmit_limit(len(self.all), self._config.retransmit_mult)
        taken: list[Message] = []
        for id_, (message, sent) in sorted(self._news.items(), key=lambda item: item[1][1]):
            room -= wire.size_of(message)
            if room < 0:
                break
            taken.append(message)
            if sent + 1 >= limit:
                del self._news[id_]
            else:
                self._news[id_] = (message, sent + 1)
        return taken

    # ---- inside ----

    def unwell(self) -> None:
        """One more sign that it is us who are slow."""
        self.health = min(self._config.health_max, self.health + 1)

    def _refute(self, incarnation: int, now: float) -> None:
        me = self.me
        if me.state is State.LEFT or incarnation < me.incarnation:
            return
        self.unwell()
        self._set(replace(me, incarnation=incarnation + 1, since=now))
        self._spread(self.me)

    def _became(self, member: Member | None, now: float) -> None:
        if member is None:
            return
        before = self.all.get(member.id)
        self._set(member)
        if member.state is State.SUSPECT:
            self._arm_suspicion(member, now)
        self._spread(member)
        if before is None or before.state is not member.state or before.address != member.address:
            self._events.append(MemberChanged(member))

    def _set(self, member: Member) -> None:
        self.all[member.id] = member
        self._fingerprint = None

    def _spread(self, member: Member) -> None:
        message: Message
        if member.state is State.ALIVE:
            message = [wire.ALIVE, member.id, *member.address, member.incarnation]
        elif member.state is State.SUSPECT:
            mine = self._self_id in member.accusers
            accuser = self._self_id if mine else min(member.accusers)
            message = [wire.SUSPECT, member.id, member.incarnation, accuser]
        else:
            accuser = member.id if member.state is State.LEFT else self._self_id
            message = [wire.DEAD, member.id, member.incarnation, accuser]
        self._news[member.id] = (message, 0)
        self._outbox.extend(
            (peer.address, message) for peer in self.sample(self._config.gossip_fanout)
        )

    def _arm_suspicion(self, member: Member, now: float) -> None:
        when = now + max(_INSTANT_S, self._suspicion_left_s(member, now))
        self._timers.arm(when, "suspicion", f"{member.id} {member.incarnation}")

    def _suspicion_left_s(self, member: Member, now: float) -> float:
        count = sum(1 for m in self.all.values() if m.counted)
        config = self._config
        low, high = suspicion_bounds_s(
            count, config.probe_interval_s, config.suspicion_mult, config.suspicion_max_mult
        )
        wanted = max(0, min(config.indirect_probes, count - 3))
        elapsed = now - member.since
        return remaining_suspicion_s(len(member.accusers) - 1, wanted, elapsed, low, high)
