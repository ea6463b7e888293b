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
(instead) = "Index"       written as ``Index``, when it is set; never read
========================  =====================================================================

Reading is as Go's decoder reads: names in any case, null is nothing, a wrong type is refused in its
words. Other than Go's it refuses a field it does not know, unless its value says nothing: what we
cannot do must not be dropped in silence. No field of the Engine API begins with a small letter:
such a member is a client's own (dockerode sends its query in the body as well), is left out, and
said in the log once.

Be aware: whether values make sense is the control API's business. The order of JSON members means
nothing. Source: Go encoding/json decode.go (UnmarshalTypeError), time.Time.MarshalJSON.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2
from meshnet_control.convert.scalars import (
    TIME,
    RefusedError,
    Scalar,
    go_kind,
    scalar_of,
    utf8,
)

_log = logging.getLogger(__name__)
_MOST_NAMES: Final = 256
_LONGEST_NAME: Final = 64
"""Characters of a client's own names that are logged, and how many are remembered."""
_M = TypeVar("_M", bound=Message)
Json = dict[str, Any]


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
            out[field.name] = field.write(value)  # a field (instead) of another comes after it
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
    except RefusedError as refused:
        raise ControlError(str(refused)) from None
    return message


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


@cache
def _table(descriptor: Descriptor) -> _Table:
    by_number: dict[int, _Field] = {}
    by_name: dict[str, _Field] = {}
    always: list[_Field] = []
    for item in descriptor.fields:
        if _says(item, control_pb2.hidden):
            continue
        field = _field(item)
        instead: str = item.GetOptions().Extensions[control_pb2.instead]  # type: ignore[index]
        if instead:
            by_number[item.number] = replace(field, name=instead)
            continue
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
        return _map_field(item, scalar_of(entry))
    if message is None or message.full_name == Timestamp.DESCRIPTOR.full_name:
        scalar = TIME if message is not None else scalar_of(item)
        return _list_field(item, scalar) if item.is_repeated else _one_field(item, scalar)
    return _messages_field(item, message) if item.is_repeated else _message_field(item, message)


def _one_field(item: FieldDescriptor, scalar: Scalar) -> _Field:
    attribute, convert = item.name, scalar.read
    if scalar is TIME:

        def read(message: Message, value: Any) -> None:  # noqa: ANN401 - any JSON value
            moment = convert(value)
            if moment is not None:
                getattr(message, attribute).CopyFrom(moment)
    else:

        def read(message: Message, value: Any) -> None:  # noqa: ANN401 - any JSON value
            setattr(message, attribute, convert(value))

    return _Field(item.json_name, scalar.write or _same, read, lambda: scalar.empty)


def _list_field(item: FieldDescriptor, scalar: Scalar) -> _Field:
    attribute, write = item.name, scalar.write

    def read(message: Message, value: Any) -> None:  # noqa: ANN401 - any JSON value
        if not isinstance(value, list):
            raise RefusedError(go_kind(value), f"[]{scalar.go_type}")
        zero = scalar.read(scalar.empty)
        message.ClearField(attribute)  # a member said twice: the last one counts, as in Go
        getattr(message, attribute).extend(zero if v is None else scalar.read(v) for v in value)

    written = list if write is None else lambda values: [write(v) for v in values]
    return _Field(item.json_name, written, read, list)


def _map_field(item: FieldDescriptor, scalar: Scalar) -> _Field:
    attribute, write = item.name, scalar.write

    def read(message: Message, value: Any) -> None:  # noqa: ANN401 - any JSON value
        if not isinstance(value, dict):
            raise RefusedError(go_kind(value), f"map[string]{scalar.go_type}")
        target = getattr(message, attribute)
        for key, entry in value.items():
            target[utf8(key)] = scalar.read(scalar.empty if entry is None else entry)

    written = dict if write is None else lambda values: {k: write(v) for k, v in values.items()}
    return _Field(item.json_name, written, read, dict)


def _message_map_field(item: FieldDescriptor, part_type: Descriptor) -> _Field:
    attribute, go_type = item.name, f"map[string]swarm.{part_type.name}"

    def read(message: Message, value: Any) -> None:  # noqa: ANN401 - any JSON value
        if not isinstance(value, dict):
            raise RefusedError(go_kind(value), go_type)
        target = getattr(message, attribute)
        for key, entry in value.items():
            _fill(target[utf8(key)], {} if entry is None else entry)

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
            raise RefusedError(go_kind(value), go_type)
        message.ClearField(attribute)
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
        raise RefusedError(go_kind(obj), f"swarm.{descriptor.name}")
    fields = _table(descriptor).by_name
    for name, value in obj.items():
        if value is None:
            continue
        field = fields.get(name) or fields.get(name.lower())
        try:
            if field is None and name[:1].islower():
                _left_out(descriptor.name, name[:_LONGEST_NAME])
            elif field is None:
                _refuse_unless_empty(value)
            else:
                field.read(message, value)
        except RefusedError as refused:
            refused.within(descriptor.name, name if field is None else field.name)
            raise


@lru_cache(maxsize=_MOST_NAMES)
def _left_out(message: str, name: str) -> None:
    """Say it once; a client that makes up names can have it said again, and no more."""
    _log.info("member %r of a %s is no field of the Engine API: left out", name, message)


def _same(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    return value


def _refuse_unless_empty(value: Any) -> None:  # noqa: ANN401 - any JSON value
    if not _says_nothing(value):
        raise RefusedError("{path} is not supported by this version of meshnet")


def _says_nothing(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    left = [value]  # not by recursion: a client chooses the depth
    while left:
        one = left.pop()
        if isinstance(one, dict | list):
            left.extend(one.values() if isinstance(one, dict) else one)
        elif one:
            return False
    return True
