"""A peer's msgpack values become messages here, or nothing. Pure.

``parse`` is the only way in: what comes out of it can be used without another look. An address is
IPv4 text and is never resolved; a number leaves room to count on above it, so that no peer can push
one of ours out of its range.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Final

from meshnet.errors import WireError
from meshnet.gossip import sums
from meshnet.gossip.members import SAID, Address, State, Word
from meshnet.gossip.messages import (
    ID_LENGTH,
    NETWORKS,
    NUMBER_MAX,
    ROWS,
    WORDS,
    Ack,
    Applied,
    Ask,
    Buckets,
    Dead,
    DigestMessage,
    End,
    Hello,
    Message,
    Nack,
    Ping,
    PingReq,
    RelayedAck,
    Row,
    Summary,
    Suspect,
    Sync,
)
from meshnet.gossip.records import DIGEST_BYTES, KEY_LENGTH, PROOF_BYTES, VALUE_BYTES, Delta, Proof
from meshnet.gossip.shares import TO_ALL, Share, share_of
from meshnet.gossip.signing import SIGNATURE_BYTES
from meshnet.model.ids import NodeId
from meshnet.model.wellknown import LARGEST_PORT

_U32: Final = (1 << 32) - 1
_SAID: Final = {kind: said for said, kind in WORDS.items()}


class _MalformedError(Exception):
    """Why a message is not taken; becomes a WireError that names the peer."""


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
        case [5 | 13 | 19 as kind, id_, host, port, incarnation, signature]:
            return _word(id_, host, port, incarnation, _SAID[kind], signature)
        case [6, id_, incarnation, accuser]:
            return Suspect(_id(id_), _number(incarnation), _id(accuser))
        case [7, id_, incarnation, accuser]:
            return Dead(_id(id_), _number(incarnation), _id(accuser))
        case [8, versions]:
            return DigestMessage(_versions(versions))
        case [9, share, generation, base, upto, floor, entries, proof]:
            numbers = (_number(generation), _number(base), _number(upto), _number(floor))
            return _delta(_share(share), numbers, entries, _proof(proof))
        case [10, sender, rows, versions]:
            return Sync(_id(sender), _rows(rows), _versions(versions))
        case [11, members, records]:
            return Summary(_number(members), _number(records))
        case [12, sequence]:
            return RelayedAck(_number(sequence, _U32))
        case [14, bool() as more]:
            return End(more)
        case [15, records]:
            return Buckets(_sums(records))
        case [16, sender, members, records, shares, networks]:
            told = (_sums(members), _sums(records), _sums(shares))
            return Hello(_id(sender), *told[:2], _networks(networks), told[2])
        case [17, share, generation, number]:
            return Ask(_share(share), (_number(generation), _number(number)))
        case [18, share, generation, number]:
            return Applied(_share(share), (_number(generation), _number(number)))
        case _:
            raise _MalformedError("unknown message or wrong number of fields")


def _number(told: object, greatest: int = NUMBER_MAX) -> int:
    if type(told) is not int or not 0 <= told <= greatest:  # a bool is no number
        raise _MalformedError("number out of range")
    return told


def _id(told: object) -> NodeId:
    return NodeId(_text(told, ID_LENGTH, "malformed id"))


def _share(told: object) -> Share:
    """An owner, or an owner and a network with a space between them."""
    owner, space, network = told.partition(" ") if isinstance(told, str) else ("", "", "")
    return share_of(_id(owner), _id(network) if space else TO_ALL)


def _networks(told: object) -> tuple[str, ...]:
    if not isinstance(told, list) or len(told) > NETWORKS:
        raise _MalformedError("malformed list of networks")
    return tuple(_id(network) for network in told)


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


def _sums(told: object) -> tuple[int, ...]:
    try:
        return sums.unpacked(told if isinstance(told, bytes) else b"")
    except ValueError as error:
        raise _MalformedError("malformed sums") from error


def _versions(told: object) -> Mapping[Share, tuple[int, int]]:
    if not isinstance(told, dict) or len(told) > ROWS:
        raise _MalformedError("malformed digest")
    found: dict[Share, tuple[int, int]] = {}
    for share, pair in told.items():
        match pair:
            case [generation, version]:
                found[_share(share)] = (_number(generation), _number(version))
            case _:
                raise _MalformedError("malformed digest")
    return found


def _rows(told: object) -> tuple[Row, ...]:
    if not isinstance(told, list) or len(told) > ROWS:
        raise _MalformedError("malformed member list")
    found = []
    for row in told:
        match row:
            case [id_, host, port, incarnation, said, signature, state, age_s]:
                if _state(said) not in SAID:
                    raise _MalformedError("unknown state of a member")
                word = _word(id_, host, port, incarnation, _state(said), signature)
                found.append(Row(word, _state(state), _number(age_s, _U32)))
            case _:
                raise _MalformedError("malformed member list")
    return tuple(found)


def _state(told: object) -> State:
    try:
        return State(told)
    except ValueError as error:
        raise _MalformedError("unknown state of a member") from error


def _word(
    id_: object, host: object, port: object, incarnation: object, said: State, signature: object
) -> Word:
    if not isinstance(signature, bytes) or len(signature) != SIGNATURE_BYTES:
        raise _MalformedError("malformed signature")
    return Word(_id(id_), _address(host, port), _number(incarnation), said, signature)


def _proof(told: object) -> Proof | None:
    if told is None:
        return None
    if not isinstance(told, bytes) or len(told) != PROOF_BYTES:
        raise _MalformedError("malformed signature")
    return Proof(told[:DIGEST_BYTES], told[DIGEST_BYTES:])


def _delta(
    share: Share, numbers: tuple[int, int, int, int], told: object, proof: Proof | None
) -> Delta:
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
    return Delta(share, generation, base, upto, floor, tuple(entries), proof)
