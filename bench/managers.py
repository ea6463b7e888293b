"""Three managers on three hosts: who leads dies, what they cost, how one store becomes theirs.

The leader is lost in two ways: its processes are killed (-9; whoever keeps them starts them again),
and its host goes off. The client's ``service create`` is tried again and again at another manager.

Be aware: the migration is measured where it is tested, with real etcd and no cluster around it.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import chaos
from bench.chaos import Account, Fault, play_one, power
from bench.create20 import LIMIT_S, Api, Side, spec
from bench.engines import Engines, engines, until
from bench.rest import memory, own_memory
from bench.rounds import BenchError, Goal, Line, interleave
from meshnet_control.lab.play import Play
from meshnet_control.lab.swarm import form

NAME, PEER = "mbmgrs", "mbone"
MANAGERS = 3
ROUNDS = 5
TASKS = 100
SETTLE_S = 10.0
TRY_S = 0.05
_MIGRATION = "tests/etcd/test_migrate.py::test_a_large_cluster_moves_in_three_seconds"
_ROOT = Path(__file__).parent.parent


class Managed(Engines):
    """A lab whose hosts are all managers."""

    def swarm(self) -> None:
        form(Play(self.lab), MANAGERS)


def nodes(api: Api) -> dict[str, tuple[bool, str]]:
    """Of each manager's host: whether it leads, and its reachability."""
    found = {}
    for node in api.call("GET", "/nodes"):
        status = node.get("ManagerStatus")
        if status:
            leads = bool(status.get("Leader"))
            found[node["Description"]["Hostname"]] = (leads, status["Reachability"])
    return found


def leader(api: Api) -> str:
    leads = [host for host, (led, _) in nodes(api).items() if led]
    if len(leads) != 1:
        raise BenchError(f"{len(leads)} managers lead")
    return leads[0]


def whole(api: Api) -> bool:
    """All managers are there, and all nodes."""
    try:
        there = [how for _, how in nodes(api).values()]
        ready = [node["Status"]["State"] for node in api.call("GET", "/nodes")]
    except (BenchError, OSError, ValueError):
        return False
    return there == ["reachable"] * MANAGERS and set(ready) == {"ready"}


def killed(host: str) -> Fault:
    """The processes of who leads die, and etcd with them."""

    def begin(cluster: chaos.Cluster) -> None:
        for name in ("etcd", "meshnet-manager"):
            for pid in cluster.lab.pids(host, name):
                subprocess.run(["kill", "-KILL", str(pid)], check=False)

    return Fault(f"the leader's processes killed (-9), on {host}", begin)


def until_written(cluster: chaos.Cluster, number: int) -> float:
    """Who leads goes off: seconds until a service can be created at another manager."""
    lost = leader(cluster.api)
    others = [Api(cluster.lab.socket(host)) for host in chaos.HOSTS if host != lost]
    body = {**spec(f"after{number}", "app", 0), "EndpointSpec": {}}
    cluster.lab.lab.kill(lost)
    began = time.monotonic()
    try:
        while True:
            for api in others:
                with contextlib.suppress(BenchError, OSError):
                    api.call("POST", "/services/create", body)
                    return time.monotonic() - began
            if time.monotonic() - began > LIMIT_S:
                raise BenchError("no service could be created")
            time.sleep(TRY_S)
    finally:
        cluster.lab.lab.start(lost, lambda *_: None)
        until("all managers", lambda: whole(cluster.api), LIMIT_S, every=0.3)


@contextlib.contextmanager
def under_load() -> Iterator[chaos.Cluster]:
    with chaos.cluster(Managed, NAME, disk=False) as made:
        until("all managers", lambda: whole(made.api), LIMIT_S, every=0.3)
        yield made


def spread(cluster: chaos.Cluster) -> None:
    """Give each host tasks of the service again.

    Hosts that were off so often count as failing, as in Swarm, and get none; what then runs on one
    host alone is refused when that one goes off, until it runs elsewhere.
    """
    cluster.on("h1", "docker service update -q --force web")

    def everywhere() -> bool:
        running = cluster.on("h1", "docker service ps -f desired-state=running "
                                   "--format '{{.Node}}' web")  # fmt: skip
        return set(running.split()) == set(cluster.hosts)

    until("tasks on all hosts", everywhere, LIMIT_S, every=0.3)


def lost(cluster: chaos.Cluster, of: Callable[[str], Fault]) -> list[Account]:
    """The leader of the moment is taken away, round by round, under traffic."""
    accounts = []
    for _ in range(ROUNDS):
        until("all managers", lambda: whole(cluster.api), LIMIT_S, every=0.3)
        spread(cluster)
        accounts.append(play_one(cluster, of(leader(cluster.api))))
        last = accounts[-1]
        why = "; ".join(f"{count} {reason}" for reason, count in sorted(last.lost.items()))
        print(f"    {last.what}: {last.total_lost} of {last.sent} lost ({last.excused} more) {why}")
    return accounts


