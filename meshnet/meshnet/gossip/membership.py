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
from meshnet.gossip.messages import NUMBER_MAX, Alive, Dead, Message, Restarting, Row, Suspect
from meshnet.gossip.refusals import Refusals
from meshnet.gossip.suspicion import remaining_suspicion_s, retransmit_limit, suspicion_bounds_s
from meshnet.gossip.timers import Timers
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
        timers: ``suspicion`` and ``restart`` deadlines are armed here.
        refusals: counts what is not taken.
    """

    def __init__(
        self,
        config: GossipConfig,
        me: Member,
        rng: Rng,
        outbox: Outbox,
        events: deque[Event],
        timers: Timers,
        refusals: Refusals,
    ) -> None:
        self._config = config
        self._self_id = me.id
        self._rng = rng
        self._outbox = outbox
        self._events = events
        self._timers = timers
        self._refusals = refusals
        self._news: dict[NodeId, tuple[bytes, int]] = {}
        self._at: dict[Address, NodeId] = {}
        self._suspected: dict[NodeId, float] = {}
        self._unreached: set[NodeId] = set()
        self._counted: list[NodeId] | None = None
        self._slept_s = 0.0
        self._fingerprint: int | None = None
        self.changes = 0
        """Grows whenever a member is new, changed or forgotten."""
        self.all: dict[NodeId, Member] = {}
        self._set(me)
        self.health = 0
        """Local health score (Lifeguard): 0 is well; it stretches our own timeouts."""

    @property
    def me(self) -> Member:
        """This node's own entry."""
        return self.all[self._self_id]

    def peers(self) -> list[Member]:
        """Members that can be talked to, without this node."""
        return [m for m in self.all.values() if m.present and m.id != self._self_id]

    def counted(self) -> list[NodeId]:
        """Members whose records count, this node included; not to be changed."""
        if self._counted is None:
            self._counted = [m.id for m in self.all.values() if m.counted]
        return self._counted

    def at(self, address: Address) -> Member | None:
        """The member that receives at ``address``."""
        id_ = self._at.get(address)
        return self.all.get(id_) if id_ is not None else None

    def sample(self, count: int) -> list[Member]:
        """``count`` peers at random, or all of them in random order."""
        peers = self.peers()
        for i in range(min(count, len(peers))):
            j = i + int(self._rng.random() * (len(peers) - i))
            peers[i], peers[j] = peers[j], peers[i]
        return peers[:count]

    def fingerprint(self) -> int:
        """A number that is equal on two nodes when they believe that the same take part."""
        if self._fingerprint is None:
            rows = sorted(f"{m.id} {m.incarnation}" for m in self.all.values() if m.counted)
            self._fingerprint = zlib.crc32("\n".join(rows).encode())
        return self._fingerprint

    def rows(self, now: float) -> list[Row]:
        """Every member as the row of a sync message."""
        return [
            Row(m.id, m.address, m.incarnation, m.state, int(max(0.0, now - m.since)) + 1)
            for m in self.all.values()
        ]

    # ---- what others say ----

    def heard_alive(self, id_: NodeId, address: Address, incarnation: int, now: float) -> None:
        """A member is alive at an address."""
        if id_ == self._self_id:
            me = self.me
            moved = incarnation == me.incarnation and address != me.address
            if incarnation > me.incarnation or moved:
                self._refute(incarnation, now)
            return
        if id_ not in self.all and len(self.all) >= self._config.members_max:
            self._refusals.count("too many members")
            return
        self._became(swim.alive(self.all.get(id_), id_, address, incarnation, now), now)

    def heard_suspect(self, id_: NodeId, incarnation: int, accuser: NodeId, now: float) -> None:
        """Somebody suspects a member."""
        if id_ == self._self_id:
            self._refute(incarnation, now)
            return
        known = self.all.get(id_)
        if (
            known is not None
            and known.state is State.SUSPECT
            and known.incarnation == incarnation
            and (accuser not in self.all or len(known.accusers) > self._wanted())
        ):
            return  # a stranger confirms nothing, and enough is enough
        self._became(swim.suspect(known, incarnation, accuser, now), now)

    def heard_dead(self, id_: NodeId, incarnation: int, accuser: NodeId, now: float) -> None:
        """Somebody declares a member dead; the member itself: it left."""
        if id_ == self._self_id:
            self._refute(incarnation, now)
            return
        self._became(swim.dead(self.all.get(id_), incarnation, accuser, now), now)

    def heard_restarting(self, id_: NodeId, incarnation: int, now: float) -> None:
        """A member announced its restart; said of us, it is what our last process said."""
        if id_ == self._self_id:
            self._refute(incarnation, now)
            return
        self._became(swim.restarting(self.all.get(id_), incarnation, now), now)

    def heard_rows(self, rows: Iterable[Row], sender: NodeId, now: float) -> None:
        """Members as a peer believes them.

        A dead one that we do not know is remembered as dead, so that its last records have an
        owner; for no longer than it would have been had we been there, or it were never forgotten.
        """
        for row in rows:
            if row.state is State.DEAD or row.state is State.LEFT:
                if row.id not in self.all:
                    self._heard_of_dead(row, now)
                    continue
            else:
                self.heard_alive(row.id, row.address, row.incarnation, now)
            if row.state is State.LEFT:
                self.heard_dead(row.id, row.incarnation, row.id, now)
            elif row.state is State.RESTARTING:
                self.heard_restarting(row.id, row.incarnation, now)
            elif row.state is not State.ALIVE:
                # Hearsay of a death is only a suspicion: the member may refute.
                self.heard_suspect(row.id, row.incarnation, sender, now)

    # ---- what we find out ----

    def accuse(self, member: Member, now: float) -> None:
        """We could not reach ``member``."""
        self._became(swim.suspect(member, member.incarnation, self._self_id, now), now)

    def reach(self, member: Member, *, direct: bool) -> None:
        """What we found out: whether we reach ``member`` ourselves."""
        if member.direct is not direct:
            self._set(replace(member, direct=direct))
            self._events.append(MemberChanged(self.all[member.id]))

    def unreached(self) -> list[NodeId]:
        """Members that others reach and we do not, ascending."""
        return sorted(self._unreached)

    def overslept(self, late_s: float) -> None:
        """We were not there for a time: it counts against nobody but us."""
        self._slept_s += late_s
        level = min(self._config.health_max, int(late_s / self._config.probe_timeout_s))
        self.health = max(self.health, level)

    def restart_due(self, subject: str, now: float) -> None:
        """The deadline of a restart: the member is given up unless it is back."""
        id_, _, incarnation = subject.partition(" ")
        self._became(swim.given_up(self.all.get(NodeId(id_)), int(incarnation), now), now)

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
        self._tell_all(Dead(self._self_id, self.me.incarnation, self._self_id))

    def announce_restart(self, now: float) -> None:
        """Our process ends and another will come; everybody is told once, directly."""
        me = self.me
        if me.state is State.ALIVE:
            mine = me.incarnation + 1
            self._set(replace(me, incarnation=mine, state=State.RESTARTING, since=now))
            self._tell_all(Restarting(self._self_id, mine))

    def forget(self, before: float) -> list[NodeId]:
        """Drops members that are dead or gone since before ``before``; returns who."""
        old = [
            m
            for m in self.all.values()
            if not m.counted and m.since < before and m.id != self._self_id
        ]
        for member in old:
            del self.all[member.id]
            if self._at.get(member.address) == member.id:
                del self._at[member.address]
            self._news.pop(member.id, None)
            self._suspected.pop(member.id, None)
        self._changed()
        return [member.id for member in old]

    def riders(self, room: int) -> list[bytes]:
        """News that still has retransmissions left and fits into ``room`` bytes."""
        limit = retransmit_limit(len(self.all), self._config.retransmit_mult)
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

    # ---- inside ----

    def _heard_of_dead(self, row: Row, now: float) -> None:
        if row.age_s >= self._config.forget_dead_s:
            return
        if len(self.all) >= self._config.members_max:
            self._refusals.count("too many members")
            return
        member = Member(row.id, row.address, row.incarnation, row.state, now - row.age_s)
        self._set(member)
        self._events.append(MemberChanged(member))

    def unwell(self) -> None:
        """One more sign that it is us who are slow."""
        self.health = min(self._config.health_max, self.health + 1)

    def _refute(self, incarnation: int, now: float) -> None:
        me = self.me
        if me.state is not State.ALIVE or incarnation < me.incarnation:
            return
        self.unwell()
        self._set(replace(me, incarnation=min(incarnation + 1, NUMBER_MAX), since=now))
        self._spread(self.me)

    def _became(self, member: Member | None, now: float) -> None:
        if member is None:
            return
        before = self.all.get(member.id)
        if member.state is State.SUSPECT:
            if (
                before is None
                or before.state is not State.SUSPECT
                or before.incarnation != member.incarnation
            ):
                self._suspected[member.id] = now - self._slept_s
            self._arm_suspicion(member, now)
        elif member.state is State.RESTARTING:
            subject = f"{member.id} {member.incarnation}"
            self._timers.arm(now + self._config.restart_s, "restart", subject)
        self._set(member)
        self._spread(member)
        if before is None or before.state is not member.state or before.address != member.address:
            self._events.append(MemberChanged(member))

    def _set(self, member: Member) -> None:
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
        self._changed()

    def _changed(self) -> None:
        self.changes += 1
        self._fingerprint = self._counted = None

    def _tell_all(self, message: Message) -> None:
        self._outbox.extend((member.address, message) for member in self.peers())

    def _spread(self, member: Member) -> None:
        message: Message
        if member.state is State.ALIVE:
            message = Alive(member.id, member.address, member.incarnation)
        elif member.state is State.RESTARTING:
            message = Restarting(member.id, member.incarnation)
        elif member.state is State.SUSPECT:
            mine = self._self_id in member.accusers
            accuser = self._self_id if mine else min(member.accusers)
            message = Suspect(member.id, member.incarnation, accuser)
        else:
            accuser = member.id if member.state is State.LEFT else self._self_id
            message = Dead(member.id, member.incarnation, accuser)
        self._news[member.id] = (wire.encode(message), 0)
        self._outbox.extend(
            (peer.address, message) for peer in self.sample(self._config.gossip_fanout)
        )

    def _arm_suspicion(self, member: Member, now: float) -> None:
        when = now + max(_INSTANT_S, self._suspicion_left_s(member, now))
        self._timers.arm(when, "suspicion", f"{member.id} {member.incarnation}")

    def _suspicion_left_s(self, member: Member, now: float) -> float:
        config = self._config
        low, high = suspicion_bounds_s(
            self._size(), config.probe_interval_s, config.suspicion_mult, config.suspicion_max_mult
        )
        elapsed = now - self._slept_s - self._suspected[member.id]
        return remaining_suspicion_s(len(member.accusers) - 1, self._wanted(), elapsed, low, high)

    def _wanted(self) -> int:
        return max(0, min(self._config.indirect_probes, self._size() - 3))

    def _size(self) -> int:
        return sum(1 for m in self.all.values() if m.present)
