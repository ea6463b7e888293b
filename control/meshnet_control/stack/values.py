"""One mapping of a stack file, read key by key: what is left over afterwards is not known. Pure.

Numbers and booleans may stand there as text, for that is what a variable gives.

Source: the Compose specification (05-services.md, 11-extension.md), Go time.ParseDuration.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from meshnet.errors import MeshnetError
from meshnet.patterns import Pattern

_UNITS_NS: Final = {
    "ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000,
    "m": 60_000_000_000, "h": 3_600_000_000_000,
}  # fmt: skip
_UNITS_BYTES: Final = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_NUMBER: Final = Pattern(r"[-+\d._/]+([eE][-+]?\d{1,2})?", longest=64)
"""What may be one: an exponent without a bound would take all memory."""
_TRUE, _FALSE = frozenset({"true", "yes", "on", "y"}), frozenset({"false", "no", "off", "n"})


class StackError(MeshnetError):
    """A stack file that cannot be deployed; one sentence, with the place in the file."""


class Section:
    """A mapping of a stack file.

    Args:
        raw: what stands there; None is an empty one.
        where: its place, ``services.web``; empty: it is the file.

    Every method takes a key and raises ``StackError`` for what does not fit; an absent key, or one
    that is null, gives the empty value.
    """

    def __init__(self, raw: object, where: str) -> None:
        if raw is None:
            raw = {}
        if not isinstance(raw, Mapping):
            raise StackError(f"{where} must be a mapping")
        self.where = where
        self._raw: Mapping[str, Any] = raw
        self._left = {str(key) for key in raw if not str(key).startswith("x-")}

    def __contains__(self, key: str) -> bool:
        return self._raw.get(key) is not None

    def at(self, key: str) -> str:
        """The place of one of its keys."""
        return f"{self.where}.{key}" if self.where else key

    def keys(self) -> Iterator[str]:
        """Names of what it holds, extensions (``x-``) left out."""
        return (key for key in map(str, self._raw) if not key.startswith("x-"))

    def done(self) -> None:
        """See that nothing was left over.

        Raises:
            StackError: something was, by name.
        """
        if self._left:
            raise StackError(
                f"{self.where or 'the file'}: unknown key: {', '.join(sorted(self._left))}"
            )

    def take(self, key: str) -> Any:  # noqa: ANN401 - any YAML value
        """What stands there."""
        self._left.discard(key)
        return self._raw.get(key)

    def section(self, key: str) -> Section:
        """A mapping."""
        return Section(self.take(key), self.at(key))

    def sections(self, key: str) -> dict[str, Section]:
        """A mapping of mappings."""
        inner = self.section(key)
        return {name: inner.section(name) for name in inner.keys()}  # noqa: SIM118 - ours

    def items(self, key: str) -> list[Any]:
        """A sequence; one text is a sequence of one."""
        found = self.take(key)
        if found is None:
            return []
        if isinstance(found, str):
            return [found]
        if not isinstance(found, list):
            raise StackError(f"{self.at(key)} must be a list")
        return found

    def texts(self, key: str) -> list[str]:
        """A sequence of scalars."""
        return [scalar(item, self.at(key)) for item in self.items(key)]

    def text(self, key: str) -> str:
        """A scalar."""
        found = self.take(key)
        return "" if found is None else scalar(found, self.at(key))

    def words(self, key: str) -> list[str]:
        """A command: a list, or a text as a shell would split it."""
        found = self.take(key)
        if not isinstance(found, str):
            return self.texts(key)
        try:
            return shlex.split(found)
        except ValueError as error:
            raise StackError(f"{self.at(key)}: {error}") from None

    def boolean(self, key: str) -> bool:
        """True or false."""
        found = self.take(key)
        word = str(found).lower()
        if found is None or word in _FALSE:
            return False
        if word in _TRUE:
            return True
        raise StackError(f"{self.at(key)} must be true or false")

    def number(self, key: str) -> int:
        """A whole number."""
        found = self.take(key)
        try:
            return 0 if found is None else int(str(found), 10)
        except ValueError:
            raise StackError(f"{self.at(key)} must be a whole number") from None

    def fraction(self, key: str) -> Fraction:
        """A number, exactly as it is written."""
        found = str(self.take(key) or 0)
        if not _NUMBER.fits(found):
            raise StackError(f"{self.at(key)} must be a number")
        try:
            return Fraction(found)
        except (ValueError, ZeroDivisionError):
            raise StackError(f"{self.at(key)} must be a number") from None

    def duration_ns(self, key: str) -> int:
        """``1m30s`` in nanoseconds."""
        text = self.text(key)
        try:
            return duration_ns(text)
        except ValueError:
            raise StackError(f'{self.at(key)}: "{text}" is no duration like 1m30s') from None

    def size(self, key: str) -> int:
        """``64M`` in bytes."""
        text = self.text(key)
        try:
            return size(text)
        except ValueError:
            raise StackError(f'{self.at(key)}: "{text}" is no size like 64M') from None

    def pairs(self, key: str) -> dict[str, str | None]:
        """A mapping of scalars, or a list of ``KEY=VALUE``; None: no value is given."""
        return pairs(self.take(key), self.at(key))

    def labels(self, key: str = "labels") -> dict[str, str]:
        """The same, where no value is an empty one."""
        return {name: value or "" for name, value in self.pairs(key).items()}


def scalar(value: object, where: str) -> str:
    """A scalar as text, booleans as YAML writes them."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise StackError(f"{where} must be a text")


def pairs(found: object, where: str) -> dict[str, str | None]:
    """A mapping of scalars, or a list of ``KEY=VALUE``, as a mapping."""
    if found is None:
        return {}
    if isinstance(found, Mapping):
        return {
            str(name): None if value is None else scalar(value, f"{where}.{name}")
            for name, value in found.items()
        }
    if not isinstance(found, list):
        raise StackError(f"{where} must be a mapping or a list")
    split = (scalar(item, where).partition("=") for item in found)
    return {name: value if equals else None for name, equals, value in split}


def duration_ns(text: str) -> int:
    """``1h2m3.5s`` in nanoseconds; empty is none.

    Raises:
        ValueError: it is no duration.
    """
    total, rest = Fraction(0), "" if text == "0" else text
    while rest:
        digits = _leading(rest, "0123456789.")
        unit = _leading(rest[len(digits) :], "nuµmsh")
        if unit not in _UNITS_NS:
            raise ValueError(text)
        total += Fraction(digits) * _UNITS_NS[unit]
        rest = rest[len(digits) + len(unit) :]
    return int(total)


def size(text: str) -> int:
    """``64M``, ``1.5gb`` or ``1048576`` in bytes, of 1024 each; empty is none.

    Raises:
        ValueError: it is no size.
    """
    if not text:
        return 0
    digits = _leading(text, "0123456789.")
    unit = text[len(digits) :].strip().lower()
    unit = unit.removesuffix("b").removesuffix("i") if unit != "b" else unit
    if unit not in _UNITS_BYTES:
        raise ValueError(text)
    return int(Fraction(digits) * _UNITS_BYTES[unit])


def _leading(text: str, of: str) -> str:
    return text[: len(text) - len(text.lstrip(of))]
