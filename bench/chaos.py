"""Requests lost while processes, hosts, cables and the kernel's state are taken away.

Three hosts, a published service of six replicas, 120 requests/s from outside through all hosts and
20/s by name and VIP from inside each host. One fault after the other; each request is accounted for
by where it entered and, if it was lost, by which hosts it was led to (conntrack at the entry).
What entered or was led to a host that was itself off or cut cannot be saved and is counted apart.

``python -m bench chaos`` plays all faults; ``play(seed, faults)`` a choice of them.

Be aware: the machine is shared; a request is lost when it got no answer in five seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.accounts import Account, Choices, Row, account, watching
from bench.bed import run
from bench.create20 import Api
from bench.engines import Engines, engines, until
from bench.rounds import BenchError, Goal, Line
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout

NAME = "mbchaos"
HOSTS = ("h1", "h2", "h3")
REPLICAS = 6
PORT = 8080
OUTSIDE_PER_S, INSIDE_PER_S = 120.0, 20.0
LIMIT_S = 5.0
BEFORE_S, AFTER_S = 1.0, 6.0
ENDS_S = 5.0
"""How long a host that is shut down answers when nothing on it serves any more."""
LOAD = Path(__file__).with_name("load.py")


@dataclass
class Cluster:
    """The lab under load, and what is known of its tasks."""

    lab: Engines
    api: Api
    clients: dict[str, str] = field(default_factory=dict)
    """Host to the process id of the client container there, in this machine's numbers."""

    @property
    def hosts(self) -> list[str]:
        return [machine.name for machine in self.lab.lab.layout.hosts]

    def on(self, host: str, command: str) -> str:
        return self.lab.run(host, "sh", "-c", command)

    def places(self) -> dict[str, str]:
        """Address of each of the service's tasks, dead ones too, to its host."""
        names = {
            node["ID"]: node["Description"]["Hostname"] for node in self.api.call("GET", "/nodes")
        }
        found = {}
        for task in self.api.call("GET", "/tasks") or []:
            for attachment in task.get("NetworksAttachments") or []:
                for address in attachment.get("Addresses") or []:
                    found[address.split("/")[0]] = names.get(task.get("NodeID"), "")
        return found

    def find_clients(self) -> None:
        """Where the client containers are now: a host that was off has a new one."""
        for host in self.hosts:
            container = self.on(host, "docker ps -qf name=client.")
            inside = self.on(host, f"docker inspect -f '{{{{.State.Pid}}}}' {container}")
            self.clients[host] = outside_pid(self.lab, host, inside)

    def ready(self) -> bool:
        """All nodes Ready, all tasks running, every way answers."""
        try:
            nodes = self.api.call("GET", "/nodes")
            tasks = self.api.call(
                "GET", "/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%7D"
            )
        except (BenchError, OSError, ValueError):
            return False
        if any(node["Status"]["State"] != "ready" for node in nodes) or len(nodes) != len(
            self.hosts
        ):
            return False
        states = [task["Status"]["State"] for task in tasks or []]
        return states.count("running") == len(states) == REPLICAS + len(self.hosts)


@dataclass(frozen=True)
class Fault:
    """Something that is taken away and comes back.

    Attributes:
        away_s: seconds between ``begin`` and ``end``.
        off: hosts that are themselves off while it lasts.
        cut: two hosts that cannot reach each other while it lasts.
    """

    what: str
    begin: Callable[[Cluster], object]
    end: Callable[[Cluster], object] = lambda _: None
    away_s: float = 0.0
    off: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    """Hosts whose containers end, the client's among them."""
    leaving: tuple[str, ...] = ()
    """Hosts that say that they go: what enters there cannot be saved, and nothing may be led there.
    """

    def excuses(self, label: str, backend: str) -> bool:
        """Whether nobody could have brought a request from where it began to ``backend``."""
        entry = label.removeprefix("in ")
        return (
            entry in (*self.off, *self.leaving)
            or backend in self.off
            or {entry, backend} == set(self.cut)
            or (entry in self.ends and label != entry)
        )


