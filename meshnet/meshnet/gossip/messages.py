"""What members say to each other: one frozen value a message, every field typed and in range. Pure.

``parse`` is the only way in: what comes out of it can be used without another look. An address is
IPv4 text and is never resolved; a number leaves room to count on above it, so that no peer can push
one of ours out of its range. docs/protocol.md has the numbers and fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Any, Final

from meshnet.errors import WireError
from meshnet.gossip.members import Address, State
from meshnet.gossip.table import KEY_LENGTH, VALUE_BYTES, Delta
from meshnet.model.ids import NodeId
from meshnet.model.wellknown import LARGEST_PORT

NUMBER_MAX: Final = (1 << 62) - 1
"""Greatest incarnation, generation and version."""
ID_LENGTH: Final = 64
"""Longest id of a member, characters."""
ROWS: Final = 512
"""Most members in one sync message, and pairs in one digest."""
_U32: Final = (1 << 32) - 1

_PING, _PING_REQ, _ACK, _NACK, _ALIVE, _SUSPECT, _DEAD = range(1, 8)
_DIGEST, _DELTA, _SYNC, _SUMMARY, _RELAYED_ACK, _RESTARTING, _END = range(8, 15)


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
class Alive:
    """A member is alive at an address."""

    id: NodeId
    address: Address
    incarnation: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """The accuser could not reach a member."""

    id: NodeId
    incarnation: int
    accuser: NodeId


@dataclass(frozen=True, slots=True)
class Dead:
    """A member is dead; when the accuser is the member itself, it left."""

    id: NodeId
    incarnation: int
    accuser: NodeId


@dataclass(frozen=True, slots=True)
class Restarting:
    """A member's daemon stops and will be back; its tasks run on."""

    id: NodeId
    incarnation: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Fingerprints of the sender's member list and records; equal ones end the matter."""

    members: int
    records: int


@dataclass(frozen=True, slots=True)
class DigestMessage:
    """What the sender knows of these owners; others are not spoken of."""

    versions: Mapping[NodeId, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Row:
    """One member in a sync message."""

    id: NodeId
    address: Address
    incarnation: int
    state: State
    age_s: int = 0
    """How long it has been in that state, for the sender, seconds, rounded up: told on and on, a
    death only gets older."""


@dataclass(frozen=True, slots=True)
class Sync:
    """A part of the sender's member list and digest, on a stream."""

    sender: NodeId
    rows: tuple[Row, ...]
    versions: Mapping[NodeId, tuple[int, int]]


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
    | Alive
    | Suspect
    | Dead
    | Restarting
    | Summary
    | DigestMessage
    | Delta
    | Sync
    | End
)


class _MalformedError(Exception):
    """Why a message is not taken; becomes a WireError that names the peer."""


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
        case Alive(id_, address, incarnation):
            return [_ALIVE, id_, *address, incarnation]
        case Suspect(id_, incarnation, accuser):
            return [_SUSPECT, id_, incarnation, accuser]
        case Dead(id_, incarnation, accuser):
            return [_DEAD, id_, incarnation, accuser]
        case Restarting(id_, incarnation):
            return [_RESTARTING, id_, incarnation]
        case Summary(members, records):
            return [_SUMMARY, members, records]
        case DigestMessage(versions):
            return [_DIGEST, dict(versions)]
        case Delta():
            head = [message.owner, message.generation, message.base, message.upto, message.floor]
            return [_DELTA, *head, [list(entry) for entry in message.entries]]
        case Sync(sender, rows, versions):
            told = [[r.id, *r.address, r.incarnation, r.state.value, r.age_s] for r in rows]
            return [_SYNC, sender, told, dict(versions)]
        case End(more):
            return [_END, more]


def parse(told: object, peer: str) -> Message:
    """The message that a peer's msgpack value is.

    Raises:
        WireError: it is none; ``why`` is one of few sentences.
    """
    try:
        return _parse(told)
    except _MalformedError as error:
        raise WireError(peer, str(error)) from None


def parse_address(host: object, port: object) -> Address:
    """An address that a datagram can be sent to.

    Raises:
        ValueError: no IPv4 address of a host in dotted form, or no port.
    """
    try:
        return _address(host, port)
    except _MalformedError as error:
        raise ValueError(str(error)) from None


