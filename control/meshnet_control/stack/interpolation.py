"""Variables in a stack file: ``$NAME``, ``${NAME:-otherwise}`` and the like. Pure.

=============================  ==================================================
``$$``                         a dollar
``$NAME``, ``${NAME}``         its value; empty, and told, when it is not set
``${NAME:-w}``, ``${NAME-w}``  ``w`` when it is empty or not set; when it is not set
``${NAME:+w}``, ``${NAME+w}``  ``w`` when it is set and not empty; when it is set
``${NAME:?w}``, ``${NAME?w}``  refused with the words ``w`` in the cases of ``-``
=============================  ==================================================
``w`` may hold variables itself. Source: the Compose specification, 12-interpolation.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_letters, digits
from typing import Any, Final

from meshnet_control.stack.merging import Override
from meshnet_control.stack.values import StackError

_FIRST: Final = frozenset(ascii_letters + "_")
_REST: Final = _FIRST | frozenset(digits)
_SHOWN: Final = 80
_OPERATORS: Final = (":-", ":+", ":?", "-", "+", "?")


class Variables:
    """The values of variables, and which were missed.

    Args:
        values: by name.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.missed: dict[str, None] = {}
        """Names that were asked for and are not set, in order."""

    def tree(self, found: Any, where: str = "") -> Any:  # noqa: ANN401 - any YAML value
        """A tree with every text replaced; keys stay as they are.

        Raises:
            StackError: a text is malformed, or has a variable that must be set.
        """
        if isinstance(found, dict):
            dot = f"{where}." if where else ""
            return {key: self.tree(value, f"{dot}{key}") for key, value in found.items()}
        if isinstance(found, list):
            return [self.tree(value, where) for value in found]
        if isinstance(found, Override):
            return Override(self.tree(found.value, where))
        return self.text(found, where) if isinstance(found, str) else found

    def text(self, text: str, where: str = "") -> str:
        """A text with its variables replaced."""
        out, at = [], 0
        while (dollar := text.find("$", at)) >= 0:
            out.append(text[at:dollar])
            value, at = self._one(text, dollar + 1, where)
            out.append(value)
        return "".join([*out, text[at:]])

    def _one(self, text: str, at: int, where: str) -> tuple[str, int]:
        """The value of what begins after a dollar, and where it ends."""
        if text.startswith("$", at):
            return "$", at + 1
        if not text.startswith("{", at):
            name = _name(text, at)
            if not name:
                raise _malformed(text, where)
            return self._value(name), at + len(name)
        end = _closing(text, at)
        inner = text[at + 1 : end]
        name = _name(inner, 0)
        rest = inner[len(name) :]
        operator = next((each for each in _OPERATORS if rest.startswith(each)), "")
        if end < 0 or not name or (rest and not operator):
            raise _malformed(text, where)
        return self._with(name, operator, rest[len(operator) :], where), end + 1

    def _with(self, name: str, operator: str, word: str, where: str) -> str:
        value = self.values.get(name)
        there = bool(value) if operator.startswith(":") else value is not None
        match operator[-1:]:
            case "-":
                return value or "" if there else self.text(word, where)
            case "+":
                return self.text(word, where) if there else ""
            case "?" if not there:
                why = self.text(word, where) or "it must be set"
                raise StackError(f"{where}: required variable {name} is missing a value: {why}")
        return self._value(name)

    def _value(self, name: str) -> str:
        if name not in self.values:
            self.missed[name] = None
        return self.values.get(name, "")


def _name(text: str, at: int) -> str:
    if at >= len(text) or text[at] not in _FIRST:
        return ""
    end = at
    while end < len(text) and text[end] in _REST:
        end += 1
    return text[at:end]


def _closing(text: str, at: int) -> int:
    """Where the brace at ``at`` is closed; -1: nowhere."""
    depth = 0
    for index in range(at, len(text)):
        if text[index] == "{" and text[index - 1] == "$":
            depth += 1
        elif text[index] == "}":
            depth -= 1
            if not depth:
                return index
    return -1


def _malformed(text: str, where: str) -> StackError:
    if len(text) > _SHOWN:
        text = f"{text[:_SHOWN]}…"
    return StackError(f'{where}: invalid interpolation format: "{text}" (a dollar itself is $$)')
