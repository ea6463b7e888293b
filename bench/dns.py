"""Queries per second of our resolver, Docker's embedded one, dnsmasq and unbound, each on one core.

Docker's is a real engine with a container on a user-defined bridge network; ours is a real
``meshnet-resolver`` told by its operations of a sandbox and a network with one service. dnsperf
asks both, inside the container's namespace, at 127.0.0.11:53, what both answer themselves: A of the
other's name and of the asker's own; it runs on another core where there is one.

dnsmasq and unbound (Debian's packages, one thread, no log) have the same two names as local data,
in a namespace like ours, behind the same rule: 127.0.0.11:53 led to their port. Without that rule
they are measured, too: what it costs is what a program in a container pays for having port 53
for itself.

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
from collections.abc import Mapping, Sequence
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
from meshnet_dns.ports import RESOLVER_PORT
from meshnet_dns.redirect import rulesets

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[-1], CORES[0]
SECONDS = 3
ON_CORE = ("taskset", "-c", str(SERVER_CORE))
SERVE = "from meshnet_dns.server import main; main()"
NETWORK = NetworkId("n" * 25)
NODE = NodeId("m" * 25)
SERVICE = ServiceId("s" * 25)
SUBNET = IPv4Network("10.0.1.0/24")
KNOWN = {"server": SUBNET[2], "client": SUBNET[3]}
"""What is asked, and what all answer."""
ADDRESS = "127.0.0.11"
UNBOUND = """server:
 interface: {address}@{port}
 access-control: 127.0.0.0/8 allow
 do-daemonize: no
 num-threads: 1
 chroot: ""
 username: ""
 pidfile: ""
 directory: "{scratch}"
 use-syslog: no
 verbosity: 0
 module-config: "iterator"