def _parse(told: object) -> Message:  # noqa: PLR0911, PLR0912 - one case a message
    match told:
        case [kind, *_] if type(kind) is not int:
            raise _MalformedError("message without a number")
        case [1, sequence, target]:
            return Ping(_number(sequence, _U32), _id(target))
        case [2, sequence, target, host, port]:
            return PingReq(_number(sequence, _U32), _id(target), _address(host, port))
        case [3, sequence]:
            return Ack(_number(sequence, _U32))
        case [4, sequence]:
            return Nack(_number(sequence, _U32))
        case [5, id_, host, port, incarnation]:
            return Alive(_id(id_), _address(host, port), _number(incarnation))
        case [6, id_, incarnation, accuser]:
            return Suspect(_id(id_), _number(incarnation), _id(accuser))
        case [7, id_, incarnation, accuser]:
            return Dead(_id(id_), _number(incarnation), _id(accuser))
        case [8, versions]:
            return DigestMessage(_versions(versions))
        case [9, owner, generation, base, upto, floor, entries]:
            numbers = (_number(generation), _number(base), _number(upto), _number(floor))
            return _delta(_id(owner), numbers, entries)
        case [10, sender, rows, versions]:
            return Sync(_id(sender), _rows(rows), _versions(versions))
        case [11, members, records]:
            return Summary(_number(members, _U32), _number(records, _U32))
        case [12, sequence]:
            return RelayedAck(_number(sequence, _U32))
        case [13, id_, incarnation]:
            return Restarting(_id(id_), _number(incarnation))
        case [14, bool() as more]:
            return End(more)
        case _:
            raise _MalformedError("unknown message or wrong number of fields")


def _number(told: object, greatest: int = NUMBER_MAX) -> int:
    if type(told) is not int or not 0 <= told <= greatest:  # a bool is no number
        raise _MalformedError("number out of range")
    return told


def _id(told: object) -> NodeId:
    return NodeId(_text(told, ID_LENGTH, "malformed id"))


def _text(told: object, longest: int, why: str) -> str:
    if not isinstance(told, str) or not 0 < len(told) <= longest:
        raise _MalformedError(why)
    if not told.isascii() or not told.isprintable() or " " in told:
        raise _MalformedError(why)
    return told


def _address(host: object, port: object) -> Address:
    try:
        address = IPv4Address(host) if isinstance(host, str) else None
    except AddressValueError:
        address = None
    if address is None or address.is_unspecified or address.is_multicast or address.is_reserved:
        raise _MalformedError("malformed address")
    if type(port) is not int or not 0 < port <= LARGEST_PORT:
        raise _MalformedError("malformed port")
    return str(address), port


def _versions(told: object) -> Mapping[NodeId, tuple[int, int]]:
    if not isinstance(told, dict) or len(told) > ROWS:
        raise _MalformedError("malformed digest")
    found: dict[NodeId, tuple[int, int]] = {}
    for owner, pair in told.items():
        match pair:
            case [generation, version]:
                found[_id(owner)] = (_number(generation), _number(version))
            case _:
                raise _MalformedError("malformed digest")
    return found


def _rows(told: object) -> tuple[Row, ...]:
    if not isinstance(told, list) or len(told) > ROWS:
        raise _MalformedError("malformed member list")
    found = []
    for row in told:
        match row:
            case [id_, host, port, incarnation, str() as state, age_s]:
                if state not in {known.value for known in State}:
                    raise _MalformedError("unknown state of a member")
                address = _address(host, port)
                numbers = _number(incarnation), State(state), _number(age_s, _U32)
                found.append(Row(_id(id_), address, *numbers))
            case _:
                raise _MalformedError("malformed member list")
    return tuple(found)


def _delta(owner: NodeId, numbers: tuple[int, int, int, int], told: object) -> Delta:
    generation, base, upto, floor = numbers
    if not isinstance(told, list):
        raise _MalformedError("malformed delta")
    entries: list[tuple[str, int, bytes | None]] = []
    last = base
    for entry in told:
        match entry:
            case [key, version, bytes() | None as value]:
                number = _number(version)
                if not last < number <= upto or len(value or b"") > VALUE_BYTES:
                    raise _MalformedError("malformed delta")
                entries.append((_text(key, KEY_LENGTH, "malformed record key"), number, value))
                last = number
            case _:
                raise _MalformedError("malformed delta")
    if base > upto:
        raise _MalformedError("malformed delta")
    return Delta(owner, generation, base, upto, floor, tuple(entries))
