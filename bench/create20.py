"""Seconds from ``POST /services/create`` of 20 replicas until they all serve, on three hosts.

The peer is real Docker Swarm on the engines of a lab of its own: all 20 tasks RUNNING by its API.
Ours has to do more: RUNNING by the API and also all 20 addresses in the VIP's rules of a client
container on every node. Both have a network and a published port, the same image, the same polling.

Be aware: Swarm's IPVS is missing on this machine's kernel, so what it puts in a VIP is not checked;
that is to its advantage. Both labs are up at the same time and only one is busy.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from functools import partial
from http.client import HTTPConnection
from typing import Any

from bench.engines import Engines, engines, until
from bench.rounds import BenchError, Goal, Line, interleave

IMAGE = "meshnet/tools:1"
REPLICAS = 20
ROUNDS = 5
LIMIT_S = 120.0
COMMAND = ["sleep", "100000"]


class _Unix(HTTPConnection):
    def __init__(self, path: str, limit_s: float) -> None:
        super().__init__("docker", timeout=limit_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Api:
    """The Engine API behind a unix socket; it is given up after ``limit_s`` without a byte."""

    def __init__(self, path: str, limit_s: float = 60) -> None:
        self._path = path
        self._limit_s = limit_s

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON; an answer that is not 2xx is a BenchError with its message."""
        connection = _Unix(self._path, self._limit_s)
        try:
            content = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json"} if content else {}
            connection.request(method, f"/v1.41{path}", content, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 300:
            raise BenchError(f"{method} {path}: {answer.status} {text.strip()[:300]}")
        return json.loads(text) if text.strip() else None


def spec(name: str, network: str, replicas: int | None, port: int | None = None) -> dict[str, Any]:
    """A service spec as the docker CLI sends it; ``replicas`` None: global."""
    mode: dict[str, Any] = (
        {"Global": {}} if replicas is None else {"Replicated": {"Replicas": replicas}}
    )
    published = {
        "Protocol": "tcp",
        "TargetPort": 80,
        "PublishedPort": port,
        "PublishMode": "ingress",
    }
    return {
        "Name": name,
        "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {"Image": IMAGE, "Command": COMMAND},
            "Networks": [{"Target": network}],
        },
        "Mode": mode,
        "EndpointSpec": {"Mode": "vip", "Ports": [published] if port else []},
    }


class Side:
    """One cluster with a network and a client container on every node."""

    def __init__(self, lab: Engines, *, ours: bool) -> None:
        self.lab = lab
        self.ours = ours
        lab.swarm()
        self.api = Api(lab.socket("h1"))
        body = {"Name": "bench", "Driver": "overlay", "CheckDuplicate": True, "Attachable": True}
        self.network: str = self.api.call("POST", "/networks/create", body)["Id"]
        self.api.call("POST", "/services/create", spec("client", self.network, len(self.hosts)))
        until("the clients", lambda: self.running("client") == len(self.hosts), LIMIT_S)
        self.clients = {host: self._container(host) for host in self.hosts} if ours else {}

    @property
    def hosts(self) -> list[str]:
        return [machine.name for machine in self.lab.lab.layout.hosts]

    def create(self) -> float:
        """Seconds until 20 replicas serve; they are gone again afterwards."""
        began = time.monotonic()
        body = spec("many", self.network, REPLICAS, 8080)
        service: str = self.api.call("POST", "/services/create", body)["ID"]
        try:
            until("20 tasks RUNNING", lambda: self.running("many") == REPLICAS, LIMIT_S)
            if self.ours:
                addresses = self._addresses()
                for host in self.hosts:
                    balanced = partial(self._has, host, addresses)
                    until(f"20 in the VIP on {host}", balanced, LIMIT_S)
            return time.monotonic() - began
        finally:
            self.api.call("DELETE", f"/services/{service}")
            until("no containers", lambda: self._left() == len(self.hosts), LIMIT_S, every=0.3)

    def tasks(self, service: str) -> list[dict[str, Any]]:
        filters = json.dumps({"service": [service], "desired-state": ["running"]})
        path = "/tasks?filters=" + filters.replace('"', "%22").replace(" ", "")
        found: list[dict[str, Any]] = self.api.call("GET", path) or []
        return found

    def running(self, service: str) -> int:
        return sum(task["Status"]["State"] == "running" for task in self.tasks(service))

    def _addresses(self) -> set[str]:
        return {
            address.split("/")[0]
            for task in self.tasks("many")
            for attachment in task["NetworksAttachments"]
            if attachment["Network"]["Spec"]["Name"] == "bench"
            for address in attachment["Addresses"]
        }

    def _container(self, host: str) -> str:
        """Process of the client's container on a host, in the host's own numbers."""
        engine = ("docker", "-H", "unix:///run/docker.sock")
        names = self.lab.run(host, *engine, "ps", "-q", "--filter", "name=client.").split()
        if len(names) != 1:
            raise BenchError(f"{host} has {len(names)} client containers instead of 1")
        return self.lab.run(host, *engine, "inspect", "-f", "{{.State.Pid}}", names[0])

    def _has(self, host: str, addresses: set[str]) -> bool:
        """Whether the client's namespace on ``host`` balances over these backends."""
        enter = ("nsenter", "-t", self.clients[host], "-n", "nft", "list", "table", "ip", "meshnet")
        try:
            listed = self.lab.run(host, *enter)
        except BenchError:
            return False
        return addresses <= set(re.findall(r"\d+\.\d+\.\d+\.\d+", listed))

    def _left(self) -> int:
        """Containers on all hosts together."""
        engine = ("docker", "-H", "unix:///run/docker.sock", "ps", "-q")
        return sum(len(self.lab.run(host, *engine).split()) for host in self.hosts)


def measure() -> list[Line]:
    with (
        engines("mbswarm", 3, engine_only=True) as docker,
        engines("mbours", 3, engine_only=False) as meshnet,
    ):
        try:
            peer, mine = Side(docker, ours=False), Side(meshnet, ours=True)
            seen = interleave({"meshnet": mine.create, "swarm": peer.create}, ROUNDS)
        except (OSError, KeyError, subprocess.TimeoutExpired) as error:
            raise BenchError(f"the API does not answer as it should: {error!r}") from error
    return [
        Line(
            "`service create --replicas 20` on 3 hosts until RUNNING (ours: and in every VIP), "
            "against real Docker Swarm",
            Goal(1.0, at_least=False),
            seen["meshnet"],
            seen["swarm"],
            "s",
        )
    ]
