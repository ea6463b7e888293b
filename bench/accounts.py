"""What became of each request of a load: answered, lost, or beyond anybody's saving.

A request is told by where it entered and its source port; conntrack says there which backends it
was led to.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Row = tuple[str, float, float, str, int, str]
"""A request, as ``load.py`` prints it."""


@dataclass(frozen=True)
class Account:
    """What became of the requests of one fault."""

    what: str
    sent: int
    excused: int
    """Lost, but entered at or led to a host that was off or cut."""
    lost: dict[str, int]
    """(where it entered: why) to the number of others that were lost."""
    slowest_s: float

    @property
    def total_lost(self) -> int:
        return sum(self.lost.values())


def account(
    what: str, rows: Sequence[Row], choices: Choices, excuses: Callable[[str, str], bool]
) -> Account:
    """The sum of a load.

    Args:
        what: took place meanwhile.
        rows: its requests.
        choices: where they were led to.
        excuses: whether nobody could have brought one from a label to an address ("": not known).
    """
    excused, lost = 0, dict[str, int]()
    for label, _, _, outcome, port, _ in rows:
        if outcome == "ok":
            continue
        if any(excuses(label, to) for to in choices.of(label, port) or [""]):
            excused += 1
        else:
            why = f"{label}: {outcome}"
            lost[why] = lost.get(why, 0) + 1
    slowest = max(
        (seconds for _, _, seconds, outcome, _, _ in rows if outcome == "ok"), default=0.0
    )
    return Account(what, len(rows), excused, lost, slowest)


class Choices:
    """Which backends each request was led to: what conntrack said where it entered, as it happened.

    A look afterwards is not enough: an entry whose client gave up may be gone by then.

    Args:
        ways: label of each way in -> the command that prints there what ``watching`` does.
    """

    def __init__(self, ways: Mapping[str, list[str]]) -> None:
        self._made: dict[tuple[str, int], list[tuple[float, str]]] = {}
        self._heard = [self._listen(label, argv) for label, argv in ways.items()]

    def of(
        self, label: str, port: int, since: float = 0.0, until: float = float("inf")
    ) -> list[str]:
        """Addresses that the request from ``port`` was led to, the last one last.

        Args:
            label, port: where it entered, and from which port.
            since, until: Unix seconds, as a long load comes to the same port again.
        """
        return [to for at, to in self._made.get((label, port), []) if since <= at <= until]

    def end(self) -> None:
        for process, reader in self._heard:
            os.killpg(process.pid, signal.SIGTERM)  # nsenter has a child
            process.wait()
            reader.join()

    def _listen(
        self, label: str, argv: list[str]
    ) -> tuple[subprocess.Popen[str], threading.Thread]:
        process = subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        reader = threading.Thread(target=self._read, args=(label, process))
        reader.start()
        return process, reader

    def _read(self, label: str, process: subprocess.Popen[str]) -> None:
        with contextlib.closing(process.stdout or io.StringIO()) as said:
            for line in said:
                sources, ports = re.findall(r"src=(\S+)", line), re.findall(r"sport=(\d+)", line)
                if len(sources) > 1 and ports:
                    self._made.setdefault((label, int(ports[0])), []).append(
                        (time.time(), sources[1])
                    )


def watching(port: int) -> list[str]:
    """The command that prints each new connection to ``port``."""
    return ["conntrack", "-E", "-e", "NEW", "-p", "tcp", "--dport", str(port)]
