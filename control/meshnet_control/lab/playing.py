"""Plays a lesson on a lab: its text aloud, its commands for real."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from meshnet_control.lab.errors import LabError
from meshnet_control.lab.hosts import scripts_path
from meshnet_control.lab.lesson import HERE, Command, Lesson
from meshnet_control.lab.play import Play, StepError
from meshnet_control.lab.probing import judged

_COMMAND_S: Final = 120.0
_PAUSE_S: Final = 0.3
_FENCE: Final = "```"


@dataclass(slots=True)
class Playing:
    """One lesson on one lab.

    Attributes:
        play: where it is played, and the audience.
        wait: called before each command; a teacher's pause.
        seen: what each command printed.
    """

    play: Play
    wait: Callable[[], None] = lambda: None
    seen: dict[Command, tuple[str, ...]] = field(default_factory=dict)

    def run(self, lesson: Lesson) -> None:
        """All of it, in order.

        Raises:
            StepError: something that is seen is not as the text says; with the text's line.
        """
        for piece in lesson.pieces:
            if isinstance(piece, Command):
                self.wait()
                self._type(piece)
            elif not piece.startswith((_FENCE, "<!--")):
                self.play.show(piece)

    def _type(self, command: Command) -> None:
        probe = command.probe
        self.play.show(f"{probe.on}$ {probe.run}")
        end = time.monotonic() + probe.within_s * self.play.patience
        while True:
            code, output = self._once(command)
            holds, why = judged(probe, code, output)
            if holds or time.monotonic() >= end:
                break
            time.sleep(_PAUSE_S)
        self.seen[command] = tuple(tidy(output))
        self.play.show("\n".join(self.seen[command]))
        if not holds:
            raise StepError(f"line {command.line}: {probe.on}$ {probe.run}: {why}")

    def _once(self, command: Command) -> tuple[int, str]:
        probe = command.probe
        if probe.on != HERE:
            return self.play.attempt(probe.on, probe.run, timeout_s=_COMMAND_S)
        named = {"MESHNET_LAB": self.play.lab.layout.name, "PATH": scripts_path()}
        try:
            done = subprocess.run(
                ["sh", "-c", probe.run],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, **named},
                timeout=_COMMAND_S * self.play.patience,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"line {command.line}: {probe.run}: no end") from None
        return done.returncode, done.stdout


def tidy(output: str) -> Iterable[str]:
    """Lines as they stand in a text: tabs are spaces, and none are at their ends. Pure."""
    return [line.expandtabs().rstrip() for line in output.strip("\n").splitlines()]
