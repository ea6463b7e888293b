"""To whom each message of a datagram goes."""

from __future__ import annotations

from meshnet.gossip.acknowledgements import Acknowledgements
from meshnet.gossip.anti_entropy import AntiEntropy
from meshnet.gossip.members import Address, State, Word
from meshnet.gossip.membership import Membership
from meshnet.gossip.messages import (
    Ack,
    Applied,
    Ask,
    Buckets,
    Dead,
    DigestMessage,
    Message,
    Nack,
    Ping,
    PingReq,
    RelayedAck,
    Summary,
    Suspect,
)
from meshnet.gossip.news import Outbox
from meshnet.gossip.prober import Prober
from meshnet.gossip.records import Delta
from meshnet.gossip.refusals import Refusals
from meshnet.model.ids import NodeId


class Hearing:
    """The parts of one engine, as who receives sees them."""

    def __init__(
        self,
        membership: Membership,
        prober: Prober,
        entropy: AntiEntropy,
        acknowledgements: Acknowledgements,
        outbox: Outbox,
        refusals: Refusals,
    ) -> None:
        self._membership = membership
        self._prober = prober
        self._entropy = entropy
        self._acknowledgements = acknowledgements
        self._outbox = outbox
        self._refusals = refusals

    def take(self, message: Message, peer: Address, now: float) -> None:  # noqa: PLR0912 - a table
        """What a datagram says."""
        match message:
            case Ping(sequence, target):
                if target == self._membership.me.id:
                    self._outbox.append((peer, Ack(sequence)))
            case PingReq(sequence, target, address):
                self._prober.relay(peer, sequence, target, address, now)
            case Ack(sequence):
                self._prober.acked(sequence)
            case RelayedAck(sequence):
                self._prober.relayed(sequence)
            case Nack(sequence):
                self._prober.nacked(sequence)
            case Word():
                self._membership.heard_word(message, peer, now)
            case Suspect(id_, incarnation, accuser):
                self._membership.heard_suspect(id_, incarnation, accuser, now)
                self._answer_accuser(id_, incarnation, peer, now)
            case Dead(id_, incarnation, accuser):
                self._membership.heard_dead(id_, incarnation, accuser, now)
                self._answer_accuser(id_, incarnation, peer, now)
            case Summary():
                self._entropy.heard_summary(message, peer, now)
            case Ask():
                self._acknowledgements.heard_ask(message, peer)
            case Applied():
                self._acknowledgements.heard_applied(message)
            case Buckets():
                self._entropy.heard_buckets(message, peer, now)
            case DigestMessage(versions):
                self._entropy.heard_digest(versions, peer, now)
            case Delta():
                self._entropy.heard_delta(message, peer, now)
            case _:
                self._refusals.name("message of a stream in a datagram", peer)

    def _answer_accuser(self, id_: NodeId, incarnation: int, peer: Address, now: float) -> None:
        """Who accuses us of an earlier process's incarnation has its word, and shows it."""
        me = self._membership.me
        if id_ != self._membership.me.id or me.state is not State.ALIVE:
            return
        if incarnation > me.incarnation:
            self._entropy.want_stream(peer, now)
        else:
            self._outbox.append((peer, me.word))
