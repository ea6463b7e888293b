"""Us and real Docker Swarm with its own mesh, in turn on the same two virtual machines.

Their kernel has what namespaces of this computer's may lack (IPVS). A round is a whole life of a
cluster of each: init, join, load, a task killed, an update, a worker's power cut; then it is gone,
and the other's turn comes. Both run the same engine, the same images, the same commands of the
docker CLI, timed on the machine itself.

Be aware: without KVM a machine is some twenty times slower than this computer, which lengthens
what programs do far more than what timers do.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from bench import crr
from bench import load as requests
from bench.engines import until
from bench.rounds import BenchError, Goal, Line
from meshnet.errors import MeshnetError
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout

ROUNDS = 5
NAME = "mbvm"
HOSTS = ("h1", "h2")
REPLICAS = 4
PORT, MANY_PORT = 8080, 8081
LOAD_S, PER_S, BEFORE_S, AFTER_S = 10.0, 10.0, 2.0, 15.0
POWER_S = 60.0
"""How long requests go on after a power cut."""
PATIENCE_S = 600.0
SERVER = """import socket
name = socket.gethostname()
listener = socket.create_server(("", 80), backlog=1024)
while True:
    try:
        made, peer = listener.accept()
        made.settimeout(2)
        if made.recv(64):
            made.sendall(f"{name} sees {peer[0]}\\n".encode())
        made.close()
    except OSError:
        continue
"""
"""Answers a connection in one piece; a CGI script would be all that is measured."""
_MOUNTS = " ".join(
    f"--mount type=bind,src={source},dst={target},readonly"
    for source, target in (
        ("/usr", "/usr"), ("/usr/lib", "/lib"), ("/usr/lib64", "/lib64"),
        ("/opt/bench", "/opt/bench"),
    )
)  # fmt: skip
_SERVE = f"{_MOUNTS} meshnet/tools:1 /usr/bin/python3 -I -S /opt/bench/server.py"

Row = tuple[str, float, float, str, int, str]
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Side:
    """A contender: what makes a machine without a cluster of it, and what ends it."""

    socket: str
    start: str
    stop: str


SIDES = {
    "meshnet": Side(
        "/run/meshnet/docker.sock",
        "meshnet up --install --no-context",
        "docker -H unix:///run/meshnet/docker.sock swarm leave --force;"
        " meshnet down; rm -rf /var/lib/meshnet",
    ),
    "Swarm": Side(
        "/run/docker.sock",
        "docker version",
        # One whose power was cut is refused while its node still starts.
        "until docker -H unix:///run/docker.sock info --format '{{.Swarm.LocalNodeState}}' |"
        " grep -qx inactive;"
        " do docker -H unix:///run/docker.sock swarm leave --force; sleep 1; done;"
        " docker -H unix:///run/docker.sock network rm docker_gwbridge",
    ),
}

POWER_CUT = "a worker's power cut until all requests are answered (0.1: none was lost)"
_LESS, _MORE = Goal(1.0, at_least=False), Goal(1.0, at_least=True)
ROWS: dict[str, tuple[Goal, str]] = {
    "`swarm init`": (_LESS, "s"),
    "`swarm join`": (_LESS, "s"),
    "requests through the mesh": (_MORE, "/s"),
    "99 of 100 requests through the mesh within": (_LESS, "ms"),
    "requests through a VIP, from a container": (_MORE, "/s"),
    "99 of 100 requests through a VIP within": (_LESS, "ms"),
    "10 replicas until all answer on both hosts": (_LESS, "s"),
    "a task killed: 1 + requests lost": (_LESS, "lost"),
    "a rolling update: 1 + requests lost": (_LESS, "lost"),
    POWER_CUT: (_LESS, "s"),
}

FORMING = {what: ROWS[what] for what in ("`swarm init`", "`swarm join`")}


class Machines:
    """The two machines and what is asked of them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def address(self, host: str) -> str:
        return str(self.lab.layout.machine(host).address.ip)

    def on(self, host: str, command: str, content: bytes | None = None) -> str:
        """What a command printed.

        Raises:
            BenchError: it failed, in its own words.
        """
        argv = self.lab.command(host, ["sh", "-c", command])
        done = subprocess.run(
            argv, input=content if content is not None else b"", capture_output=True, check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip
        if done.returncode:
            raise BenchError(f"{host}: {command}: {done.stderr.decode().strip()[-500:]}")
        return done.stdout.decode().strip()

    def timed(self, host: str, command: str) -> float:
        """Seconds that a command took, by the machine's own clock."""
        said = self.on(host, f"date +%s%N && {command} >/dev/null && date +%s%N")
        began, ended = said.split()
        return (int(ended) - int(began)) / 1e9

    def each(self, work: Callable[[str], object]) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(work, HOSTS))


