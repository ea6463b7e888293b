"""A cluster of managers, asked one by one: what each answers, and what its engine runs."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter

from bench import chaos
from bench.create20 import Api
from bench.engines import Engines
from bench.ledger import Json
from bench.rounds import BenchError
from bench.stream import ERRORS
from meshnet_control.lab.play import Play
from meshnet_control.lab.swarm import form

SIZE = 5
ASK_S = 10.0
TASK = "com.docker.swarm.task.id"


class Managed(Engines):
    """A lab whose hosts are all managers."""

    def swarm(self) -> None:
        form(Play(self.lab), SIZE)


class Five:
    """The cluster, by whom it is asked."""

    def __init__(self, cluster: chaos.Cluster) -> None:
        self.cluster = cluster
        self.hosts = cluster.hosts

    def api(self, host: str) -> Api:
        return Api(self.cluster.lab.socket(host), ASK_S)

    def engine(self, host: str) -> Api:
        lab = self.cluster.lab.lab
        path = lab.hosts.socket(lab.layout, host, "docker.sock").removeprefix("unix://")
        return Api(path, ASK_S)

    def ask(self, host: str, path: str) -> list[Json]:
        return self.api(host).call("GET", path) or []

    def leader(self) -> str | None:
        """Who leads, by the word of the first who knows."""
        for host in self.hosts:
            with contextlib.suppress(*ERRORS):
                for node in self.ask(host, "/nodes"):
                    if node.get("ManagerStatus", {}).get("Leader"):
                        return str(node["Description"]["Hostname"])
        return None

    def unwell(self, host: str) -> str:
        """What is not as it should be in one manager's eyes; empty: all is."""
        try:
            nodes = self.ask(host, "/nodes")
        except ERRORS as error:
            return f"{host}: {error}"
        there = [node.get("ManagerStatus", {}) for node in nodes]
        leaders = sum(bool(each.get("Leader")) for each in there)
        states = Counter(node["Status"]["State"] for node in nodes)
        reached = Counter(each.get("Reachability") for each in there)
        fine = (1, {"ready": SIZE}, {"reachable": SIZE})
        if (leaders, states, reached) == fine:
            return ""
        return f"{host}: {leaders} lead, {dict(states)}, {dict(reached)}"

    def containers(self, host: str) -> list[Json]:
        """Containers of tasks that were started, by the engine's own word."""
        path = '/containers/json?all=1&filters={"label":["' + TASK + '"]}'
        found: list[Json] = self.engine(host).call("GET", path.replace('"', "%22")) or []
        return [each for each in found if each["State"] != "created"]

    def started(self, host: str, container: str) -> str:
        """When its program began."""
        said = self.engine(host).call("GET", f"/containers/{container}/json")
        return str(said["State"]["StartedAt"])

    def ailing(self, host: str) -> list[str]:
        """What ``meshnet status`` complains of."""
        try:
            said = json.loads(self.cluster.on(host, "meshnet status --format json"))
        except (BenchError, ValueError) as error:
            return [f"{host}: {error}"]
        manager = said.get("manager") or {}
        words = [said["error"], *said["warnings"], manager.get("error", "it manages nothing")]
        etcd = manager.get("etcd") or {}
        words.append(etcd.get("error", "it has no etcd"))
        if etcd.get("voters") != SIZE:
            words.append(f"of its etcd's members {etcd.get('voters')} vote")
        return [f"{host}: {word}" for word in words if word]

    def tracebacks(self, host: str) -> Counter[str]:
        """Last lines of the tracebacks in the daemons' logs, with their daemon."""
        found = Counter[str]()
        for log in (self.cluster.lab.lab.layout.state_dir(host) / "meshnet").glob("*.log"):
            _, *after = log.read_text(errors="replace").split("Traceback (most recent call last)")
            for text in after:
                ends = re.findall(r"^[A-Za-z_][\w.]*(?:: .*)?$", text, re.MULTILINE)
                found[f"{log.stem}: {ends[0][:150] if ends else '?'}"] += 1
        return found
