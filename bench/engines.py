"""Labs with real Docker Engines, for the peers that are Docker itself and for our own cluster.

A lab here is the product's ``meshnet lab`` under a name of the benchmark's own, taken down at the
end.

Be aware: two labs have the same addresses, each behind its own namespaces, so several may be up.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.rounds import BenchError
from meshnet.errors import MeshnetError
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout


def _silent(_machine: str, _step: str) -> None:
    """Progress nobody looks at."""


@dataclass(frozen=True)
class Engines:
    """A lab that is up."""

    lab: Lab

    def run(self, host: str, *argv: str, timeout: float = 120) -> str:
        """What a command on a host printed.

        Raises:
            BenchError: it failed, in its own words.
        """
        done = subprocess.run(
            self.lab.command(host, argv),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise BenchError(f"{host}: {' '.join(argv)}: {done.stderr.strip()[-500:]}")
        return done.stdout.strip()

    def socket(self, host: str) -> str:
        """Path of the Engine API that ``docker`` on the host speaks to."""
        return self.lab.socket(host).removeprefix("unix://")

    def swarm(self) -> None:
        """``docker swarm init`` on h1, ``join`` on all others."""
        first, *others = self.lab.layout.hosts
        self.run(first.name, "docker", "swarm", "init", "--advertise-addr", str(first.address.ip))
        token = self.run(first.name, "docker", "swarm", "join-token", "-q", "worker")
        for host in others:
            self.run(
                host.name,
                *("docker", "swarm", "join", "--token", token),
                *("--advertise-addr", str(host.address.ip), f"{first.address.ip}:2377"),
            )

    def refuse_registry(self) -> None:
        """Let engines learn at once that no registry can be reached.

        A lab leads nowhere and its name server never answers; each task of real Swarm would wait
        for it for many seconds. That is no merit of ours, so it fails fast for everybody.
        """
        for host in self.lab.layout.hosts:
            server = self.run(
                host.name, "awk", "/^nameserver/ {print $2; exit}", "/etc/resolv.conf"
            )
            if server:
                self.run(host.name, "ip", "route", "replace", "unreachable", f"{server}/32")

    def pids(self, host: str, program: str) -> list[int]:
        """Processes of a host's own pid namespace that run ``program``, by this machine's ids.

        Without children of theirs that are about to run something else (fork, then exec).
        """
        init = re.search(
            r"-t\s*(\d+)|--target[= ](\d+)", " ".join(self.lab.command(host, ["true"]))
        )
        if init is None:
            raise BenchError(f"{host}: no process is known")
        space = Path(f"/proc/{init[1] or init[2]}/ns/pid_for_children").readlink()
        found: dict[int, int] = {}
        for proc in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (proc / "cmdline").read_bytes().decode(errors="replace").split("\0")
                names = {Path(word).name for word in words[:2]}
                if program in names and (proc / "ns/pid").readlink() == space:
                    after_name = (proc / "stat").read_text().rpartition(")")[2].split()
                    found[int(proc.name)] = int(after_name[1])
        return sorted(pid for pid, parent in found.items() if parent not in found)


@contextlib.contextmanager
def engines(name: str, hosts: int, *, engine_only: bool) -> Iterator[Engines]:
    """A lab of ``hosts`` machines that is gone afterwards.

    Raises:
        BenchError: it does not come up, in the lab's own words.
    """
    lab = Lab(Layout(name, hosts), engine_only=engine_only)
    try:
        try:
            lab.up(_silent)
        except MeshnetError as error:
            raise BenchError(f"lab {name}: {error}") from error
        up = Engines(lab)
        up.refuse_registry()
        yield up
    finally:
        lab.down(_silent)


def until(what: str, check: Callable[[], bool], seconds: float, every: float = 0.02) -> float:
    """Poll until ``check`` says yes; seconds it took.

    Raises:
        BenchError: it did not within ``seconds``.
    """
    began = time.monotonic()
    while not check():
        if time.monotonic() - began > seconds:
            raise BenchError(f"{what}: not within {seconds:g} s")
        time.sleep(every)
    return time.monotonic() - began
