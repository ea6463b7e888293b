"""Engine API JSON <-> protobuf, for every message of control.proto: one conversion, no mapping.

PURE. The schema is the mapping; each message type is looked at once and remembered as a table:

    bool leader = 1 [json_name = "Leader", (always) = true]    {"Leader": false}
           name in messages        name in JSON    written even when empty

========================  =====================================================================
integers, double          JSON numbers; durations are nanoseconds
bytes                     base64
enum TASK_STATE_RUNNING   "running"
Timestamp                 RFC 3339 as Go writes it; Go's zero time is an unset field
map, repeated, message    object, array, object; an empty message that is set is ``{}``
optional                  written when set, whatever its value
(hidden)                  never in JSON, neither way
========================  =====================================================================

Reading is as Go's decoder reads: names in any case, null is nothing, a wrong type is refused in its
words. Other than Go's it refuses a field it does not know, unless its value says nothing: what we
cannot do must not be dropped in silence.

Be aware: whether values make sense is the control API's business. The order of JSON members means
nothing. Source: Go encoding/json decode.go (UnmarshalTypeError), time.Time.MarshalJSON.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2

_M = TypeVar("_M", bound=Message)
Json = dict[str, Any]

ZERO_TIME = "0001-01-01T00:00:00Z"
_NO_TIME = "{path} is not a time in RFC 3339"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_ONE_S = -62135596800
_YEAR_10000_S = 253402300800
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: ("int32", -(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: ("int64", -(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: ("uint32", 0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: ("uint64", 0, 2**64 - 1),
}


def to_engine(message: Message) -> Json:
    """A message as the Engine API's JSON.

    Args:
        message: of control.proto; it is not changed.
    """
    table = _table(message.DESCRIPTOR)
    fields, out = table.by_number, {}
    for descriptor, value in message.ListFields():
        field = fields.get(descriptor.number)
        if field is not None:
            out[field.name] = field.write(value)
    for field in table.always:
        if field.name not in out:
            out[field.name] = field.empty()
    return out


def from_engine(cls: type[_M], obj: Any) -> _M:  # noqa: ANN401 - any JSON value
    """A message from the Engine API's JSON, as ``json.loads`` gives it.

    Raises:
        ControlError: a value of the wrong type, or a field that is not known and not empty (400).
    """
    message = cls()
    try:
        _fill(message, obj)
    except _RefusedError as refused:
        raise ControlError(str(refused)) from None
    return message


class _RefusedError(Exception):
    """A value that cannot be read; the levels it passes on its way up add where it is."""

    def __init__(self, what: str, go_type: str = "") -> None:
        self.what = what
        self.go_type = go_type
        self.struct = ""
        self.path: list[str] = []

    def within(self, struct: str, name: str) -> None:
        self.struct = self.struct or struct
        self.path.insert(0, name)

    def __str__(self) -> str:
        path = ".".join(self.path)
        if not self.go_type:
            return self.what.replace("{path}", path)
        target = f"struct field {self.struct}.{path}" if path else "value"
        return f"json: cannot unmarshal {self.what} into Go {target} of type {self.go_type}"


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    """In JSON."""
    write: Callable[[Any], Any]
    """The field's value as JSON."""
    read: Callable[[Message, Any], None]
    """Set the field from a JSON value that is not null."""
    empty: Callable[[], Any]
    """What stands in JSON for an unset field that is always written."""


@dataclass(frozen=True, slots=True)
class _Table:
    by_number: dict[int, _Field]
    by_name: dict[str, _Field]
    """By JSON name, and by that in lower case."""
    always: tuple[_Field, ...]


@dataclass(frozen=True, slots=True)
class _Scalar:
    """How single values of a type that is no message go both ways."""

    write: Callable[[Any], Any] | None
    """None: as it is."""
    read: Callable[[Any], Any]
    go_type: str
    empty: Any


@cache
def _table(descriptor: Descriptor) -> _Table:
    by_number: dict[int, _Field] = {}
    by_name: dict[str, _Field] = {}
    always: list[_Field] = []
    for item in descriptor.fields:
        if _says(item, control_pb2.hidden):
            continue
        field = _field(item)
        by_number[item.number] = field
        by_name[item.json_name] = field
        by_name.setdefault(item.json_name.lower(), field)
        if _says(item, control_pb2.always):
            always.append(field)
    return _Table(by_number, by_name, tuple(always))


