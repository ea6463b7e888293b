"""Network namespaces, cables and processes a benchmark stands on, all gone when it ends.

Every namespace made here starts with ``mb`` and this process' id. Processes are started inside of
one, in a session of their own, and killed by their process group.

Be aware: links that end in a namespace die with it, so removing the namespaces is all of the
cleaning. Namespaces are entered through ip(8), so programs see their own /sys.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.rounds import BenchError
from meshnet.kernel import netns
from meshnet.kernel.iproute import iproute

NETNS = netns.NETNS_DIR
SPIN = Path(__file__).with_name("crr.py")


def run(*argv: str, text: str | None = None, timeout: float = 120, check: bool = True) -> str:
    """Run a program and return what it printed.

    Raises:
        BenchError: it failed; with its own words.
    """
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode:
        words = (done.stderr or done.stdout).strip()[-800:]
        raise BenchError(f"{shlex.join(argv)} failed: {words}")
    return done.stdout


class Bed:
    """Namespaces and processes of one benchmark; a context manager that removes them."""

    def __init__(self, prefix: str) -> None:
        self.prefix = f"mb{os.getpid()}{prefix}"
        self._made: list[str] = []
        self._procs: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Bed:
        return self

    def __exit__(self, *_: object) -> None:
        for proc in self._procs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(proc.pid, signal.SIGKILL)
            proc.wait()
        for name in reversed(self._made):
            netns.delete(NETNS / name)

    def name(self, short: str) -> str:
        return self.prefix + short

    def path(self, short: str) -> str:
        return str(NETNS / self.name(short))

    def netns(self, short: str, *, forward: bool = False) -> str:
        """Make a namespace with its loopback up and return its full name."""
        name = self.name(short)
        self._made.append(name)
        netns.create(NETNS / name)
        with iproute(self.path(short)) as ip:
            ip.link("set", index=1, state="up")
        self.sysctl(short, "net.ipv4.ip_local_port_range=1024 65535")
        with contextlib.suppress(BenchError):  # br_netfilter is not loaded: as good as off
            self.sysctl(short, "net.bridge.bridge-nf-call-iptables=0")
        if forward:
            self.sysctl(
                short,
                "net.ipv4.ip_forward=1",
                "net.ipv4.conf.all.rp_filter=0",
                "net.ipv4.conf.default.rp_filter=0",
            )
        return name

    def sysctl(self, short: str, *settings: str) -> None:
        self.inside(short, "sysctl", "-qw", *settings)

    def ip(self, short: str, *commands: str) -> None:
        """ip(8) commands, one per string, in a namespace, in one batch."""
        run("ip", "-n", self.name(short), "-batch", "-", text="\n".join(commands) + "\n")

    def bridge(self, short: str, *commands: str) -> None:
        """bridge(8) commands, one per string, in a namespace, in one batch."""
        run("bridge", "-n", self.name(short), "-batch", "-", text="\n".join(commands) + "\n")

    def nft(self, short: str, ruleset: str) -> None:
        run("ip", "netns", "exec", self.name(short), "nft", "-f", "-", text=ruleset)

    def veth(
        self, one: str, at_one: str, other: str, at_other: str, *, mtu: int = 1500, mac: str = ""
    ) -> None:
        """A cable between two namespaces, both ends up; ``mac`` is the first end's."""
        own = {"address": mac} if mac else {}
        peer = {"ifname": at_other, "mtu": mtu, "net_ns_fd": self.path(other)}
        with iproute(self.path(one)) as ip:
            ip.link("add", ifname=at_one, kind="veth", mtu=mtu, peer=peer, **own)
        for short, link in ((one, at_one), (other, at_other)):
            with iproute(self.path(short)) as ip:
                ip.link("set", index=ip.link_lookup(ifname=link)[0], state="up")

    def inside(self, short: str, *argv: str, timeout: float = 120) -> str:
        return run("ip", "netns", "exec", self.name(short), *argv, timeout=timeout)

    def start(self, short: str, *argv: str) -> subprocess.Popen[bytes]:
        """Start a program in a namespace; it is killed when the bed is left."""
        proc = subprocess.Popen(
            ["ip", "netns", "exec", self.name(short), *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._procs.append(proc)
        return proc

    def converse(self, short: str, *argv: str) -> subprocess.Popen[bytes]:
        """The same, with pipes to and from it; what it complains of comes the same way."""
        proc = subprocess.Popen(
            ["ip", "netns", "exec", self.name(short), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._procs.append(proc)
        return proc

    def serve(self, short: str, port: int, *, iperf: bool = False) -> None:
        """Start the answering end of a measurement in a namespace and wait until it listens."""
        if iperf:
            self.start(short, *PINNED, "iperf3", "-s", "-p", str(port))
        else:
            self.start(short, *PINNED, sys.executable, str(SPIN), "serve", str(port))
        self.wait(short, port)

    def wait(self, short: str, port: int, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not self.inside(short, "ss", "-Hltn", f"sport = :{port}").strip():
            if time.monotonic() > deadline:
                raise BenchError(f"nothing listens on port {port} of {short} after {seconds:g} s")
            time.sleep(0.02)

    def rate(self, short: str, address: str, port: int, seconds: float = 1.0) -> float:
        """New connections per second from a namespace, one at a time, all ends on one core."""
        argv = (*PINNED, sys.executable, str(SPIN), "load", address, str(port), str(seconds))
        return float(self.inside(short, *argv).split()[0])

    def peers_seen(self, short: str, address: str, port: int) -> set[str]:
        """Which client addresses the servers behind ``address`` saw in a short run."""
        argv = (sys.executable, str(SPIN), "seen", address, str(port))
        return set(self.inside(short, *argv).split())

    def gbps(self, short: str, address: str, port: int, seconds: float = 1.0) -> float:
        """Gbit/s one TCP stream carries from a namespace to an iperf3 server."""
        out = self.inside(
            short, *CLIENT, *("iperf3", "-J", "-c", address, "-p", str(port), "-t", str(seconds))
        )
        return float(json.loads(out)["end"]["sum_received"]["bits_per_second"]) / 1e9


CLIENT: Sequence[str] = ("taskset", "-c", str(min(os.sched_getaffinity(0))))
"""Puts the sending end of a stream on another core than its receiver, where there is one."""

PINNED: Sequence[str] = ("taskset", "-c", str(max(os.sched_getaffinity(0))))
"""Puts client, server and the softirqs between them on one core, so that cost shows as speed."""