class Cluster:
    """One side's cluster, from nothing."""

    def __init__(self, machines: Machines, side: Side) -> None:
        self.machines = machines
        self.docker = f"docker -H unix://{side.socket}"
        self.figures: dict[str, float] = {}

    def play(self) -> Figures:
        """All figures of :data:`ROWS`."""
        self.form()
        self._services()
        self._mesh()
        self._vip()
        self._many()
        kill = "docker -H unix:///run/docker.sock kill $(docker -H unix:///run/docker.sock"
        kill += " ps -qf name=web. | head -1)"
        self.figures["a task killed: 1 + requests lost"] = self._lost("h2", kill)
        update = f"{self.docker} service update -q --no-resolve-image --env-add ROUND=2"
        update += " --update-monitor 1s web"
        self.figures["a rolling update: 1 + requests lost"] = self._lost("h1", update)
        self._power_cut()
        return self.figures

    def form(self) -> Figures:
        """Only what it takes to have a cluster: ``FORMING`` of the rows."""
        on, docker = self.machines, self.docker
        at = {host: on.address(host) for host in HOSTS}
        init = f"{docker} swarm init --advertise-addr {at['h1']}"
        self.figures["`swarm init`"] = on.timed("h1", init)
        token = on.on("h1", f"{docker} swarm join-token -q worker")
        join = f"{docker} swarm join --token {token} --advertise-addr {at['h2']} {at['h1']}:2377"
        self.figures["`swarm join`"] = on.timed("h2", join)
        return self.figures

    def _services(self) -> None:
        create = f"{self.docker} service create -d -q --no-resolve-image --network app"
        for command in (
            f"{self.docker} network create -d overlay app",
            f"{create} --name client --mode global meshnet/tools:1",
            f"{create} --name web --replicas {REPLICAS} -p {PORT}:80 {_SERVE}",
        ):
            self.machines.on("h1", command)
        self._whole()

    def _whole(self) -> None:
        """Wait until every replica runs and each host's port has led to all of them."""
        listed = f"{self.docker} service ls --format '{{{{.Replicas}}}}'"
        wanted = {f"{count}/{count}" for count in (len(HOSTS), REPLICAS)}

        def running() -> bool:
            return set(self.machines.on("h1", listed).split()) == wanted

        until("the services", running, PATIENCE_S, every=1)
        self._names(PORT, REPLICAS)

    def _names(self, port: int, count: int) -> None:
        at = [self.machines.address(host) for host in HOSTS]
        self._client("names", str(port), str(count), str(PATIENCE_S), *at)

    def _client(self, *arguments: str) -> str:
        argv = self.machines.lab.command("client", [sys.executable, crr.__file__, *arguments])
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=PATIENCE_S + 60
        )
        if done.returncode:
            raise BenchError(f"client: {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def _mesh(self) -> None:
        said = self._client("times", self.machines.address("h1"), str(PORT), str(LOAD_S))
        self._note("the mesh", said, "requests through the mesh")

    def _vip(self) -> None:
        on = self.machines
        container = on.on("h1", f"{self.docker} ps -qf name=client. | head -1")
        pid = on.on("h1", f"{self.docker} inspect -f '{{{{.State.Pid}}}}' {container}")
        vip = on.on("h1", f"{self.docker} exec {container} dig +short web").split()[0]
        load = f"nsenter -t {pid} -n python3 /opt/bench/crr.py times {vip} 80 {LOAD_S}"
        self._note("a VIP", on.on("h1", load), "requests through a VIP, from a container")

    def _note(self, way: str, said: str, rate: str) -> None:
        self.figures[rate], within = (float(word) for word in said.split())
        self.figures[f"99 of 100 requests through {way} within"] = within

    def _many(self) -> None:
        create = f"{self.docker} service create -d -q --no-resolve-image --network app"
        command = f"{create} --name many --replicas 10 -p {MANY_PORT}:80 {_SERVE}"
        began = time.monotonic()
        self.machines.on("h1", command)
        self._names(MANY_PORT, 10)
        taken = time.monotonic() - began
        self.figures["10 replicas until all answer on both hosts"] = taken
        self.machines.on("h1", f"{self.docker} service rm many")
        counted = "docker -H unix:///run/docker.sock ps -qf name=many. | wc -l"

        def gone() -> bool:
            return all(self.machines.on(host, counted) == "0" for host in HOSTS)

        until("the replicas to end", gone, PATIENCE_S, every=1)

    def _lost(self, host: str, command: str) -> float:
        with self._traffic(HOSTS) as rows:
            self.machines.on(host, command)
            time.sleep(AFTER_S)
        lost = sum(row[3] != "ok" for row in rows)
        self._whole()
        return 1.0 + lost

    def _power_cut(self) -> None:
        with self._traffic(("h1",)) as rows:
            cut = time.time()
            self.machines.lab.kill("h2")
            time.sleep(POWER_S)
        lost = [row[1] - cut for row in rows if row[3] != "ok"]
        self.figures[POWER_CUT] = max([0.1, *lost])

    @contextlib.contextmanager
    def _traffic(self, hosts: Sequence[str]) -> Iterator[list[Row]]:
        """Requests from outside through these hosts; they are known when the body has ended."""
        ways = [f"{host}={self.machines.address(host)}:{PORT}" for host in hosts]
        argv = self.machines.lab.command(
            "client", [sys.executable, requests.__file__, str(PER_S), *ways]
        )
        pipe = subprocess.PIPE
        rows: list[Row] = []
        running = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)
        try:
            if running.stdout is None or running.stdout.readline() != "ready\n":
                raise BenchError("the load generator did not start")
            time.sleep(BEFORE_S)
            yield rows
            said, _ = running.communicate("\n", timeout=60)
            rows += [tuple(json.loads(line)) for line in said.splitlines()]
            if not any(row[3] == "ok" for row in rows):
                raise BenchError("no request at all was answered")
        finally:
            running.kill()
            running.wait()


