"""XFRM's messages as bytes and back: associations and policies of ours (linux/xfrm.h). Pure.

pyroute2 does not know them. Only what ``meshnet.netstate.esp`` speaks of is read and written: IPv4,
ESP in transport mode with AES-GCM (RFC 4106), extended sequence numbers, no mark.

A life is kept as an association with nobody, from and to 127.0.0.1, whose key nobody knows: its
limits, which count nothing as nothing passes it, hold the salt (bytes) and the digest (packets).
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Final

from meshnet.errors import WireError
from meshnet.kernel.encode import Message
from meshnet.kernel.nlmsg import NlmF, attribute
from meshnet.netstate.esp import REQID, Association, Direction, Life, Policy

NETLINK_XFRM: Final = 6
NEWSA, DELSA, GETSA = 0x10, 0x11, 0x12
NEWPOLICY, DELPOLICY, GETPOLICY = 0x13, 0x14, 0x15
UPDPOLICY, UPDSA = 0x19, 0x1A
GROUPS: Final = 1 << (3 - 1) | 1 << (4 - 1)
"""XFRMNLGRP_SA and XFRMNLGRP_POLICY: who hears of changes."""
_TMPL, _ALG_AEAD, _REPLAY_ESN = 5, 18, 23
_AF_INET: Final = 2
_ESP, _UDP = 50, 17
_TRANSPORT: Final = 0
_ESN: Final = 128
"""XFRM_STATE_ESN: 64 bits of sequence, so that no key comes to its end (RFC 4303 section 2.2.1)."""
_WINDOW: Final = 1024
"""Packets that may overtake each other."""
_ICV_BITS: Final = 128
_ANY_PORT, _ONE_PORT = 0, 0xFFFF
_INFINITE: Final = (1 << 64) - 1
_PRIORITY: Final = 1
_DIRECTIONS: Final[dict[Direction, int]] = {"in": 0, "out": 1}
_NAMES: Final = {number: name for name, number in _DIRECTIONS.items()}

_SELECTOR: Final = struct.Struct("=4s12x4s12x2s2s2s2sHBBB3xiI")
"""To, from; port to and its mask, port from and its mask; family, bits of to and from, protocol."""
_ID: Final = struct.Struct("=4s12x4sB3x")
"""To, SPI, protocol."""
_ADDRESS: Final = struct.Struct("=4s12x")
_LIFETIME: Final = struct.Struct("=8Q")
"""Bytes soft and hard, packets soft and hard, four times."""
_CURRENT: Final = struct.Struct("=4Q")
_STATS: Final = struct.Struct("=3I")
_TAIL: Final = struct.Struct("=IIHBBB7x")
"""Sequence, reqid, family, mode, replay window, flags."""
_SA_ID: Final = struct.Struct("=4s12x4sHBx")
_POLICY_TAIL: Final = struct.Struct("=IIBBBB4x")
"""Priority, index, direction, action, flags, share."""
_POLICY_ID: Final = struct.Struct("=IB3x")
_TEMPLATE: Final = struct.Struct("=4s12x4sB3xH2x4s12xIBBBxIII")
"""To, SPI, protocol, family, from, reqid, mode, share, optional, algorithms of three kinds."""
_AEAD: Final = struct.Struct("=64sII")
_REPLAY: Final = struct.Struct("=6I")

_AT_ID: Final = _SELECTOR.size
_AT_SOURCE: Final = _AT_ID + _ID.size
_AT_LIFETIME: Final = _AT_SOURCE + _ADDRESS.size
_AT_TAIL: Final = _AT_LIFETIME + _LIFETIME.size + _CURRENT.size + _STATS.size
SA_BYTES: Final = _AT_TAIL + _TAIL.size
_AT_POLICY_TAIL: Final = _SELECTOR.size + _LIFETIME.size + _CURRENT.size
POLICY_BYTES: Final = _AT_POLICY_TAIL + _POLICY_TAIL.size
_AT_FROM, _AT_PORT = 16, 32
_ALL_SELECTOR: Final = slice(_SELECTOR.size)
_POLICY_PRIORITY: Final = slice(_AT_POLICY_TAIL, _AT_POLICY_TAIL + 4)
_POLICY_ACTION: Final = slice(_AT_POLICY_TAIL + 8, _AT_POLICY_TAIL + 10)

_NOBODY: Final = bytes(4)
_LOOPBACK: Final = IPv4Address("127.0.0.1")
_LIFE_SPI, _TRIAL_SPI = 0x6D6E6C66, 0x6D6E7472
_FOREVER: Final = (_INFINITE,) * 4 + (0,) * 4


def dump_associations() -> Message:
    """All of the namespace, everybody's."""
    return Message(GETSA, 0, b"")