def _says(item: FieldDescriptor, option: FieldDescriptor) -> bool:
    extensions = item.GetOptions().Extensions
    return bool(extensions[option])  # type: ignore[index] # protoc's stub has the general type


def _field(item: FieldDescriptor) -> _Field:
    message = item.message_type
    if message is not None and message.GetOptions().map_entry:
        entry = message.fields_by_name["value"]
        if entry.message_type is not None:
            return _message_map_field(item, entry.message_type)
        return _map_field(item, _scalar(entry))
    if message is None or message.full_name == Timestamp.DESCRIPTOR.full_name:
        scalar = _TIME if message is not None else _scalar(item)
        return _list_field(item, scalar) if item.is_repeated else _one_field(item, scalar)
    return _messages_field(item, message) if item.is_repeated else _message_field(item, message)


def _one_field(item: FieldDescriptor, scalar: _Scalar) -> _Field:
    attribute, convert = item.name, scalar.read
    if scalar is _TIME:

        def read(message: Message, value: Any) -> None:  # noqa: ANN401 - any JSON value
            moment = convert(value)
            if moment is not None:
                getattr(message, attribute).CopyFrom(moment)
    else:

        def read(message: Message, value: Any) -> None:  # noqa: ANN401 - any JSON value
            setattr(message, attribute, convert(value))

    return _Field(item.json_name, scalar.write or _same, read, lambda: scalar.empty)


def _list_field(item: FieldDescriptor, scalar: _Scalar) -> _Field:
    attribute, write = item.name, scalar.write

    def read(message: Message, value: Any) -> None:  # noqa: ANN401 - any JSON value
        if not isinstance(value, list):
            raise _RefusedError(_kind(value), f"[]{scalar.go_type}")
        zero = scalar.read(scalar.empty)
        getattr(message, attribute).extend(zero if v is None else scalar.read(v) for v in value)

    written = list if write is None else lambda values: [write(v) for v in values]
    return _Field(item.json_name, written, read, list)


def _map_field(item: FieldDescriptor, scalar: _Scalar) -> _Field:
    attribute, write = item.name, scalar.write

    def read(message: Message, value: Any) -> None:  # noqa: ANN401 - any JSON value
        if not isinstance(value, dict):
            raise _RefusedError(_kind(value), f"map[string]{scalar.go_type}")
        target = getattr(message, attribute)
        for key, entry in value.items():
            target[_text(key)] = scalar.read(scalar.empty if entry is None else entry)

    written = dict if write is None else lambda values: {k: write(v) for k, v in values.items()}
    return _Field(item.json_name, written, read, dict)


def _message_map_field(item: FieldDescriptor, part_type: Descriptor) -> _Field:
    attribute, go_type = item.name, f"map[string]swarm.{part_type.name}"

    def read(message: Message, value: Any) -> None:  # noqa: ANN401 - any JSON value
        if not isinstance(value, dict):
            raise _RefusedError(_kind(value), go_type)
        target = getattr(message, attribute)
        for key, entry in value.items():
            _fill(target[_text(key)], {} if entry is None else entry)

    def write(values: Mapping[str, Message]) -> Json:
        return {k: to_engine(v) for k, v in values.items()}

    return _Field(item.json_name, write, read, dict)


def _message_field(item: FieldDescriptor, part_type: Descriptor) -> _Field:
    attribute, zero = item.name, GetMessageClass(part_type)

    def read(message: Message, value: Any) -> None:  # noqa: ANN401 - any JSON value
        part = getattr(message, attribute)
        part.SetInParent()
        _fill(part, value)

    return _Field(item.json_name, to_engine, read, lambda: to_engine(zero()))


def _messages_field(item: FieldDescriptor, part_type: Descriptor) -> _Field:
    attribute, go_type = item.name, f"[]swarm.{part_type.name}"

    def read(message: Message, value: Any) -> None:  # noqa: ANN401 - any JSON value
        if not isinstance(value, list):
            raise _RefusedError(_kind(value), go_type)
        target = getattr(message, attribute)
        for entry in value:
            _fill(target.add(), {} if entry is None else entry)

    def write(values: Iterable[Message]) -> list[Json]:
        return [to_engine(v) for v in values]

    return _Field(item.json_name, write, read, list)