# ---- faults ----


def process(name: str, how: str, away_s: float) -> Fault:
    """A process of h2, or meshnet-manager of h1, ends; its supervisor is frozen for ``away_s``.

    Be aware: it is away for less, as the others make their supervisor go on.
    """
    host = "h1" if name == "meshnet-manager" else "h2"

    def begin(cluster: Cluster) -> None:
        for keeper in cluster.lab.pids(host, "meshnet-supervisor") if away_s else []:
            subprocess.run(["kill", "-STOP", str(keeper)], check=True)
        for pid in cluster.lab.pids(host, name):
            subprocess.run(["kill", f"-{how}", str(pid)], check=True)

    def end(cluster: Cluster) -> None:
        for keeper in cluster.lab.pids(host, "meshnet-supervisor") if away_s else []:
            subprocess.run(["kill", "-CONT", str(keeper)], check=True)
        cluster.on(host, "meshnet up --no-context")

    what = {"KILL": "killed (-9)", "TERM": "stopped (SIGTERM)"}[how]
    return Fault(f"{name} {what}, away {away_s:g} s", begin, end, away_s)


def engine_restart(host: str) -> Fault:
    def begin(cluster: Cluster) -> None:
        cluster.on(host, "kill $(cat /run/docker.pid)")
        until("the engine to end", lambda: not Path(f"/proc/{pid(cluster)}").exists(), 30)

    def pid(cluster: Cluster) -> int:
        return (cluster.lab.pids(host, "dockerd") or [0])[0]

    def end(cluster: Cluster) -> None:
        cluster.lab.lab.up(lambda *_: None)

    return Fault(f"engine of {host} restarted", begin, end, 0.5, ends=(host,))


def power(host: str, away_s: float) -> Fault:
    return Fault(
        f"{host}{' (the manager)' if host == 'h1' else ''} off for {away_s:g} s, then on",
        lambda cluster: cluster.lab.lab.kill(host),
        lambda cluster: cluster.lab.lab.start(host, lambda *_: None),
        away_s,
        (host,),
    )


def shutdown(host: str, away_s: float) -> Fault:
    """What systemd does at poweroff or reboot: meshnet ends, the engine ends, the host is off.

    No systemd runs in a lab: a program in its place says what it would say.
    """

    def begin(cluster: Cluster) -> None:
        says = "printf '#!/bin/sh\necho stopping\n' > /run/stopping; chmod +x /run/stopping"
        cluster.on(host, f"{says}; mount --bind /run/stopping $(readlink -f $(which systemctl))")
        for keeper in cluster.lab.pids(host, "meshnet-supervisor"):
            os.kill(keeper, signal.SIGTERM)
        until("meshnetd to end", lambda: not cluster.lab.pids(host, "meshnetd"), 30)
        cluster.on(host, "kill $(cat /run/docker.pid)")
        until("the engine to end", lambda: not cluster.lab.pids(host, "dockerd"), 30)
        time.sleep(ENDS_S)
        cluster.lab.lab.kill(host)

    return Fault(
        f"{host} shut down in order (SIGTERM, then off) for {away_s:g} s, then on",
        begin,
        lambda cluster: cluster.lab.lab.start(host, lambda *_: None),
        away_s,
        leaving=(host,),
    )


def cut(one: str, other: str, away_s: float) -> Fault:
    return Fault(
        f"cable between {one} and {other} cut for {away_s:g} s",
        lambda cluster: cluster.lab.lab.partition(one, other),
        lambda cluster: cluster.lab.lab.heal(one, other),
        away_s,
        cut=(one, other),
    )


