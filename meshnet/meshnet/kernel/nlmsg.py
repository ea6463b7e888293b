"""Netlink's framing as bytes and back: messages, and the attributes in them (netlink(7)). Pure.

```
 message    length u32  type u16  flags u16  sequence u32  port u32   body        padded to 4 bytes
 attribute  length u16  type u16                                     value        padded to 4 bytes
```
Lengths include the header and exclude the padding. An attribute's value may be attributes again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import Final

from meshnet.errors import WireError
from meshnet.model.families import Address
from meshnet.model.ids import MacAddress

HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ATTRIBUTE_SIZE: Final = 4
_U32: Final = struct.Struct("=I")
_ERRNO: Final = struct.Struct("=i")
_TYPE_MASK: Final = 0x3FFF
NESTED: Final = 0x8000
"""Flag in an attribute's type: its value is attributes (NLA_F_NESTED)."""


class Nlmsg(IntEnum):
    """Types of messages that every netlink family has; ``ERROR`` is NLMSG_ERROR."""

    ERROR = 2
    DONE = 3


class NlmF(IntFlag):
    """Flags of a message; ``ACK`` is NLM_F_ACK. Some bits mean another thing in each direction."""

    REQUEST = 0x1
    ACK = 0x4
    DUMP_INTR = 0x10
    REPLACE = 0x100
    EXCL = 0x200
    DUMP = 0x300
    CREATE = 0x400


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """One message, padded."""
    header = HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0)
    return header + body + bytes(-len(body) % 4)


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, body) of every message of a datagram.

    Raises:
        WireError: a length that cannot be.
    """
    offset, end = 0, len(data)
    while offset < end:
        try:
            length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        except struct.error:
            raise _cut_off() from None
        if not HEADER.size <= length <= end - offset:
            raise _cut_off()
        yield kind, flags, sequence, data[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3


def errno_of(body: bytes) -> int:
    """The errno of an ERROR's body (``nlmsgerr``); 0: it is an acknowledgement.

    Raises:
        WireError: there is none.
    """
    if len(body) < _ERRNO.size:
        raise _cut_off()
    return -int(_ERRNO.unpack_from(body)[0])


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE_SIZE + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Type without flags -> value, of all attributes from ``offset`` on; the last of a type counts.

    Raises:
        WireError: a length that cannot be.
    """
    found: dict[int, bytes] = {}
    end, unpack = len(data), _ATTRIBUTE.unpack_from
    while end - offset >= _ATTRIBUTE_SIZE:
        length, kind = unpack(data, offset)
        if not _ATTRIBUTE_SIZE <= length <= end - offset:
            raise _cut_off()
        found[kind & _TYPE_MASK] = data[offset + _ATTRIBUTE_SIZE : offset + length]
        offset += (length + 3) & ~3
    return found


def u32(kind: int, value: int) -> bytes:
    """An attribute that is a number."""
    return attribute(kind, _U32.pack(value))


def u8(kind: int, value: int) -> bytes:
    """An attribute that is a small number or a switch."""
    return attribute(kind, bytes([value]))


def text(kind: int, value: str) -> bytes:
    """An attribute that is a name. Names are bytes to the kernel: see ``as_text``."""
    return attribute(kind, value.encode(errors="surrogateescape") + b"\0")


def lladdr(kind: int, value: MacAddress) -> bytes:
    """An attribute that is a hardware address."""
    return attribute(kind, bytes.fromhex(value.replace(":", "")))


def inet(kind: int, value: Address) -> bytes:
    """An attribute that is an address."""
    return attribute(kind, value.packed)


def as_u32(value: bytes) -> int:
    """The number that an attribute is."""
    number: int = _U32.unpack(value)[0]
    return number


def as_text(value: bytes) -> str:
    """The name that an attribute is; bytes that are no UTF-8 come back as they were (PEP 383)."""
    return value.rstrip(b"\0").decode(errors="surrogateescape")


def _cut_off() -> WireError:
    return WireError("the kernel", "a netlink message that is cut off")