@contextlib.contextmanager
def machines() -> Iterator[Machines]:
    """Two machines with the bench's programs, off and gone afterwards.

    Raises:
        BenchError: they do not come up.
    """
    lab = Lab.of_vms(replace(Layout(NAME), size=len(HOSTS)), engine_only=True)
    try:
        try:
            lab.up(lambda *_: None)
        except MeshnetError as error:
            raise BenchError(f"lab {NAME}: {error}") from error
        made = Machines(lab)
        for host in HOSTS:
            made.on(host, "mkdir -p /opt/bench && cat > /opt/bench/server.py", SERVER.encode())
            made.on(host, "cat > /opt/bench/crr.py", Path(crr.__file__).read_bytes())
        yield made
    finally:
        lab.down(lambda *_: None)


def play(on: Machines, side: Side, part: Callable[[Cluster], Figures]) -> Figures:
    """One side's turn; both machines are up, and without a cluster, before and after it."""
    on.each(lambda host: on.on(host, side.start))
    try:
        return part(Cluster(on, side))
    finally:
        if "h2" not in on.lab.observe().inits:
            on.lab.start("h2", lambda *_: None)
        on.each(lambda host: on.on(host, f"{side.stop}; true"))


def measure(
    rounds: int = ROUNDS,
    say: Callable[[str], None] = print,
    rows: Mapping[str, tuple[Goal, str]] = ROWS,
    part: Callable[[Cluster], Figures] = Cluster.play,
) -> list[Line]:
    """So many rounds, the order turned in each.

    Args:
        rounds: how many.
        say: prints a line.
        rows: what ``part`` measures.
        part: plays a side's cluster, from nothing.

    Raises:
        BenchError: not even one round could be played.
    """
    seen: dict[str, list[Figures]] = {name: [] for name in SIDES}
    with machines() as on:
        for number in range(rounds):
            names = list(SIDES) if number % 2 == 0 else list(reversed(SIDES))
            try:
                played = {name: play(on, SIDES[name], part) for name in names}
            except (BenchError, MeshnetError, subprocess.TimeoutExpired) as error:
                say(f"    round {number + 1} does not count: {error}")
                continue
            for name, figures in played.items():
                seen[name].append(figures)
                say(f"    {name}: " + json.dumps({k: round(v, 2) for k, v in figures.items()}))
    done = len(seen["meshnet"])
    if not done:
        raise BenchError("no round could be played to its end")
    return [
        Line(
            f"virtual machines: {what}, against real Docker Swarm", goal,
            [figures[what] for figures in seen["meshnet"]],
            [figures[what] for figures in seen["Swarm"]],
            unit, f"{done} of {rounds} rounds",
        )
        for what, (goal, unit) in rows.items()
    ]  # fmt: skip
