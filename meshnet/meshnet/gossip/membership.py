"""The list of members, and what others say of it.

Transitions are decided in ``members.py``; this file remembers them, spreads them and refutes what
others say of us. What a member says of itself counts when it is in its own hand and the managers
have told us that hand (``expect``); what others say of it, when they are members. Suspicions that
run out are declared here too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Set
from dataclasses import replace

from meshnet.gossip import members as swim
from meshnet.gossip import news
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.departed import Departed
from meshnet.gossip.doubts import Doubts
from meshnet.gossip.events import Event, MemberChanged
from meshnet.gossip.members import Address, Member, State, Word
from meshnet.gossip.messages import NUMBER_MAX, Message, Row
from meshnet.gossip.news import News, Outbox
from meshnet.gossip.refusals import Refusals
from meshnet.gossip.roster import Roster
from meshnet.gossip.signing import Signer
from meshnet.gossip.timers import Timers
from meshnet.model.ids import NodeId, Rng

__all__ = ["Membership", "Outbox"]

STRANGER = "word of a node that the managers do not name"
FORGED = "word that its node did not sign"
_NEVER = -1
"""Below every incarnation."""
_INSTANT_S = 0.001
"""Deadlines are not finer than this: a wait lost in the rounding of ``now`` must not spin."""


class Membership(Roster):
    """Who takes part, as this node believes.

    Args:
        config: timing and sizes.
        me: this node's first word.
        signer: its hand.
        now: the caller's clock.
        rng: picks the members that news is sent to.
        outbox: where messages go.
        events: where changes are told.
        timers: ``suspicion``, ``restart`` and ``forget`` deadlines are armed here.
        refusals: counts what is not taken.
    """

    def __init__(
        self,
        config: GossipConfig,
        me: Word,
        signer: Signer,
        now: float,
        rng: Rng,
        outbox: Outbox,
        events: deque[Event],
        timers: Timers,
        refusals: Refusals,
    ) -> None:
        self._config = config
        self._signer = signer
        super().__init__(me.id, rng)
        self._outbox = outbox
        self._events = events
        self._timers = timers
        self._refusals = refusals
        self._news = News(config)
        self._departed = Departed(config)
        self._disowned: set[NodeId] = set()
        """Members whose last word is in a hand that is theirs no more."""
        self.doubts = Doubts(config)
        self.accused: list[NodeId] = []
        """Whom others began to suspect; whoever verifies it empties the list."""
        self.keep(swim.first(me, now))

    # ---- views ----

    def views(self) -> dict[NodeId, Member]:
        """Every member known, those included that left and are not told of any more."""
        return {**self._departed.retired, **self.all}

    def gone(self) -> set[Address]:
        """Where members may be back, and nobody else is now."""
        away = {
            m.address
            for m in self.all.values()
            if m.state in {State.DEAD, State.RESTARTING} and self._departed.is_expected(m.id)
        }
        return away - {m.address for m in self.peers()} - {self.me.address}

    def hand_of(self, member: NodeId) -> bytes | None:
        """The public key of a member, by the managers' word; None: they do not name it (any more).

        Our own is ours to know.
        """
        return self._signer.public if member == self._self_id else self._departed.hand_of(member)

    def rows(self, members: Iterable[NodeId], now: float) -> list[Row]:
        """These members as rows of a sync message."""
        return [
            Row(m.word, m.state, int(max(0.0, now - m.since)) + 1)
            for m in map(self.all.__getitem__, members)
        ]

    def riders(self, room: int) -> list[bytes]:
        """News that still has retransmissions left and fits into ``room`` bytes."""
        return self._news.riders(room, len(self.all))

    # ---- what others say ----

    def heard_word(self, word: Word, peer: Address, now: float) -> None:
        """What a member says of itself, from itself or passed on by ``peer``."""
        if word.id == self._self_id:
            self._heard_of_me(word, peer, now)
            return
        known = self.all.get(word.id)
        if known is not None and word.id in self._disowned:  # its incarnation was another hand's
            known = replace(known, incarnation=_NEVER)
        after = swim.spoke(known, word, now)
        if after is None or not self._is_genuine(word, peer):
            return
        if known is None and len(self.all) >= self._config.members_max:
            self._refusals.count("too many members")
            return
        self._disowned.discard(word.id)
        self._became(after, now)

    def heard_suspect(self, id_: NodeId, incarnation: int, accuser: NodeId, now: float) -> None:
        """Somebody suspects a member."""
        if id_ == self._self_id:
            self._accused_me(incarnation, now)
            return
        known = self.all.get(id_)
        if not self._may_accuse(accuser):
            return  # a stranger confirms nothing
        if (
            known is not None
            and known.state is State.SUSPECT
            and len(known.accusers) > self.doubts.wanted(self.size())
        ):
            return  # enough is enough
        self._became(swim.suspect(known, incarnation, accuser, now), now)

    def heard_dead(self, id_: NodeId, incarnation: int, accuser: NodeId, now: float) -> None:
        """Somebody declares a member dead."""
        if id_ == self._self_id:
            self._accused_me(incarnation, now)
        elif self._may_accuse(accuser):
            self._became(swim.dead(self.all.get(id_), incarnation, now), now)

    def heard_rows(self, rows: Iterable[Row], sender: NodeId, peer: Address, now: float) -> None:
        """Members as a peer believes them, each with its own word.

        A dead one that we do not know is remembered as dead, so that its last records have an
        owner, if it is expected back; for no longer than it would have been had we been there, or
        it were never forgotten.
        """
        for row in rows:
            word = row.word
            is_gone = row.state is State.DEAD or row.state is State.LEFT
            if is_gone and word.id not in self.all:
                self._heard_of_dead(row, peer, now)
                continue
            self.heard_word(word, peer, now)
            if row.state is State.DEAD and word.said is State.RESTARTING:
                self._became(swim.given_up(self.all.get(word.id), word.incarnation, now), now)
            elif row.state is State.DEAD or row.state is State.SUSPECT:
                # Hearsay of a death is only a suspicion: the member may refute.
                self.heard_suspect(word.id, word.incarnation, sender, now)

    # ---- what we find out ----

    def accuse(self, member: Member, now: float) -> None:
        """We could not reach ``member``."""
        self._became(swim.suspect(member, member.incarnation, self._self_id, now), now)

    def reach(self, member: Member, *, direct: bool) -> None:
        """What we found out: whether we reach ``member`` ourselves."""
        if member.direct is not direct:
            self._keep(replace(member, direct=direct))
            self._events.append(MemberChanged(self.all[member.id]))

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
        if self.doubts.left_s(member, now, self.size()) > _INSTANT_S:
            self._arm_suspicion(member, now)
            return
        self._became(swim.dead(member, member.incarnation, now), now)

    def leave(self, now: float) -> None:
        """We go; everybody is told once, directly."""
        self._say(State.LEFT, self.me.incarnation, now)
        self._tell_all(self.me.word)

    def announce_restart(self, now: float) -> None:
        """Our process ends and another will come; everybody is told once, directly."""
        if self.me.state is State.ALIVE:
            self._say(State.RESTARTING, self.me.incarnation + 1, now)
            self._tell_all(self.me.word)

    def expect(self, hands: Mapping[NodeId, bytes], now: float) -> Set[NodeId]:
        """Who belongs to the cluster, dead or not, and the public key of each.

        Who does not has left, whatever it says; a dead one that does not is forgotten soon.

        Returns:
            Others that have another key than before: they have lost the one that they had, and with
            it the count of what they said.
        """
        renewed = self._departed.expect(hands) - {self._self_id}
        self._disowned |= renewed & self.all.keys()
        for member in list(self.all.values()):
            if member.id == self._self_id:
                continue
            if member.counted and not self._departed.is_expected(member.id):
                self._news.forget(member.id)
                self._keep(swim.removed(member, now))
                self._events.append(MemberChanged(self.all[member.id]))
            self._arm_forget(self.all[member.id], now)
        return renewed

    def forget_due(self, now: float) -> list[NodeId]:
        """Drops members that are gone for long enough; returns whose records are to be dropped.

        One that left and still belongs to the cluster is remembered for as long as a dead one would
        be, and told to nobody.
        """
        others = (m for m in self.all.values() if m.id != self._self_id)
        old = [m for m in others if self._departed.forget_at(m) <= now + _INSTANT_S]
        for member in old:
            self.drop(member)
            self._news.forget(member.id)
            self.doubts.forget(member.id)
            self._disowned.discard(member.id)
        self._departed.forget(old, now)
        return [member.id for member in old]

    # ---- inside ----

    def _is_genuine(self, word: Word, peer: Address) -> bool:
        hand = self.hand_of(word.id)
        if hand is None:
            self._refusals.count(STRANGER)
            return False
        if not word.holds(hand):
            self._refusals.name(FORGED, peer)
            return False
        return True

    def _may_accuse(self, accuser: NodeId) -> bool:
        """Whom we accuse we know ourselves."""
        known = accuser in self.all and self.hand_of(accuser) is not None
        if not known:
            self._refusals.count("accusation by nobody we know")
        return known and accuser != self._self_id

    def _heard_of_me(self, word: Word, peer: Address, now: float) -> None:
        """What an earlier process of ours said, or that somebody says it did."""
        me = self.me
        same = word.incarnation == me.incarnation
        differs = word.address != me.address or word.said is not State.ALIVE
        is_news = word.incarnation > me.incarnation or (same and differs)
        if is_news and me.state is State.ALIVE and self._is_genuine(word, peer):
            self._refute(word.incarnation, now)

    def _accused_me(self, incarnation: int, now: float) -> None:
        """Of an incarnation that we do not know we hear by our own word, or not at all."""
        if incarnation == self.me.incarnation and self.me.state is State.ALIVE:
            self._refute(incarnation, now)

    def _heard_of_dead(self, row: Row, peer: Address, now: float) -> None:
        word = row.word
        member = replace(
            Member(word.id, word.address, word.incarnation, row.state, now - row.age_s),
            said=word.said,
            signature=word.signature,
        )
        if word.id in self._departed.retired or self._departed.forget_at(member) <= now:
            return
        if self.hand_of(word.id) is None:
            return  # it has been removed, and whoever tells us of it forgets it soon
        if not self._is_genuine(word, peer):
            return
        if len(self.all) >= self._config.members_max:
            self._refusals.count("too many members")
            return
        self._keep(member)
        self._arm_forget(member, now)
        self._events.append(MemberChanged(member))

    def _refute(self, incarnation: int, now: float) -> None:
        self.doubts.unwell()
        self._say(State.ALIVE, min(incarnation + 1, NUMBER_MAX), now)
        self._spread(self.me)

    def _say(self, said: State, incarnation: int, now: float) -> None:
        me = self.me
        word = Word.of(self._signer, me.id, me.address, incarnation, said)
        signature = word.signature
        self._keep(
            replace(
                me, incarnation=incarnation, state=said, since=now, said=said, signature=signature
            )
        )

    def _keep(self, member: Member) -> None:
        self._departed.retired.pop(member.id, None)
        self.keep(member)

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
                self.doubts.begin(member.id, now)
                if self._self_id not in member.accusers:
                    self.accused.append(member.id)
            self._arm_suspicion(member, now)
        elif member.state is State.RESTARTING:
            subject = f"{member.id} {member.incarnation}"
            self._timers.arm(now + self._config.restart_s, "restart", subject)
        self._keep(member)
        self._spread(member)
        self._arm_forget(member, now)
        if before is None or before.state is not member.state or before.address != member.address:
            self._events.append(MemberChanged(member))

    def _tell_all(self, message: Message) -> None:
        self._outbox.extend((member.address, message) for member in self.peers())

    def _spread(self, member: Member) -> None:
        message = news.of(member, self._self_id)
        self._news.add(member.id, message)
        self._outbox.extend(
            (peer.address, message) for peer in self.sample(self._config.gossip_fanout)
        )

    def _arm_forget(self, member: Member, now: float) -> None:
        """Those who know of it forget it at once: while they differ, they talk about it."""
        when = self._departed.forget_at(member)
        if when - now <= self._config.forget_left_s + _INSTANT_S:
            self._timers.arm(max(now, when), "forget")

    def _arm_suspicion(self, member: Member, now: float) -> None:
        left_s = self.doubts.left_s(member, now, self.size())
        when = now + max(_INSTANT_S, left_s)
        self._timers.arm(when, "suspicion", f"{member.id} {member.incarnation}")