def _fill(message: Message, obj: Any) -> None:  # noqa: ANN401 - any JSON value
    """Set a message's fields from a JSON object."""
    descriptor = message.DESCRIPTOR
    if not isinstance(obj, dict):
        raise _RefusedError(_kind(obj), f"swarm.{descriptor.name}")
    fields = _table(descriptor).by_name
    for name, value in obj.items():
        if value is None:
            continue
        field = fields.get(name) or fields.get(name.lower())
        try:
            if field is None:
                _refuse_unless_empty(value)
            else:
                field.read(message, value)
        except _RefusedError as refused:
            refused.within(descriptor.name, name if field is None else field.name)
            raise


def _scalar(item: FieldDescriptor) -> _Scalar:
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


def _integer(go_type: str, low: int, high: int) -> _Scalar:
    def read(value: Any) -> int:  # noqa: ANN401 - any JSON value
        if type(value) is int and low <= value <= high:
            return value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        raise _RefusedError(f"number {value}" if number else _kind(value), go_type)

    return _Scalar(None, read, go_type, 0)


def _enum(descriptor: EnumDescriptor) -> _Scalar:
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", descriptor.name).upper() + "_"
    names = {v.number: v.name.removeprefix(prefix).lower() for v in descriptor.values}
    numbers = {name: number for number, name in names.items()}

    def read(value: Any) -> int:  # noqa: ANN401 - any JSON value
        if not isinstance(value, str):
            raise _RefusedError(_kind(value), f"swarm.{descriptor.name}")
        if value not in numbers:
            raise _RefusedError("{path}" + f" {value!r} is not one of {', '.join(numbers)}")
        return numbers[value]

    return _Scalar(lambda n: names.get(n, str(n)), read, descriptor.name, names[0])


def _read_string(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if not isinstance(value, str):
        raise _RefusedError(_kind(value), "string")
    return _text(value)


def _text(value: str) -> str:
    """As UTF-8 can carry it: half a surrogate pair becomes U+FFFD, as in Go's decoder."""
    if value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read_bool(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    if not isinstance(value, bool):
        raise _RefusedError(_kind(value), "bool")
    return value


def _read_double(value: Any) -> float:  # noqa: ANN401 - any JSON value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _RefusedError(_kind(value), "float64")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _RefusedError("number out of range", "float64")
    return number


def _write_double(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def _read_bytes(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    if not isinstance(value, str):
        raise _RefusedError(_kind(value), "[]uint8")
    try:
        return base64.b64decode(re.sub(r"[\r\n]", "", value), validate=True)
    except (binascii.Error, ValueError):
        raise _RefusedError("illegal base64 data in {path}") from None


def _read_time(value: Any) -> Timestamp | None:  # noqa: ANN401 - any JSON value
    if not isinstance(value, str):
        raise _RefusedError(_kind(value), "time.Time")
    found = _RFC3339.fullmatch(value)
    try:
        past = datetime.fromisoformat(found[1] + found[3] if found else "") - _EPOCH
    except ValueError:
        raise _RefusedError(_NO_TIME) from None
    seconds = past.days * 86400 + past.seconds
    nanos = int(((found and found[2]) or "0").ljust(9, "0")[:9])
    if not _YEAR_ONE_S <= seconds < _YEAR_10000_S:
        raise _RefusedError(_NO_TIME)
    if seconds == _YEAR_ONE_S and nanos == 0:
        return None
    return Timestamp(seconds=seconds, nanos=nanos)


def _write_time(moment: Timestamp) -> str:
    text = (_EPOCH + timedelta(seconds=moment.seconds)).isoformat()[:19]
    if moment.nanos:
        return f"{text}.{moment.nanos:09d}".rstrip("0") + "Z"
    return text + "Z"


def _same(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    return value


def _kind(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """What Go's decoder calls a JSON value."""
    if isinstance(value, bool):
        return "bool"
    names = {str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _refuse_unless_empty(value: Any) -> None:  # noqa: ANN401 - any JSON value
    if not _says_nothing(value):
        raise _RefusedError("{path} is not supported by this version of meshnet")


def _says_nothing(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return all(_says_nothing(v) for v in value.values())
    if isinstance(value, list):
        return all(_says_nothing(v) for v in value)
    return not value


_STRING = _Scalar(None, _read_string, "string", "")
_BOOL = _Scalar(None, _read_bool, "bool", empty=False)
_DOUBLE = _Scalar(_write_double, _read_double, "float64", 0)
_BYTES = _Scalar(lambda b: base64.b64encode(b).decode(), _read_bytes, "[]uint8", "")
_TIME = _Scalar(_write_time, _read_time, "time.Time", ZERO_TIME)