def dump_policies() -> Message:
    """All of the namespace, everybody's."""
    return Message(GETPOLICY, 0, b"")


def add(each: Association) -> Message:
    """Make an association; it is an error if it is there."""
    where = _selector(each.source, each.destination, each.port)
    body = _sa(where, each, _FOREVER)
    return Message(NEWSA, NlmF.CREATE | NlmF.EXCL, body + _aead(each.key) + _replay())


def delete(each: Association) -> Message:
    """Remove an association."""
    spi = each.spi.to_bytes(4, "big")
    return Message(DELSA, 0, _SA_ID.pack(each.destination.packed, spi, _AF_INET, _ESP))


def begin(life: Life, key: bytes) -> Message:
    """Keep a life; ``key`` is random, and thrown away."""
    return Message(NEWSA, NlmF.CREATE | NlmF.EXCL, _life(life, key))


def rewrite(life: Life, key: bytes) -> Message:
    """Another digest of the same life. The kernel wants a key, and does not take it."""
    return Message(UPDSA, 0, _life(life, key))


def end() -> Message:
    """Keep no life."""
    return delete(_LIFE)


def trial(key: bytes) -> tuple[Message, Message]:
    """Make an association with nobody that is not one of ours, and remove it."""
    each = Association(_LOOPBACK, _LOOPBACK, _TRIAL_SPI)
    body = _sa(_selector(_LOOPBACK, _LOOPBACK, 0), each, _FOREVER, reqid=0)
    added = Message(NEWSA, NlmF.CREATE | NlmF.EXCL, body + _aead(key) + _replay())
    return added, delete(each)


def life_of(body: bytes) -> Life | None:
    """The life that an association of ours keeps; None: it is one of the others."""
    found = _read(body)
    if found is None or found != _LIFE:
        return None
    low, high, count, *_ = _LIFETIME.unpack_from(body, _AT_LIFETIME)
    return Life(low.to_bytes(8, "big") + high.to_bytes(8, "big"), count)


def association_of(body: bytes) -> Association | None:
    """One of ours between two nodes, without its key; None: it is not.

    Raises:
        WireError: it is cut off.
    """
    found = _read(body)
    return None if found is None or found == _LIFE else found


def add_policy(policy: Policy) -> Message:
    """Make or replace a policy."""
    where = _policy_selector(policy)
    direction = _DIRECTIONS[policy.direction]
    body = where + _LIFETIME.pack(*_FOREVER) + bytes(_CURRENT.size)
    body += _POLICY_TAIL.pack(_PRIORITY, 0, direction, 0, 0, 0)
    template = _TEMPLATE.pack(
        _NOBODY, _NOBODY, _ESP, _AF_INET, _NOBODY, REQID, _TRANSPORT, 0, 0,
        0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF,
    )  # fmt: skip
    return Message(UPDPOLICY, 0, body + attribute(_TMPL, template))


def delete_policy(policy: Policy) -> Message:
    """Remove a policy."""
    where = _policy_selector(policy)
    return Message(DELPOLICY, 0, where + _POLICY_ID.pack(0, _DIRECTIONS[policy.direction]))