def accounted(what: str, accounts: list[Account]) -> Line:
    """The sum counts: a request that is lost in one round of five is lost."""
    excused = sum(each.excused for each in accounts)
    return Line(
        f"requests lost: {what}, {ROUNDS} times, under traffic from outside and inside",
        Goal(0, at_least=False),
        [float(sum(each.total_lost for each in accounts))],
        unit=f"of {sum(each.sent for each in accounts)}",
        note=f"{excused} more at the host that was off" if excused else "",
    )


def sizes(cluster: chaos.Cluster) -> list[Line]:
    """What a manager costs, with 100 tasks in the cluster."""
    api = cluster.api

    def running() -> int:
        found = api.call("GET", "/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%7D")
        return sum(task["Status"]["State"] == "running" for task in found or [])

    body = {**spec("fill", "app", max(TASKS - running(), 1)), "EndpointSpec": {}}
    api.call("POST", "/services/create", body)
    until(f"{TASKS} tasks", lambda: running() >= TASKS, 2 * LIMIT_S, every=0.3)
    time.sleep(SETTLE_S)
    host = leader(api)
    pids = {name: cluster.lab.pids(host, name) for name in ("meshnetd", "meshnet-manager", "etcd")}
    if not all(pids.values()):
        raise BenchError(f"{host} does not run all of {', '.join(pids)}")
    two = pids["meshnetd"] + pids["etcd"]
    three = two + pids["meshnet-manager"]
    rss, all_rss, own = list[float](), list[float](), list[float]()
    for _ in range(ROUNDS):
        rss.append(memory(two))
        all_rss.append(memory(three))
        own.append(own_memory(three))
        time.sleep(1.0)
    what = f"memory of the leader, {TASKS} tasks in the cluster"
    return [
        Line(f"{what}: etcd and meshnetd", Goal(220, at_least=False, unit="MB"), rss, unit="MB"),
        Line(f"{what}: and meshnet-manager", None, all_rss, unit="MB"),
        Line(f"{what}: the same, shared pages shared out", None, own, unit="MB"),
    ]


def migration() -> Line:
    """Longest time a write waits while SQLite becomes etcd: 1 000 services, 5 000 tasks."""
    waited = []
    for _ in range(ROUNDS):
        argv = (sys.executable, "-m", "pytest", "-q", "-s", _MIGRATION)
        done = subprocess.run(argv, cwd=_ROOT, capture_output=True, text=True, check=False)
        found = re.search(r"writes waited for ([\d.]+) s", done.stdout)
        if done.returncode or found is None:
            raise BenchError(f"the migration fails: {done.stdout[-500:]}")
        waited.append(float(found[1]))
    print("    migration: " + "  ".join(f"{each:.2f} s" for each in waited))
    return Line(
        "SQLite to etcd, 1 000 services and 5 000 tasks: longest time a write waits",
        Goal(3, at_least=False, unit="s"),
        waited,
        unit="s",
    )


def create20() -> Line:
    with (
        engines(NAME, MANAGERS, engine_only=False) as three,
        engines(PEER, MANAGERS, engine_only=False) as one,
    ):
        try:
            several, single = Side(Managed(three.lab), ours=True), Side(one, ours=True)
            seen = interleave({"three": several.create, "one": single.create}, ROUNDS)
        except (OSError, KeyError, subprocess.TimeoutExpired) as error:
            raise BenchError(f"the API does not answer as it should: {error!r}") from error
    return Line(
        "`service create --replicas 20` until RUNNING and in every VIP, three managers against one",
        Goal(1.5, at_least=False),
        seen["three"],
        seen["one"],
        "s",
    )


def measure() -> list[Line]:
    lines = [migration()]
    with under_load() as cluster:
        written = [until_written(cluster, number) for number in range(ROUNDS)]
        print("    written again: " + "  ".join(f"{each:.2f} s" for each in written))
        lines.append(
            Line(
                "the leader's host goes off: until a `service create` that is tried again succeeds",
                Goal(3, at_least=False, unit="s"),
                written,
                unit="s",
            )
        )
        lines.append(accounted("the leader's processes killed (-9)", lost(cluster, killed)))
        off = lost(cluster, lambda host: power(host, 6.0))
        lines.append(accounted("the leader's host off for 6 s", off))
        lines += sizes(cluster)
    return [*lines, create20()]