"""


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
        *("-s", ADDRESS, "-p", "53", "-d", str(names), "-l", str(SECONDS), "-c", "8"),
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


def picture(*paths: str) -> Snapshot:
    """Sandboxes on one network with one service that has a VIP; the first is ``client``."""
    tasks = [TaskId(f"{at}".rjust(25, "t")) for at in range(len(paths))]
    own = IPv4Interface((KNOWN["client"], SUBNET.prefixlen))
    return Snapshot(
        revision=1,
        self_id=NODE,
        nodes={NODE: Node(NODE, "h1", IPv4Address("10.99.0.1"))},
        networks={NETWORK: Network(NETWORK, "discovery", Vni(4097), SUBNET, SUBNET[1])},
        services={SERVICE: Service(SERVICE, "server", vips={NETWORK: KNOWN["server"]})},
        endpoints={tasks[0]: Endpoint(tasks[0], "client", NODE, None, {NETWORK: own.ip})},
        sandboxes={
            task: Sandbox(task, path, ((NETWORK, own),), None)
            for task, path in zip(tasks, paths, strict=True)
        },
    )


def tell(operations: Operations[Any, Any, Any], snapshot: Snapshot) -> None:
    """One round of a reconciler."""
    desired = operations.desired(snapshot)
    changes = operations.plan(desired, operations.observe(desired), prune=True)
    operations.apply(changes)


def dnsmasq(bed: Bed, short: str, port: int) -> int:
    """dnsmasq in a namespace; its process."""
    known = [f"--host-record={name},{address}" for name, address in KNOWN.items()]
    where = (f"--listen-address={ADDRESS}", f"--port={port}", "--bind-interfaces")
    alone = ("--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts")
    ends = ("--user=root", "--pid-file=", "--local-ttl=1")
    return bed.start(short, *ON_CORE, "dnsmasq", *alone, *where, *ends, *known).pid


def unbound(bed: Bed, short: str, port: int, scratch: Path) -> int:
    """unbound in a namespace, with one thread; its process."""
    config = scratch / f"unbound-{short}.conf"
    known = [
        f' local-zone: "{name}." static\n local-data: "{name}. 1 IN A {address}"\n'
        for name, address in KNOWN.items()
    ]
    config.write_text(UNBOUND.format(address=ADDRESS, port=port, scratch=scratch) + "".join(known))
    return bed.start(short, *ON_CORE, "unbound", "-d", "-c", str(config)).pid


def answers(bed: Bed, short: str) -> bool:
    """Whether who answers in a namespace answers as all do."""
    found = run(
        *("ip", "netns", "exec", bed.name(short), "dig", f"@{ADDRESS}"),
        *("+short", "+tries=1", "+time=1", "server", "A"),
        check=False,
    )
    return found.strip() == str(KNOWN["server"])


def others(bed: Bed, scratch: Path, names: Path) -> dict[str, Contender]:
    """dnsmasq and unbound, each behind our rule (``-led``) and at port 53 itself."""
    found = {}
    for program in ("dnsmasq", "unbound"):
        for how, port in (("-led", RESOLVER_PORT), ("", 53)):
            short = f"{program[:1]}{port}"
            bed.netns(short)
            if program == "dnsmasq":
                pid = dnsmasq(bed, short, port)
            else:
                pid = unbound(bed, short, port, scratch)
            enter = ("ip", "netns", "exec", bed.name(short))
            found[program + how] = Contender(enter, names, [pid])
    return found


def measure() -> list[Line]:
    with (
        tempfile.TemporaryDirectory(prefix="mb-dns") as scratch,
        Bed("d") as bed,
        engines("mbdns", 1, engine_only=True) as peer,
    ):
        names = Path(scratch) / "names"
        names.write_text("".join(f"{name} A\n" for name in KNOWN))
        peer.run("h1", "docker", "network", "create", "usernet")
        start = ("docker", "run", "-d", "--network", "usernet", "--name")
        peer.run("h1", *start, "server", "meshnet/tools:1", "sleep", "100000")
        peer.run("h1", *start, "client", "meshnet/tools:1", "sleep", "100000")
        key = peer.run("h1", "docker", "inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "client")
        engine = peer.pids("h1", "dockerd")
        pin(engine)
        sides = {
            "docker": Contender(peer.lab.command("h1", ["nsenter", f"--net={key}"]), names, engine)
        }

        bed.netns("c")
        sides |= others(bed, Path(scratch), names)
        redirect = NftOperations([rulesets])
        with (Path(scratch) / "log").open("wb") as log:
            resolver = subprocess.Popen(
                [*ON_CORE, sys.executable, "-c", SERVE, "--run-dir", scratch],
                stderr=log,
            )
        try:
            socket = Path(scratch) / "resolver.sock"
            until(f"meshnet-resolver in {scratch}", socket.is_socket, 20)
            ports = [f"{short}{RESOLVER_PORT}" for short in ("d", "u")]
            tell(redirect, picture(*map(bed.path, ["c", *ports])))
            tell(ResolverOperations(Path(scratch)), picture(bed.path("c")))
            for short in ("c", *ports, "d53", "u53"):
                until(f"an answer in {short}", lambda short=short: answers(bed, short), 20)
            ours = ("ip", "netns", "exec", bed.name("c"))
            sides["meshnet"] = Contender(ours, names, [resolver.pid])
            seen = interleave({name: side.measure for name, side in sides.items()})
        finally:
            resolver.terminate()
            resolver.wait(10)
            redirect.close()
    return lines(seen, sides["meshnet"].rates, sides["docker"].rates)


def lines(
    seen: Mapping[str, Sequence[float]], rate: Sequence[float], dockers: Sequence[float]
) -> list[Line]:
    """The table's rows of what was seen."""
    ours, what = seen["meshnet"], "DNS answers per second of one core's time, against"
    goals = [
        ("Docker's embedded resolver", "docker", Goal(3.5, at_least=True)),
        ("dnsmasq behind the same rule", "dnsmasq-led", Goal(1.0, at_least=True)),
        ("unbound behind the same rule", "unbound-led", Goal(1.0, at_least=True)),
        ("dnsmasq that has port 53 itself", "dnsmasq", None),
        ("unbound that has port 53 itself", "unbound", None),
    ]
    found = [Line(f"{what} {peer}", goal, ours, seen[side], "q/s") for peer, side, goal in goals]
    clock = (
        "DNS answers by the clock, against Docker's embedded resolver, as far as one core of"
        " dnsperf and the neighbours let it"
    )
    return [*found, Line(clock, None, rate, dockers, "q/s")]
