"""A lesson: a text for students whose commands can be played, so that it stays true. Pure.

A lesson is Markdown. What is typed stands in blocks, with what was seen below it::

    <!-- expect: 3/3 -->
    <!-- within: 30s -->
    ```console
    h1$ docker service ls
    ID    NAME   MODE         REPLICAS
    …     web    replicated   3/3
    ```

``h1$`` is typed on a machine of the lab, ``$`` where the lab is. Comments before a block are about
its last command: ``expect`` is an expression (RE2) that must be found in what it prints, ``within``
how long it is tried again, ``fails`` says that it must fail. Every other command must succeed at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from meshnet.patterns import Pattern
from meshnet_control.lab import topology
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.topology import Probe

HERE: Final = ""
"""The machine that ``$`` alone is typed on."""
_OPENS: Final = "```console"
_CLOSES: Final = "```"
_DIRECTIVE = Pattern(r"<!-- (expect: |within: |fails)(.*?) ?-->", longest=300)
_TYPED = Pattern(r"([a-z0-9-]*)\$ (.+)", longest=2000)
_LONGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed, what must come of it, and what was seen when the text was written."""

    probe: Probe
    seen: tuple[str, ...]
    line: int


Piece = str | Command
"""A line of the text, or a command with what was seen."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A whole text."""

    pieces: tuple[Piece, ...]

    @property
    def commands(self) -> tuple[Command, ...]:
        """All that is typed, in order."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Command))


def parsed(text: str, name: str) -> Lesson:
    """A lesson's text, taken apart.

    Raises:
        LabError: a comment or block that cannot be understood, with its line.
    """
    pieces: list[Piece] = []
    block: list[tuple[int, str]] | None = None
    said: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if block is None:
            pieces.append(line)
            if line == _OPENS:
                block = []
            elif (found := _DIRECTIVE.match(line)) is not None:
                said[found[1].rstrip(": ")] = found[2]
        elif line == _CLOSES:
            try:
                pieces += _commands(block, said)
            except ValueError as error:
                raise LabError(f"{name}:{number}: {error}") from None
            pieces.append(line)
            block, said = None, {}
        else:
            block.append((number, line))
    if block is not None:
        raise LabError(f"{name}: a block has no end")
    return Lesson(tuple(pieces))


def written(lesson: Lesson, seen: Callable[[Command], Iterable[str]]) -> str:
    """The text again, with what was seen by ``seen``."""
    lines: list[str] = []
    for piece in lesson.pieces:
        if isinstance(piece, str):
            lines.append(piece)
        else:
            lines += [f"{piece.probe.on}$ {piece.probe.run}", *seen(piece)]
    return "\n".join(lines) + "\n"


def _commands(block: list[tuple[int, str]], said: dict[str, str]) -> list[Command]:
    found: list[Command] = []
    for number, line in block:
        typed = _TYPED.match(line)
        if typed is not None:
            probe = Probe(typed[2], typed[1], typed[2], within_s=0.0)
            found.append(Command(probe, (), number))
        elif found:
            last = found[-1]
            found[-1] = Command(last.probe, (*last.seen, line), last.line)
        else:
            raise ValueError(f"a block begins with what is typed, such as h1$ docker ps: {line!r}")
    if not found:
        raise ValueError("a block types nothing")
    last = found[-1]
    Pattern(said.get("expect", ""), longest=_LONGEST)
    probe = Probe(
        last.probe.name,
        last.probe.on,
        last.probe.run,
        said.get("expect", ""),
        "fails" in said,
        topology.delay_ms(said["within"]) / 1000 if "within" in said else 0.0,
    )
    return [*found[:-1], Command(probe, last.seen, last.line)]
