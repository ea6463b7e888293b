"""YAML whose every value knows its line, and complaints that say it. Pure.

A :class:`Section` is a mapping of the file that is taken apart key by key: what is not of the kind
it should be, and what nobody took, is a complaint; the reading goes on, so that all are told at
once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from meshnet_control.lab.errors import meant

_NULLS: Final = ("", "~", "null")
_BOOLS: Final = {"true": True, "false": False, "yes": True, "no": False}


@dataclass(frozen=True, slots=True, order=True)
class Complaint:
    """What is wrong in which line (from 1), and where in the tree."""

    line: int
    where: str
    why: str

    def __str__(self) -> str:
        return (
            f"{self.line}: {self.where}: {self.why}" if self.where else f"{self.line}: {self.why}"
        )


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the file and where it stands."""

    node: Node
    where: str
    complaints: list[Complaint]

    @property
    def line(self) -> int:
        """From 1."""
        return int(self.node.start_mark.line) + 1

    def wrong(self, why: str) -> None:
        """Complain of it."""
        self.complaints.append(Complaint(self.line, self.where, why))

    def text(self) -> str:
        """A text or number as it is written; complained of and empty if it is none."""
        if isinstance(self.node, ScalarNode):
            return str(self.node.value)
        self.wrong("must be a text")
        return ""

    def truth(self) -> bool:
        """True or false; complained of and false if it is neither."""
        said = self.node.value if isinstance(self.node, ScalarNode) else None
        if said not in _BOOLS:
            self.wrong("must be true or false")
        return _BOOLS.get(said or "", False)

    def items(self) -> list[Value]:
        """Of a list; complained of and empty if it is none."""
        if isinstance(self.node, SequenceNode):
            return [
                Value(each, f"{self.where}[{at}]", self.complaints)
                for at, each in enumerate(self.node.value)
            ]
        if not self._is_nothing():
            self.wrong("must be a list")
        return []

    def section(self) -> Section:
        """Of a mapping; complained of and empty if it is none."""
        found: dict[str, Value] = {}
        if isinstance(self.node, MappingNode):
            for key, value in self.node.value:
                name = str(key.value) if isinstance(key, ScalarNode) else "?"
                where = f"{self.where}.{name}" if self.where else name
                if name in found:
                    Value(key, where, self.complaints).wrong("is there twice")
                # A value that is left out has its key's line.
                found[name] = Value(value if _has_text(value) else _at(value, key), where,
                                    self.complaints)  # fmt: skip
        elif not self._is_nothing():
            self.wrong("must be a mapping")
        return Section(self, found)

    def _is_nothing(self) -> bool:
        return isinstance(self.node, ScalarNode) and self.node.value in _NULLS


@dataclass(slots=True)
class Section:
    """A mapping of the file."""

    whole: Value
    values: dict[str, Value]
    _taken: set[str] = field(default_factory=set)

    def take(self, name: str) -> Value | None:
        """The value of a key, if it is there."""
        self._taken.add(name)
        return self.values.get(name)

    def entries(self) -> Iterator[tuple[str, Value]]:
        """All keys, which are names, with their values."""
        self._taken.update(self.values)
        yield from self.values.items()

    def done(self) -> None:
        """Complain of keys that nobody took."""
        for name, value in self.values.items():
            if name not in self._taken:
                known = ", ".join(sorted(self._taken))
                value.wrong(f"is no word here{meant(name, self._taken)} (known: {known})")


def read(text: str) -> tuple[Value | None, list[Complaint]]:
    """The top of a text of YAML, and the list that everything of it complains into.

    Returns:
        No value where it is no YAML or empty; the complaint says why.
    """
    complaints: list[Complaint] = []
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        complaints.append(Complaint(line, "", " ".join(str(error.problem).split())))
        return None, complaints
    except (YAMLError, RecursionError, ValueError) as error:
        complaints.append(Complaint(1, "", f"this is no YAML: {error}"))
        return None, complaints
    if node is None:
        complaints.append(Complaint(1, "", "the file is empty"))
        return None, complaints
    return Value(node, "", complaints), complaints


def _has_text(node: Node) -> bool:
    return not (isinstance(node, ScalarNode) and node.value == "")


def _at(node: Node, key: Node) -> ScalarNode:
    return ScalarNode(node.tag, "", key.start_mark, key.end_mark)