def damage(command: str) -> Fault:
    """Somebody breaks kernel state on h2; ``command`` may name {app}, {ingress}, {sandbox}."""

    def begin(cluster: Cluster) -> None:
        words = {
            name: cluster.on("h1", f"docker network inspect -f '{{{{.Id}}}}' {name}")[:12]
            for name in ("app", "ingress")
        }
        first = cluster.on("h2", "docker ps -qf name=web. | head -1")
        words["sandbox"] = cluster.on(
            "h2", f"docker inspect -f '{{{{.NetworkSettings.SandboxKey}}}}' {first}"
        )
        cluster.on("h2", command.format(**words))

    return Fault(f"on h2: {command}", begin)


def disk_full(away_s: float) -> Fault:
    """The manager's state directory has no room for another page."""
    state = '"$MESHNET_STATE_DIR"'
    return Fault(
        f"the manager's disk full for {away_s:g} s",
        lambda cluster: cluster.on(
            "h1", f"dd if=/dev/zero of={state}/filler bs=64k 2>/dev/null || true"
        ),
        lambda cluster: cluster.on("h1", f"rm {state}/filler"),
        away_s,
    )


FAULTS: tuple[Fault, ...] = (
    *(
        process(name, how, away)
        for name in ("meshnetd", "meshnet-manager", "meshnet-resolver")
        for how in ("KILL", "TERM")
        for away in (0.0, 2.0, 12.0)
    ),
    engine_restart("h2"),
    power("h3", 12.0),
    power("h1", 12.0),
    shutdown("h3", 12.0),
    cut("h2", "h3", 10.0),
    cut("h1", "h2", 10.0),
    damage("nft flush ruleset"),
    damage("ip link del mn-ingress"),
    damage("ip netns exec mn-{ingress} ip link del vx0"),
    damage("ip netns exec mn-{app} ip link del br0"),
    damage("ip addr flush dev docker_gwbridge"),
    damage("nsenter --net={sandbox} nft flush ruleset"),
    damage("nsenter --net={sandbox} ip link del eth0"),
    damage("nsenter --net={sandbox} ip route flush table main"),
    damage("nsenter --net={sandbox} ip route flush table 100"),
    disk_full(5.0),
)


# ---- load and accounts ----


def generator(
    enter: Sequence[str], rate: float, limit_s: float, ways: Sequence[str]
) -> subprocess.Popen[str]:
    """Start ``load.py`` where ``enter`` leads to."""
    pipe = subprocess.PIPE
    argv = [*enter, sys.executable, str(LOAD), f"{rate:g}/{limit_s:g}", *ways]
    return subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)


def outside(cluster: Cluster, rate: float, limit_s: float = LIMIT_S) -> subprocess.Popen[str]:
    """A load from outside, through all hosts in turn."""
    ways = [f"{host}={address(cluster, host)}:{PORT}" for host in cluster.hosts]
    return generator(cluster.lab.lab.command("client", []), rate, limit_s, ways)


def inside(
    cluster: Cluster, host: str, rate: float, limit_s: float = LIMIT_S
) -> subprocess.Popen[str]:
    """A load by name, from a host's client container."""
    enter = ("nsenter", f"--net=/proc/{cluster.clients[host]}/ns/net")
    return generator(enter, rate, limit_s, [f"in {host}=web"])


class Load:
    """The generators: one outside, one in a container of each host."""

    def __init__(self, cluster: Cluster) -> None:
        self._running = [outside(cluster, OUTSIDE_PER_S)]
        self._running += [inside(cluster, host, INSIDE_PER_S) for host in cluster.hosts]
        for each in self._running:
            if each.stdout is None or each.stdout.readline() != "ready\n":
                raise BenchError("a load generator did not start")

    def end(self) -> list[Row]:
        rows: list[Row] = []
        for each in self._running:
            said, _ = each.communicate("\n", timeout=60)
            rows += [tuple(json.loads(line)) for line in said.splitlines()]
        return rows

    def kill(self) -> None:
        for each in self._running:
            each.kill()
            each.wait()


