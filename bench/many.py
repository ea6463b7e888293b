"""Five hundred containers on one host: what they cost, and how fast a change is through.

A lab of one host, one overlay of a /16, one service of web servers and one client container. With
all of them running: memory, processor time and open descriptors of meshnet's processes; requests by
name from the client; seconds from the death of a container until the client's namespace no longer
balances to it, one container after the other.

Be aware: nearly all of the time until they run, and of the memory, is the engine's.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

from bench.create20 import Api, spec
from bench.engines import Engines, engines, until
from bench.rest import at_rest, running
from bench.rounds import BenchError, Goal, Line

CONTAINERS = int(os.environ.get("MESHNET_CONTAINERS", "500"))
LIMIT_S = 1200.0
SETTLE_S = 60.0
DEATHS = 5
REQUESTS = 50
ENGINE = ("docker", "-H", "unix:///run/docker.sock")


def measure() -> list[Line]:
    with engines("mbmany", 1, engine_only=False) as lab:
        lab.swarm()
        api = Api(lab.socket("h1"))
        network = api.call("POST", "/networks/create", _network())["Id"]
        api.call("POST", "/services/create", spec("client", network, 1))
        until("the client", lambda: running(api) == 1, LIMIT_S, every=0.5)
        body = spec("many", network, CONTAINERS)
        body["TaskTemplate"]["ContainerSpec"] = {"Image": "meshnet/web:1"}
        began = time.monotonic()
        api.call("POST", "/services/create", body)
        until("all to run", lambda: running(api) == CONTAINERS + 1, LIMIT_S, every=1)
        started = time.monotonic() - began
        print(f"    {CONTAINERS} run after {started:.0f} s")
        pids, sizes, loads = at_rest(lab, SETTLE_S)
        descriptors = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
        client = lab.run("h1", *ENGINE, "ps", "-q", "--filter", "name=client.")
        answered = requests(lab, client)
        deaths = [death(lab, client) for _ in range(DEATHS)]
    what = f"{CONTAINERS} containers on one host"
    return [
        Line(f"{what}: seconds until all run", None, [started], unit="s"),
        Line(f"{what}: memory of meshnet's processes", None, sizes, unit="MB"),
        Line(f"{what}: processor time at rest", None, loads, unit="% of a core"),
        Line(f"{what}: open descriptors", None, [float(descriptors)]),
        Line(f"{what}: requests by name answered, of {REQUESTS}", Goal(REQUESTS, at_least=True),
             [float(answered)]),
        Line(f"{what}: a container's death until nothing leads to it", None, deaths, unit="s"),
    ]  # fmt: skip


def _network() -> dict[str, Any]:
    pool = {"Config": [{"Subnet": "10.90.0.0/16"}]}
    return {"Name": "bench", "Driver": "overlay", "Attachable": True, "IPAM": pool}


def requests(lab: Engines, client: str) -> int:
    """How many of the requests from the client to the service's name were answered."""
    one = "curl -sm5 -o /dev/null http://many/ && echo answered"
    loop = f"for each in $(seq {REQUESTS}); do {one}; done; true"
    return lab.run("h1", *ENGINE, "exec", client, "sh", "-c", loop).count("answered")


def death(lab: Engines, client: str) -> float:
    """Seconds from ``docker kill`` of one until its address is gone from the client's rules."""
    *_, victim = lab.run("h1", *ENGINE, "ps", "-q", "--filter", "name=many.").split()  # the oldest
    inside = lab.run("h1", *ENGINE, "inspect", "-f", "{{.State.Pid}}", victim)
    shown = lab.run("h1", "nsenter", "-t", inside, "-n", "ip", "-j", "-4", "addr", "show", "eth0")
    address: str = json.loads(shown)[0]["addr_info"][0]["local"]
    pid = lab.run("h1", *ENGINE, "inspect", "-f", "{{.State.Pid}}", client)
    if not balances(lab, pid, address):
        raise BenchError(f"{address} is not among the backends that the client's rules have")
    lab.run("h1", *ENGINE, "kill", victim)
    began = time.monotonic()
    gone = f"{address} to be gone from the client's rules"
    until(gone, lambda: not balances(lab, pid, address), 60, every=0.01)
    return time.monotonic() - began


def balances(lab: Engines, pid: str, address: str) -> bool:
    listed = lab.run("h1", "nsenter", "-t", pid, "-n", "nft", "list", "table", "ip", "meshnet")
    return address in re.findall(r"\d+\.\d+\.\d+\.\d+", listed)
