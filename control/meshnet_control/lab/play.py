"""Plays commands on the machines of a lab and shows them as a user would type them.

``on`` runs a command once; ``until`` repeats it silently until its output is what was expected,
then shows the last round. Both give the output to the caller and the command with its output to the
audience.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab import Lab

Show = Callable[[str], None]


class StepError(LabError):
    """A step of the scenario does not hold; the sentence says what was seen instead."""


def silent(_text: str) -> None:
    """An audience that does not listen."""


@dataclass(slots=True)
class Play:
    """One run of the scenario on one lab, and what its steps tell each other.

    Attributes:
        lab: where it is played.
        show: the audience.
        notes: step's word → what it said.
        patience: every time limit is so many times as long; for machines that are emulated.
    """

    lab: Lab
    show: Show = silent
    notes: dict[str, str] = field(default_factory=dict)
    patience: float = 1.0

    def on(
        self, machine: str, command: str, *, timeout_s: float = 90.0, secret: str | None = None
    ) -> str:
        """Run a shell command on a machine and return its output, standard error included.

        Args:
            machine: h1, h2, … or client.
            command: as typed into a shell there.
            timeout_s: after that many seconds it failed.
            secret: a part of the command that is shown shortened.

        Raises:
            StepError: it failed; what it said.
        """
        self.show(_typed(machine, command, secret))
        code, output = self._run(machine, command, timeout_s)
        self.show(condensed(output))
        if code != 0:
            raise StepError(f"{machine}: {command}: exit {code}: {_last_line(output)}")
        return output

    def until(
        self, machine: str, command: str, holds: Callable[[str], bool], *, timeout_s: float = 30.0
    ) -> str:
        """Repeat a command until ``holds(its output)``; show and return that output.

        Raises:
            StepError: it did not hold in time; the last output.
        """
        limit_s = timeout_s * self.patience
        deadline = time.monotonic() + limit_s
        while True:
            asked = time.monotonic()
            code, output = self._run(machine, command, timeout_s)
            if code == 0 and holds(output):
                break
            if time.monotonic() > deadline:
                self.show(_typed(machine, command, None))
                self.show(output)
                raise StepError(f"{machine}: {command}: not as expected within {limit_s:.0f} s")
            # A slow machine needs its processor for what is waited for.
            time.sleep(max(0.1, time.monotonic() - asked))
        self.show(_typed(machine, command, None))
        self.show(output)
        return output

    def quietly(self, machine: str, command: str, *, timeout_s: float = 30.0) -> str:
        """Run a command that only the scenario itself needs.

        Raises:
            StepError: it failed; what it said.
        """
        code, output = self._run(machine, command, timeout_s)
        if code != 0:
            raise StepError(f"{machine}: {command}: exit {code}: {_last_line(output)}")
        return output.strip()

    def attempt(self, machine: str, command: str, *, timeout_s: float = 30.0) -> tuple[int, str]:
        """Run a command that may fail: its exit status and output."""
        return self._run(machine, command, timeout_s)

    def _run(self, machine: str, command: str, timeout_s: float) -> tuple[int, str]:
        argv = self.lab.command(machine, ["sh", "-c", command])
        limit_s = timeout_s * self.patience
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            seen = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else ""
            self.show(seen)
            raise StepError(f"{machine}: {command}: no end after {limit_s:.0f} s") from None
        return done.returncode, done.stdout


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the web image: ``web:1 3f0c… sees 192.168.50.100``."""

    version: str
    hostname: str
    peer: str


def answers(output: str) -> list[Answer]:
    """All answers in what a number of requests printed.

    Raises:
        StepError: a line that is no answer (a request that failed).
    """
    found = []
    for line in output.splitlines():
        words = line.split()
        if len(words) != 4 or words[2] != "sees":  # noqa: PLR2004
            raise StepError(f"no answer of the web image: {line!r}")
        found.append(Answer(words[0].partition(":")[2], words[1], words[3]))
    return found


def round_robin(names: list[str], members: int) -> bool:
    """Whether ``names`` are exactly ``members`` different ones, asked round by round."""
    return len(set(names)) == members and all(
        name == names[index % members] for index, name in enumerate(names)
    )


def condensed(output: str) -> str:
    """Output without lines that repeat the one before, as progress displays print them."""
    lines = output.splitlines()
    kept = [line for line, before in zip(lines, [None, *lines], strict=False) if line != before]
    return "\n".join(kept)


def requests(url: str, count: int) -> str:
    """The shell command for ``count`` requests, one connection each."""
    numbers = " ".join(str(number) for number in range(1, count + 1))
    return f"for i in {numbers}; do curl -sS -m 5 {url}; done"


def in_container(container: str, command: str) -> str:
    """The command that runs ``command`` in a container's shell."""
    return f"docker exec {container} sh -c {shlex.quote(command)}"


def _typed(machine: str, command: str, secret: str | None) -> str:
    shown = command.replace(secret, secret[:14] + "…") if secret else command
    return f"{machine}$ {shown}"


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