def policy_of(body: bytes) -> Policy | None:
    """One that is just as ``add_policy`` makes it; None: it is another's, or was changed.

    Raises:
        WireError: it is cut off.
    """
    if len(body) < POLICY_BYTES:
        raise WireError("the kernel", "an XFRM policy that is cut off")
    direction = body[_AT_POLICY_TAIL + 8]
    if direction not in _NAMES:
        return None
    port = int.from_bytes(body[_AT_PORT : _AT_PORT + 2], "big")
    vtep = IPv4Address(body[_AT_FROM : _AT_FROM + 4] if direction else body[:4])
    policy = Policy(_NAMES[direction], vtep, port)
    wanted = add_policy(policy).body
    same = all(body[at] == wanted[at] for at in (_ALL_SELECTOR, _POLICY_PRIORITY, _POLICY_ACTION))
    return policy if same and wanted[POLICY_BYTES:] in body[POLICY_BYTES:] else None


def _policy_selector(policy: Policy) -> bytes:
    out = policy.direction == "out"
    return _selector(policy.vtep if out else None, None if out else policy.vtep, policy.port)


def _selector(source: IPv4Address | None, destination: IPv4Address | None, port: int) -> bytes:
    """UDP to a port; None: whoever's."""
    to, of = (each.packed if each is not None else _NOBODY for each in (destination, source))
    mask = _ONE_PORT if port else _ANY_PORT
    return _SELECTOR.pack(
        to, of, port.to_bytes(2, "big"), mask.to_bytes(2, "big"), bytes(2), bytes(2),
        _AF_INET, 32 if destination is not None else 0, 32 if source is not None else 0,
        _UDP, 0, 0,
    )  # fmt: skip


def _sa(selector: bytes, each: Association, lifetime: tuple[int, ...], reqid: int = REQID) -> bytes:
    spi = each.spi.to_bytes(4, "big")
    return (
        selector
        + _ID.pack(each.destination.packed, spi, _ESP)
        + _ADDRESS.pack(each.source.packed)
        + _LIFETIME.pack(*lifetime)
        + bytes(_CURRENT.size + _STATS.size)
        + _TAIL.pack(0, reqid, _AF_INET, _TRANSPORT, 0, _ESN)
    )


_LIFE: Final = Association(_LOOPBACK, _LOOPBACK, _LIFE_SPI)


def _life(life: Life, key: bytes) -> bytes:
    low, high = (int.from_bytes(life.salt[at : at + 8], "big") for at in (0, 8))
    lifetime = (low, high, life.digest, _INFINITE, 0, 0, 0, 0)
    where = _selector(_LOOPBACK, _LOOPBACK, 0)
    return _sa(where, _LIFE, lifetime) + _aead(key) + _replay()


def _read(body: bytes) -> Association | None:
    if len(body) < SA_BYTES:
        raise WireError("the kernel", "an XFRM state that is cut off")
    to, spi, protocol = _ID.unpack_from(body, _AT_ID)
    (of,) = _ADDRESS.unpack_from(body, _AT_SOURCE)
    _, reqid, family, mode, _, _ = _TAIL.unpack_from(body, _AT_TAIL)
    if (protocol, reqid, family, mode) != (_ESP, REQID, _AF_INET, _TRANSPORT) or not any(spi):
        return None  # without an SPI it is what the kernel asks a key daemon for
    return Association(IPv4Address(of), IPv4Address(to), int.from_bytes(spi, "big"))


def _aead(key: bytes) -> bytes:
    head = _AEAD.pack(b"rfc4106(gcm(aes))", len(key) * 8, _ICV_BITS)
    return attribute(_ALG_AEAD, head + key)


def _replay() -> bytes:
    words = _WINDOW // 32
    return attribute(_REPLAY_ESN, _REPLAY.pack(words, 0, 0, 0, 0, _WINDOW) + bytes(words * 4))
