"""Hosts of a lab, a docker CLI on each, and what they say."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from docker_clis import distinct_clis

from meshnet_control.lab import adapter
from meshnet_control.lab.lab import Lab

WEB = "meshnet/web:1"
"""An image of every lab: a web server that says who is asked and who asks."""


class Hosts:
    """The hosts h1 and h2 of a lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        clis = distinct_clis()
        self.cli = {"h1": clis[0], "h2": clis[-1]}

    def ask(self, host: str, *command: str) -> tuple[int, str]:
        """Exit status and everything said."""
        done = subprocess.run(
            self.lab.command(host, list(command)),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
        )  # fmt: skip
        return done.returncode, done.stdout.strip()

    def sh(self, host: str, command: str) -> str:
        code, said = self.ask(host, "sh", "-c", command)
        assert code == 0, f"{host}: {command}: {said}"
        return said

    def docker(self, host: str, words: str) -> str:
        code, said = self.ask(host, self.cli[host], *words.split())
        assert code == 0, f"{host}: docker {words}: {said}"
        return said

    def refused(self, host: str, words: str) -> str:
        code, said = self.ask(host, self.cli[host], *words.split())
        assert code != 0, f"{host}: docker {words}: {said}"
        return said

    def pings(self, host: str, container: str, name: str) -> bool:
        """One packet, a second at most: no second chance."""
        return self.ask(host, "docker", "exec", container, "ping", "-c1", "-w1", name)[0] == 0

    def soon(self, what: str, condition: Callable[[], bool]) -> None:
        adapter.wait_for(what, condition, timeout_s=20, interval_s=0.2)

    def address(self, host: str, container: str, interface: str = "eth0") -> str:
        said = self.docker(host, f"exec {container} ip -4 -o addr show {interface}").split()
        return said[3].partition("/")[0]
