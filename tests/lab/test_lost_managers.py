"""Five hosts, three of them managers; two of those are lost, and the third goes on alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play, requests

pytestmark = [pytest.mark.lab, pytest.mark.etcd, pytest.mark.timeout(560)]
NAME = "mnlost"
NODES = "docker node ls --format '{{.Hostname}} {{.Status}} {{.ManagerStatus}}'"
LEADERLESS = (
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few "
    "managers are online. Make sure more than half of the managers are online."
)
STARTED = "docker -H unix:///run/docker.sock ps -q | xargs docker inspect -f '{{.State.StartedAt}}'"
PATIENCE_S = 8.0
"""A person's 5 s, on a machine of tests that carries five hosts."""


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """Name: play. Scope: module. Five hosts and a cluster of them, by the command a user types."""
    lab = Lab(Layout(NAME, 5))
    lab.down(lambda *_: None)
    try:
        meshnet = Path(sys.executable).with_name("meshnet")
        argv = (str(meshnet), "lab", "up", "--hosts", "5", "--managers", "3")
        made = subprocess.run(argv, env={**os.environ, "MESHNET_LAB": NAME}, check=False,
                              capture_output=True, text=True)  # fmt: skip
        assert made.returncode == 0, made.stderr
        assert "one cluster of 5" in made.stdout
        yield Play(Lab.known(Layout(NAME)), show=print)
    finally:
        lab.down(lambda *_: None)


def nodes(said: str) -> dict[str, str]:
    return {line.split()[0]: line.partition(" ")[2].strip() for line in said.splitlines()}


def in_time(play: Play, command: str) -> str:
    began = time.monotonic()
    _, said = play.attempt("h3", command)
    took_s = time.monotonic() - began
    play.show(f"{command}: {took_s:.1f} s: {said[:200]}")
    assert took_s < PATIENCE_S, f"{command} took {took_s:.1f} s"
    return said


def test_two_of_three_managers_are_lost_and_the_third_goes_on(play: Play):
    status = play.quietly("h3", "meshnet status")
    assert re.search(r"etcd +(leader|follower) of 3, \d+ MB, database [\d.]+ MB", status), status
    found = nodes(play.until("h3", NODES, lambda said: said.count("Ready") == 5))
    assert sorted(found.values()) == [
        "Ready", "Ready", "Ready Leader", "Ready Reachable", "Ready Reachable",
    ]  # fmt: skip
    assert "WARNING" not in play.quietly("h3", "docker info 2>&1 >/dev/null")
    play.on("h1", "docker service create -q --name web --mode global -p 8080:80 meshnet/web:1")
    six = requests("http://h4:8080/", 6)
    play.until("client", six, lambda said: said.count("sees") == 6)
    started = {host: play.quietly(host, STARTED) for host in ("h3", "h4", "h5")}
    tokens = play.quietly("h3", "docker swarm join-token -q worker")

    # without a quorum: what is known is told, nothing is written, everything runs
    for host in ("h1", "h2"):
        play.lab.kill(host)
    assert "web" in in_time(play, "docker service ls")
    assert LEADERLESS in in_time(play, "docker service create -q --name more meshnet/web:1")
    assert "Leader" not in in_time(play, NODES)
    assert "web" in in_time(play, "docker service ps web")
    assert LEADERLESS in in_time(play, "docker service logs web")
    assert LEADERLESS in in_time(play, "docker info")
    assert "Is Manager: true" in in_time(play, "docker info")
    file = "version: '3.8'\\nservices: {a: {image: 'meshnet/web:1'}}\\n"
    deploy = f'printf "{file}" > /tmp/s.yml; docker stack deploy -c /tmp/s.yml s'
    assert LEADERLESS in in_time(play, deploy)
    play.until("client", six, lambda said: said.count("sees") == 6)

    # its daemons start anew, and say the same; then it is told to go on alone
    play.quietly("h3", "meshnet restart", timeout_s=120)
    play.until("h3", "docker node ls 2>&1; true", lambda said: LEADERLESS in said)
    assert LEADERLESS in in_time(play, "docker info")
    said = play.on("h3", "docker swarm init --force-new-cluster --advertise-addr 192.168.50.13")
    assert "Swarm initialized: current node" in said
    assert tokens in said
    play.until("h3", NODES, lambda said: nodes(said).get("h3") == "Ready Leader")
    play.on("h3", "docker service create -q --name more --replicas 2 meshnet/web:1")
    ls = "docker service ls --format '{{.Name}} {{.Replicas}}'"
    play.until("h3", ls, lambda said: "more 2/2" in said, timeout_s=60)
    listed = play.until("h3", NODES, lambda said: said.count("Down") == 2, timeout_s=60)
    found = nodes(listed)
    assert (found["h1"], found["h2"], found["h4"]) == ("Down", "Down", "Ready")
    info = play.quietly("h3", "docker info")
    assert "Managers: 1" in info
    assert "Nodes: 5" in info
    # no task that ran was touched, and names and ports go on
    for host, before in started.items():
        assert set(before.split()) <= set(play.quietly(host, STARTED).split()), host
    play.until("client", six, lambda said: said.count("sees") == 6)

    # the lost ones come back together: they are managers of this cluster or of none
    for host in ("h1", "h2"):
        play.lab.start(host, lambda *_: None)
    play.until("h3", NODES, lambda said: said.count("Reachable") == 2, timeout_s=120)
    assert nodes(play.quietly("h1", NODES))["h3"] == "Ready Leader"
    assert "more" in play.quietly("h2", ls)
