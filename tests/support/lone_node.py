"""A gossip engine alone: what it hears, what it says, and its clock in the test's hands."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from hashlib import blake2b
from typing import Any

from meshnet.gossip.config import GossipConfig
from meshnet.gossip.engine import GossipEngine
from meshnet.gossip.members import Address, State, Word
from meshnet.gossip.messages import (
    Hello,
    Message,
    Ping,
    Row,
)
from meshnet.gossip.records import Delta, Entry, Owned, Proof, head
from meshnet.gossip.shares import parts
from meshnet.gossip.signing import SEED_BYTES, Signer
from meshnet.gossip.sums import BUCKETS
from meshnet.gossip.wire import KeyRing, encode
from meshnet.model.ids import NodeId

KEY = b"0123456789abcdef"
RING = KeyRing((KEY,))
ME, A, B, C = NodeId("me"), NodeId("a"), NodeId("b"), NodeId("c")
HERE: Address = ("10.0.0.1", 7946)
AT: dict[NodeId, Address] = {A: ("10.0.0.2", 7946), B: ("10.0.0.3", 7946), C: ("10.0.0.4", 7946)}
CONFIG = GossipConfig.lan()
DIFFERENT = Hello(A, [1] * BUCKETS, [1] * BUCKETS)
"""A's first word on a stream; it differs from whoever knows little in every bucket."""


@cache
def hand(member: NodeId) -> Signer:
    """A member's own."""
    return Signer(blake2b(member.encode(), digest_size=SEED_BYTES).digest())


def word(member: NodeId, at: Address, incarnation: int, said: State) -> Word:
    return Word.of(hand(member), member, at, incarnation, said)


def alive(member: NodeId, at: Address, incarnation: int) -> Word:
    return word(member, at, incarnation, State.ALIVE)


def restarting(member: NodeId, incarnation: int) -> Word:
    return word(member, AT.get(member, HERE), incarnation, State.RESTARTING)


def left(member: NodeId, incarnation: int) -> Word:
    return word(member, AT.get(member, HERE), incarnation, State.LEFT)


def row(member: NodeId, at: Address, incarnation: int, state: State, age_s: int = 0) -> Row:
    """A row whose member said what fits the state."""
    said = state if state in {State.LEFT, State.RESTARTING} else State.ALIVE
    return Row(word(member, at, incarnation, said), state, age_s)


def proven(delta: Delta, before: tuple[Entry, ...] = ()) -> Delta:
    """The delta with its owner's proof, on top of these entries."""
    owned = Owned(delta.generation)
    owned.take(replace(delta, base=0, entries=before), 0.0)
    owned.take(replace(delta, base=1), 0.0)
    digest = owned.digest()
    said = head(delta.share, delta.generation, delta.upto, digest)
    return replace(delta, proof=Proof(digest, hand(parts(delta.share)[0]).sign(said)))


def packet(*messages: Message) -> bytes:
    return RING.seal([encode(message) for message in messages], b"n" * 12)


class Lone:
    """An engine and everything it said, by message."""

    def __init__(self, *known: NodeId, config: GossipConfig = CONFIG, **more: Any) -> None:
        self.now = 100.0
        self.engine = GossipEngine(
            config, ME, HERE, 1, random.Random(1), self.now, hand(ME), **more
        )
        self.engine.set_keys([KEY])
        self.hands = {ME: hand(ME).public}
        self.let_in(A, B, C, *known)
        self.hear(*(alive(each, AT[each], 1) for each in known), by=("10.9.9.9", 7946))
        self.said()

    def let_in(self, *members: NodeId) -> None:
        """The managers name these, too."""
        self.hands |= {member: hand(member).public for member in members}
        self.engine.expect(self.hands, self.now)

    def hear(self, *messages: Message, by: Address = AT[A]) -> None:
        self.engine.receive_datagram(packet(*messages), by, self.now)

    def said(self) -> list[tuple[Address, Message]]:
        return [
            (to, message)
            for packet, to in self.engine.datagrams_to_send(self.now)
            for message in RING.open(packet, "us")
        ]

    def said_to(self, member: NodeId) -> list[Message]:
        return [message for to, message in self.said() if to == AT[member]]

    def wait(self, seconds: float) -> list[tuple[Address, Message]]:
        """Every timer in time; what was said meanwhile."""
        end, said = self.now + seconds, self.said()
        while (when := self.engine.next_timer()) is not None and when <= end:
            self.now = max(self.now, when)
            self.engine.handle_timer(self.now)
            said += self.said()
        self.now = end
        return said

    def state(self, member: NodeId) -> State:
        return self.engine.members()[member].state

    def events(self) -> list[object]:
        found: list[object] = []
        while (event := self.engine.next_event()) is not None:
            found.append(event)
        return found


def next_probe(lone: Lone) -> tuple[NodeId, int]:
    """Waits for the next probe: (target, sequence)."""
    pings: list[Ping] = []
    while not pings:
        pings = [message for _, message in lone.wait(0.05) if isinstance(message, Ping)]
    return pings[0].target, pings[0].sequence
