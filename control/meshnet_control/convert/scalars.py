"""Single JSON values <-> protobuf field values, and the refusal of what does not fit.

PURE. One ``Scalar`` a type: numbers, strings, booleans, bytes, enums, times. Messages, lists and
maps of them are convert.py's.

Be aware: refusals are in the words of Go's decoder, with Go's names of types; where the value
stands is added on the refusal's way up. Source: Go encoding/json decode.go, time.Time.MarshalJSON.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from meshnet.patterns import Pattern

ZERO_TIME = "0001-01-01T00:00:00Z"
_NO_TIME = "{path} is not a time in RFC 3339"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_ONE_S = -62135596800
_YEAR_10000_S = 253402300800
_RFC3339 = Pattern(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", longest=64)
_DIGITS = 40
"""Of a number that is out of range, as far as a refusal repeats them."""
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: ("int32", -(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: ("int64", -(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: ("uint32", 0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: ("uint64", 0, 2**64 - 1),
}


class RefusedError(Exception):
    """A value that cannot be read; the levels it passes on its way up add where it is."""

    def __init__(self, what: str, go_type: str = "") -> None:
        self.what = what
        self.go_type = go_type
        self.struct = ""
        self.path: list[str] = []

    def within(self, struct: str, name: str) -> None:
        """Add a level: the Go struct (the innermost counts) and its field."""
        self.struct = self.struct or struct
        self.path.insert(0, name)

    def __str__(self) -> str:
        path = ".".join(self.path)
        if not self.go_type:
            return self.what.replace("{path}", path)
        target = f"struct field {self.struct}.{path}" if path else "value"
        return f"json: cannot unmarshal {self.what} into Go {target} of type {self.go_type}"


@dataclass(frozen=True, slots=True)
class Scalar:
    """How single values of a type that is no message go both ways."""

    write: Callable[[Any], Any] | None
    """None: as it is."""
    read: Callable[[Any], Any]
    go_type: str
    empty: Any


def scalar_of(item: FieldDescriptor) -> Scalar:
    """How values of a field go both ways; of a repeated field, its elements.

    Args:
        item: a field that is no message.
    """
    kind = item.cpp_type
    if kind in _INTEGERS:
        return _integer(*_INTEGERS[kind])
    if item.enum_type is not None:
        return _enum(item.enum_type)
    if item.type == FieldDescriptor.TYPE_BYTES:
        return _BYTES
    return {
        FieldDescriptor.CPPTYPE_STRING: _STRING,
        FieldDescriptor.CPPTYPE_BOOL: _BOOL,
        FieldDescriptor.CPPTYPE_DOUBLE: _DOUBLE,
    }[kind]


def _integer(go_type: str, low: int, high: int) -> Scalar:
    def read(value: Any) -> int:  # noqa: ANN401 - any JSON value
        if type(value) is int and low <= value <= high:
            return value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        said = str(value)[:_DIGITS] if number else ""
        raise RefusedError(f"number {said}" if number else go_kind(value), go_type)

    return Scalar(None, read, go_type, 0)


def _enum(descriptor: EnumDescriptor) -> Scalar:
    words = "".join(f"_{c}" if c.isupper() else c for c in descriptor.name)  # TaskState
    prefix = words.removeprefix("_").upper() + "_"
    names = {v.number: v.name.removeprefix(prefix).lower() for v in descriptor.values}
    numbers = {name: number for number, name in names.items()}

    def read(value: Any) -> int:  # noqa: ANN401 - any JSON value
        if not isinstance(value, str):
            raise RefusedError(go_kind(value), f"swarm.{descriptor.name}")
        if value not in numbers:
            raise RefusedError("{path}" + f" {value!r} is not one of {', '.join(numbers)}")
        return numbers[value]

    return Scalar(lambda n: names.get(n, str(n)), read, descriptor.name, names[0])


def _read_string(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if not isinstance(value, str):
        raise RefusedError(go_kind(value), "string")
    return utf8(value)


def utf8(value: str) -> str:
    """As UTF-8 can carry it: half a surrogate pair becomes U+FFFD, as in Go's decoder.

    Raises:
        RefusedError: it has a NUL, at which the kernel and every C library end a text.
    """
    if "\0" in value:
        raise RefusedError("{path} has a NUL byte, which no text may have")
    if value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read_bool(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    if not isinstance(value, bool):
        raise RefusedError(go_kind(value), "bool")
    return value


def _read_double(value: Any) -> float:  # noqa: ANN401 - any JSON value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedError(go_kind(value), "float64")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RefusedError("number out of range", "float64")
    return number


def _write_double(value: float) -> int | float:
    return int(value) if value.is_integer() else value


_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_PAD = ord("=")


def _read_bytes(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    if not isinstance(value, str):
        raise RefusedError(go_kind(value), "[]uint8")
    text = value.replace("\r", "").replace("\n", "")
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        decoded = None
    if decoded is None or text.endswith("==="):  # which b64decode takes behind a whole group
        at = _corrupt_at(value.encode(errors="replace"))
        raise RefusedError(f"illegal base64 data at input byte {at}") from None
    return decoded


def _corrupt_at(text: bytes) -> int:
    """Where Go finds that base64 is none: at a foreign byte, or where a group of four is not whole.

    Source: Go encoding/base64 CorruptInputError.
    """
    line_ends, group = b"\r\n", 0
    for at, byte in enumerate(text):
        if byte in line_ends:
            continue
        if byte in _BASE64:
            group = (group + 1) % 4
            continue
        if byte != _PAD or group < 2:  # noqa: PLR2004 - two characters are a byte
            return at
        pads = [i for i in range(at, len(text)) if text[i] not in line_ends]
        needed = 4 - group
        wrong = next((k for k, i in enumerate(pads[:needed]) if text[i] != _PAD), None)
        if wrong is not None:
            return pads[wrong] - 1
        return pads[needed] if len(pads) > needed else len(text)
    return len(text) - group


def _read_time(value: Any) -> Timestamp | None:  # noqa: ANN401 - any JSON value
    if not isinstance(value, str):
        raise RefusedError(go_kind(value), "time.Time")
    found = _RFC3339.match(value)
    if found is None:
        raise RefusedError(_NO_TIME)
    try:
        past = datetime.fromisoformat(found[1] + found[3]) - _EPOCH
    except ValueError:
        raise RefusedError(_NO_TIME) from None
    seconds = past.days * 86400 + past.seconds
    nanos = int((found[2] or "0").ljust(9, "0")[:9])
    if not _YEAR_ONE_S <= seconds < _YEAR_10000_S:
        raise RefusedError(_NO_TIME)
    if seconds == _YEAR_ONE_S and nanos == 0:
        return None
    return Timestamp(seconds=seconds, nanos=nanos)


def _write_time(moment: Timestamp) -> str:
    text = (_EPOCH + timedelta(seconds=moment.seconds)).isoformat()[:19]
    if moment.nanos:
        return f"{text}.{moment.nanos:09d}".rstrip("0") + "Z"
    return text + "Z"


def go_kind(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """What Go's decoder calls a JSON value."""
    if isinstance(value, bool):
        return "bool"
    names = {str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


_STRING = Scalar(None, _read_string, "string", "")
_BOOL = Scalar(None, _read_bool, "bool", empty=False)
_DOUBLE = Scalar(_write_double, _read_double, "float64", 0)
_BYTES = Scalar(lambda b: base64.b64encode(b).decode(), _read_bytes, "[]uint8", "")
TIME = Scalar(_write_time, _read_time, "time.Time", ZERO_TIME)
