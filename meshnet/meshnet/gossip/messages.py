"""What members say to each other: one frozen value a message, every field typed and in range. Pure.

``fields`` is the way out, ``parsing.parse`` the only way in. docs/protocol.md has the numbers and
fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshnet.gossip import sums
from meshnet.gossip.members import Address, State, Word
from meshnet.gossip.records import (
    Delta,
)
from meshnet.gossip.shares import Share
from meshnet.gossip.table import Mark
from meshnet.model.ids import NodeId

NUMBER_MAX: Final = (1 << 62) - 1
"""Greatest incarnation, generation and version."""
ID_LENGTH: Final = 64
"""Longest id of a member and of a network, characters."""
ROWS: Final = 512
"""Most members in one sync message, and pairs in one digest."""
NETWORKS: Final = 1024
"""Most networks that one hello names."""
_U32: Final = (1 << 32) - 1

_PING, _PING_REQ, _ACK, _NACK, _ALIVE, _SUSPECT, _DEAD = range(1, 8)
_DIGEST, _DELTA, _SYNC, _SUMMARY, _RELAYED_ACK, _RESTARTING, _END = range(8, 15)
_BUCKETS, _HELLO, _ASK, _APPLIED, _LEFT = range(15, 20)
WORDS: Final = {State.ALIVE: _ALIVE, State.RESTARTING: _RESTARTING, State.LEFT: _LEFT}
"""The number of a member's word about itself."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer with an ack if you are the target."""

    sequence: int
    target: NodeId


@dataclass(frozen=True, slots=True)
class PingReq:
    """Ping the target for me."""

    sequence: int
    target: NodeId
    address: Address


@dataclass(frozen=True, slots=True)
class Ack:
    """The target itself answers a ping."""

    sequence: int


@dataclass(frozen=True, slots=True)
class RelayedAck:
    """The target answered me, whom you asked to ping it."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Nack:
    """I am alive, but the target did not answer me."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """The accuser could not reach a member."""

    id: NodeId
    incarnation: int
    accuser: NodeId


@dataclass(frozen=True, slots=True)
class Dead:
    """A member is dead, says the accuser."""

    id: NodeId
    incarnation: int
    accuser: NodeId


@dataclass(frozen=True, slots=True)
class Summary:
    """Fingerprints of the sender's member list and records; equal ones end the matter."""

    members: int
    records: int


@dataclass(frozen=True, slots=True)
class Buckets:
    """The sender's records in the sums of their buckets; tell me what you know where we differ."""

    records: Sequence[int]


@dataclass(frozen=True, slots=True)
class Hello:
    """The first word on a stream: who speaks, and the sums of its members and records."""

    sender: NodeId
    members: Sequence[int]
    records: Sequence[int]
    """Of what goes to all."""
    networks: tuple[str, ...] = ()
    """Which it would hear of, or can tell of."""
    shares: Sequence[int] = (0,) * sums.BUCKETS
    """Of what is said on these networks."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What of my changes have you applied; tell me until it is this."""

    share: Share
    """Of who asks: its changes on a network, or of what goes to all."""
    mark: Mark


@dataclass(frozen=True, slots=True)
class Applied:
    """This much of your changes I have applied."""

    share: Share
    """Of who answers, on the network that it was asked about."""
    mark: Mark


@dataclass(frozen=True, slots=True)
class DigestMessage:
    """What the sender knows of these shares; others are not spoken of."""

    versions: Mapping[Share, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Row:
    """One member in a sync message: its own word, and what the sender believes."""

    word: Word
    state: State
    age_s: int = 0
    """How long it has been in that state, for the sender, seconds, rounded up: told on and on, a
    death only gets older."""


@dataclass(frozen=True, slots=True)
class Sync:
    """Members as the sender believes them, and what it knows of their records, on a stream."""

    sender: NodeId
    rows: tuple[Row, ...]
    versions: Mapping[Share, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class End:
    """The last message of a turn on a stream; ``more``: something had to be left out."""

    more: bool


Message = (
    Ping
    | PingReq
    | Ack
    | RelayedAck
    | Nack
    | Word
    | Suspect
    | Dead
    | Summary
    | Buckets
    | Hello
    | Ask
    | Applied
    | DigestMessage
    | Delta
    | Sync
    | End
)


def fields(message: Message) -> list[Any]:  # noqa: PLR0911, PLR0912 - one case a message
    """The msgpack list of a message."""
    match message:
        case Ping(sequence, target):
            return [_PING, sequence, target]
        case PingReq(sequence, target, address):
            return [_PING_REQ, sequence, target, *address]
        case Ack(sequence):
            return [_ACK, sequence]
        case RelayedAck(sequence):
            return [_RELAYED_ACK, sequence]
        case Nack(sequence):
            return [_NACK, sequence]
        case Word(id_, address, incarnation, said, signature):
            return [WORDS[said], id_, *address, incarnation, signature]
        case Suspect(id_, incarnation, accuser):
            return [_SUSPECT, id_, incarnation, accuser]
        case Dead(id_, incarnation, accuser):
            return [_DEAD, id_, incarnation, accuser]
        case Summary(members, records):
            return [_SUMMARY, members, records]
        case Buckets(records):
            return [_BUCKETS, sums.packed(records)]
        case Hello(sender, members, records, networks, shares):
            told = [sums.packed(each) for each in (members, records, shares)]
            return [_HELLO, sender, *told, list(networks)]
        case Ask(share, mark):
            return [_ASK, share, *mark]
        case Applied(share, mark):
            return [_APPLIED, share, *mark]
        case DigestMessage(versions):
            return [_DIGEST, dict(versions)]
        case Delta():
            head = [message.share, message.generation, message.base, message.upto, message.floor]
            proof = message.proof
            sealed = proof.digest + proof.signature if proof is not None else None
            return [_DELTA, *head, [list(entry) for entry in message.entries], sealed]
        case Sync(sender, rows, versions):
            return [_SYNC, sender, [_row_fields(row) for row in rows], dict(versions)]
        case End(more):
            return [_END, more]


def _row_fields(row: Row) -> list[Any]:
    word = row.word
    head = [word.id, *word.address, word.incarnation, word.said.value, word.signature]
    return [*head, row.state.value, row.age_s]
