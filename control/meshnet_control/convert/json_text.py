"""JSON as clients send it: text that is checked once, so that nothing behind it meets a surprise.

PURE. Refused: what is not UTF-8 (RFC 8259, 8.1), half a surrogate pair, NaN and infinities, numbers
of more digits than Python reads, more than some hundred levels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from meshnet.errors import ControlError
from meshnet_control.convert.scalars import go_kind


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        ControlError: broken, or another JSON value (400).
    """
    value = parse_json(raw)
    if isinstance(value, dict):
        return value
    raise ControlError(f"the body must be a JSON object, not a value of type {go_kind(value)}")


def parse_json(raw: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """A JSON value.

    Raises:
        ControlError: broken, in the words of Go's decoder where it has them (400).
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ControlError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        value = json.loads(text, parse_constant=_no_number)
        if "\\ud" in text.lower():  # half a surrogate pair is no text and would spoil the store
            json.dumps(value, ensure_ascii=False).encode()
        return value  # noqa: TRY300 - one try for both
    except UnicodeEncodeError:
        raise ControlError("the body has half a surrogate pair, which is no character") from None
    except RecursionError:
        raise ControlError("exceeded max depth") from None
    except json.JSONDecodeError as error:
        if not text.strip():
            raise ControlError("EOF") from None
        rest = text[error.pos :].strip()
        if not rest:
            raise ControlError("unexpected EOF") from None
        raise ControlError(
            f"invalid character {rest[0]!r} looking for beginning of value"
        ) from None
    except ValueError as error:  # a number of more digits than Python reads
        raise ControlError(f"invalid number in the body: {error}") from None


def part(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object inside of an object; empty where there is none, or something else."""
    inner = found.get(name)
    return inner if isinstance(inner, dict) else {}


def _no_number(said: str) -> NoReturn:
    character = said.removeprefix("-")[0]
    raise ControlError(f"invalid character '{character}' looking for beginning of value")
