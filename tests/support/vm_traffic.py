"""Requests to a service on virtual machines while something happens there, each accounted for.

From outside through every host, and by name and VIP from inside a container of each. The generator
is ``bench/load.py``.

Be aware: times of requests from inside are by the machine's own clock, so ``after`` counts those
from outside alone.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import load

from meshnet_control.lab.play import Play

LOAD = Path(load.__file__)
PYTHON = "/opt/meshnet/bin/python"
PORT = 8080
_THERE = "/run/load.py"

Row = tuple[str, float, float, str, int, str]


@dataclass
class Account:
    """What became of the requests.

    Attributes:
        rows: as ``bench/load.py`` prints them, complete when the traffic has ended.
        ended_at: when the cause had ended, unix seconds; None: it has none.
    """

    rows: list[Row] = field(default_factory=list)
    ended_at: float | None = None

    def cause_ends(self) -> None:
        """What is done to the machines has been done."""
        self.ended_at = time.time()

    @property
    def lost(self) -> Counter[str]:
        """(way: why) → how many."""
        return Counter(f"{label}: {why}" for label, _, _, why, _, _ in self.rows if why != "ok")

    @property
    def recovery_s(self) -> float:
        """Seconds from the cause's end to the beginning of the last request that was lost."""
        assert self.ended_at is not None
        begun = [
            row[1] - self.ended_at
            for row in self.rows
            if row[3] != "ok" and not row[0].startswith("in ")
        ]
        return max([0.0, *begun])

    def __str__(self) -> str:
        slowest = max((row[2] for row in self.rows if row[3] == "ok"), default=0.0)
        lost = sum(self.lost.values())
        recovery = f", recovery {self.recovery_s:.1f} s" if self.ended_at else ""
        said = f"{lost} of {len(self.rows)} lost{recovery}, slowest {slowest:.1f} s {self.lost}"
        return f"{said}\nlost in each ten seconds: {self.course}"

    @property
    def course(self) -> str:
        """``lost/asked`` for each ten seconds, of requests from outside."""
        rows = [row for row in self.rows if not row[0].startswith("in ")]
        first = min((row[1] for row in rows), default=0.0)
        asked = Counter(int((row[1] - first) // 10) for row in rows)
        lost = Counter(int((row[1] - first) // 10) for row in rows if row[3] != "ok")
        return " ".join(f"{lost[ten]}/{asked[ten]}" for ten in sorted(asked))


def send(play: Play, host: str, command: str, content: bytes) -> None:
    """Give a command of a machine its input."""
    argv = play.lab.command(host, ["sh", "-c", command])
    subprocess.run(argv, input=content, check=True, timeout=1800)


@contextlib.contextmanager
def traffic(
    play: Play,
    *,
    outside: tuple[str, ...] = ("h1", "h2"),
    inside: tuple[str, ...] = ("h1",),
    outside_per_s: float = 4.0,
    inside_per_s: float = 1.0,
    after_s: float = 6.0,
    limit_s: float = 5.0,
) -> Iterator[Account]:
    """Traffic from before the body until ``after_s`` after it.

    Args:
        play: the machines.
        outside: hosts that are asked from outside.
        inside: hosts with a container that asks by name.
        outside_per_s: requests of all from outside; an emulated machine can bear few.
        inside_per_s: requests of each container.
        after_s: seconds.
        limit_s: seconds after which a request is lost.
    """
    account = Account()
    ways = [f"{host}={play.lab.layout.machine(host).address.ip}:{PORT}" for host in outside]
    local = [sys.executable, str(LOAD), f"{outside_per_s}/{limit_s}", *ways]
    commands = [play.lab.command("client", local)]
    for host in inside:
        send(play, host, f"cat > {_THERE}", LOAD.read_bytes())
        container = play.quietly(host, "docker ps -qf name=client. | head -1")
        pid = play.quietly(host, f"docker inspect -f '{{{{.State.Pid}}}}' {container}")
        generator = [PYTHON, _THERE, f"{inside_per_s}/{limit_s}", f"in {host}=web"]
        argv = ["nsenter", "-t", pid, "-n", *generator]
        commands.append(play.lab.command(host, argv))
    pipe = subprocess.PIPE
    running = [subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) for argv in commands]
    try:
        for each in running:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        time.sleep(1.5)
        yield account
        time.sleep(after_s)
        for each in running:
            said, _ = each.communicate("\n", timeout=1800)
            account.rows += [tuple(json.loads(line)) for line in said.splitlines()]
    finally:
        for each in running:
            each.kill()
            each.wait()
        play.show(f"traffic: {account}")
