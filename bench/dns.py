"""Queries per second of our resolver and of Docker's embedded one, each held to the same one core.

Docker's is a real engine with a container on a user-defined bridge network; ours is a real
``meshnet-resolver`` told by its operations of a sandbox and a network with one service. dnsperf
asks both, inside the container's namespace, at 127.0.0.11:53, what both answer themselves: A of the
other's name and of the asker's own; it runs on another core where there is one.

Compared is what the server's core is worth: answers per second of processor time that the server
spent (user and system, all threads). dnsperf spends 9 to 10 us on a query, more than we do, so that
the rate of the clock shows dnsperf's core and the neighbours' load; it is a row without a goal.

Be aware: Docker's resolver is a part of dockerd, so dockerd as a whole is pinned and counted; what
it does besides, with two containers that sleep, is under 1 % of that.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from bench.bed import Bed, run
from bench.engines import engines, until
from bench.rounds import BenchError, Goal, Line, interleave
from meshnet.kernel.nft import NftOperations
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.snapshot import Endpoint, Network, Node, Sandbox, Service, Snapshot
from meshnet.reconcile import Operations
from meshnet_dns.operations import ResolverOperations
from meshnet_dns.redirect import rulesets

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[-1], CORES[0]
SECONDS = 3
ON_CORE = ("taskset", "-c", str(SERVER_CORE))
SERVE = "from meshnet_dns.server import main; main()"
NETWORK = NetworkId("n" * 25)
NODE = NodeId("m" * 25)
SERVICE = ServiceId("s" * 25)
TASK = TaskId("t" * 25)


def pin(pids: Sequence[int]) -> None:
    """Hold processes, with all their threads, to the servers' core."""
    if not pids:
        raise BenchError("there is no process to hold to a core")
    for pid in pids:
        run("taskset", "-acp", str(SERVER_CORE), str(pid))


def queries(enter: Sequence[str], names: Path) -> float:
    """Queries per second dnsperf gets answered inside a namespace (the command to enter it)."""
    out = run(
        *(*enter, "taskset", "-c", str(CLIENT_CORE), "dnsperf"),
        *("-s", "127.0.0.11", "-p", "53", "-d", str(names), "-l", str(SECONDS), "-c", "8"),
    )
    rate = re.search(r"Queries per second:\s*([\d.]+)", out)
    lost = re.search(r"Queries lost:\s*(\d+)", out)
    good = re.search(r"NOERROR \d+ \(100\.00%\)", out)
    if rate is None or lost is None or good is None or int(lost[1]) > 0:
        raise BenchError(f"dnsperf did not get all its answers: {out[-600:]}")
    return float(rate[1])


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time that processes, with all their threads, have used."""
    ticks = 0
    for pid in pids:
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


class Contender:
    """One server: how to ask it, and the rates that dnsperf reached (``rates``, one per round)."""

    def __init__(self, enter: Sequence[str], names: Path, pids: Sequence[int]) -> None:
        self._enter, self._names, self._pids = enter, names, pids
        self.rates: list[float] = []

    def measure(self) -> float:
        """Answers per second of processor time."""
        before = cpu_seconds(self._pids)
        self.rates.append(queries(self._enter, self._names))
        return self.rates[-1] * SECONDS / (cpu_seconds(self._pids) - before)


def picture(netns: str) -> Snapshot:
    """One sandbox on one network with one service that has a VIP."""
    subnet = IPv4Network("10.0.1.0/24")
    return Snapshot(
        revision=1,
        self_id=NODE,
        nodes={NODE: Node(NODE, "h1", IPv4Address("10.99.0.1"))},
        networks={NETWORK: Network(NETWORK, "discovery", Vni(4097), subnet, subnet[1])},
        services={SERVICE: Service(SERVICE, "server", vips={NETWORK: subnet[2]})},
        endpoints={TASK: Endpoint(TASK, "client", NODE, None, {NETWORK: subnet[3]})},
        sandboxes={TASK: Sandbox(TASK, netns, ((NETWORK, IPv4Interface("10.0.1.3/24")),), None)},
    )


def tell(operations: Operations[Any, Any, Any], snapshot: Snapshot) -> None:
    """One round of a reconciler."""
    desired = operations.desired(snapshot)
    changes = operations.plan(desired, operations.observe(desired), prune=True)
    operations.apply(changes)


def measure() -> list[Line]:
    with (
        tempfile.TemporaryDirectory(prefix="mb-dns") as scratch,
        Bed("d") as bed,
        engines("mbdns", 1, engine_only=True) as peer,
    ):
        names = Path(scratch) / "names"
        names.write_text("server A\nclient A\n")
        peer.run("h1", "docker", "network", "create", "usernet")
        start = ("docker", "run", "-d", "--network", "usernet", "--name")
        peer.run("h1", *start, "server", "meshnet/tools:1", "sleep", "100000")
        peer.run("h1", *start, "client", "meshnet/tools:1", "sleep", "100000")
        key = peer.run("h1", "docker", "inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "client")
        dockers = peer.lab.command("h1", ["nsenter", f"--net={key}"])
        engine = peer.pids("h1", "dockerd")
        pin(engine)

        bed.netns("c")
        ours = ("ip", "netns", "exec", bed.name("c"))
        with (Path(scratch) / "log").open("wb") as log:
            resolver = subprocess.Popen(
                [*ON_CORE, sys.executable, "-c", SERVE, "--run-dir", scratch],
                stderr=log,
            )
        redirect = NftOperations([rulesets])
        try:
            socket = Path(scratch) / "resolver.sock"
            until(f"meshnet-resolver in {scratch}", socket.is_socket, 20)
            tell(redirect, picture(bed.path("c")))
            tell(ResolverOperations(Path(scratch)), picture(bed.path("c")))
            sides = {
                "meshnet": Contender(ours, names, [resolver.pid]),
                "docker": Contender(dockers, names, engine),
            }
            seen = interleave({name: side.measure for name, side in sides.items()})
        finally:
            resolver.terminate()
            resolver.wait(10)
            redirect.close()
    return [
        Line(
            "DNS answers per second of one core's time, against Docker's embedded resolver",
            Goal(2.0, at_least=True),
            seen["meshnet"],
            seen["docker"],
            "q/s",
        ),
        Line(
            "the same by the clock, as far as one core of dnsperf and the neighbours let it",
            None,
            sides["meshnet"].rates,
            sides["docker"].rates,
            "q/s",
        ),
    ]