def address(cluster: Cluster, host: str) -> str:
    return str(cluster.lab.lab.layout.machine(host).address.ip)


def play_one(cluster: Cluster, fault: Fault) -> Account:
    """One fault under load."""
    until("the cluster to be whole", cluster.ready, 120, every=0.2)
    places = cluster.places()
    cluster.find_clients()
    ways = {host: cluster.lab.lab.command(host, watching(PORT)) for host in cluster.hosts} | {
        f"in {host}": ["nsenter", f"--net=/proc/{inside}/ns/net", *watching(80)]
        for host, inside in cluster.clients.items()
    }
    choices = Choices(ways)
    load = Load(cluster)
    try:
        time.sleep(BEFORE_S)
        try:
            fault.begin(cluster)
            time.sleep(fault.away_s)
        finally:
            fault.end(cluster)
        time.sleep(AFTER_S)
        rows = load.end()
    finally:
        load.kill()
        choices.end()
    with contextlib.suppress(BenchError, OSError):
        places = places | cluster.places()
    return account(
        fault.what, rows, choices, lambda label, to: fault.excuses(label, places.get(to, ""))
    )


# ---- the cluster ----


@contextlib.contextmanager
def cluster(
    kind: Callable[[Lab], Engines] = Engines,
    name: str = NAME,
    *,
    disk: bool = True,
    hosts: int = len(HOSTS),
) -> Iterator[Cluster]:
    """Hosts, the service ``web`` on them, and a client container on each.

    Args:
        kind: how its hosts become a cluster.
        name: of the lab.
        disk: the manager's state has one of its own, so that it can be full; it outlives the host.
        hosts: how many.
    """
    place = Layout(name).state_dir("h1") / "meshnet"
    if disk:
        place.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place))
    with contextlib.ExitStack() as stack:
        lab = kind(stack.enter_context(engines(name, hosts, engine_only=False)).lab)
        if disk:
            stack.callback(run, "umount", "-l", str(place))  # before the lab goes
        lab.swarm()
        made = Cluster(lab, Api(lab.socket("h1")))
        create = "docker service create --quiet --detach --network app"
        made.on("h1", "docker network create -d overlay app")
        made.on("h1", f"{create} --name web --replicas {REPLICAS} -p {PORT}:80 meshnet/web:1")
        made.on("h1", f"{create} --name client --mode global meshnet/tools:1 sleep 100000")
        until("the services", made.ready, 90, every=0.2)
        yield made


def outside_pid(lab: Engines, host: str, inside: str) -> str:
    """A process of a host's own pid namespace, by this machine's number."""
    space = lab.run(host, "readlink", f"/proc/{inside}/ns/net")
    for proc in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str((proc / "ns/net").readlink()) == space:
                return proc.name
    raise BenchError(f"{host}: process {inside} is not found")


def play(
    faults: Sequence[Fault] = FAULTS, seed: int | None = None, say: Callable[[str], None] = print
) -> list[Account]:
    """Play faults on one cluster, in a shuffled order if a seed is given."""
    order = list(faults)
    if seed is not None:
        random.Random(seed).shuffle(order)
    accounts = []
    with cluster() as under_load:
        for fault in order:
            accounts.append(play_one(under_load, fault))
            last = accounts[-1]
            why = "; ".join(f"{count} {reason}" for reason, count in sorted(last.lost.items()))
            say(
                f"    {last.what}: {last.total_lost} of {last.sent} lost"
                f" ({last.excused} at hosts off or cut; slowest {last.slowest_s:.2f} s) {why}"
            )
    return accounts


def measure() -> list[Line]:
    return [
        Line(
            f"requests lost: {account.what}",
            Goal(0, at_least=False),
            [float(account.total_lost)],
            unit=f"of {account.sent}",
            note=f"{account.excused} more at hosts off or cut" if account.excused else "",
        )
        for account in play()
    ]
