"""A task that is to stop keeps the connections that it has, also those through another node."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from lab_swarm import swarm_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]
NAME = "mndrain"
HOLD = """
import socket, sys
held = [socket.create_connection(("h1", 8080), 10) for _ in range(2)]
print("held", flush=True)
sys.stdin.readline()
for each in held:
    each.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    print(each.makefile().read().splitlines()[-1], flush=True)
"""
"""Two connections through h1, over which nothing is asked until a line comes."""
STATES = "docker service ps web --format '{{.DesiredState}} {{.CurrentState}} {{.Error}}'"


@pytest.fixture(scope="module")
def play():
    """
    Name: play; Scope: module; Depends: nothing.

    A cluster of two hosts with two tasks of a service on the second, gone after the tests.
    """
    with swarm_of(NAME) as made:
        made.on(
            "h1",
            "docker service create -q --name web --replicas 2 --constraint node.hostname==h2"
            " --label meshnet.drain=100 --stop-grace-period 1s -p 8080:80 meshnet/web:1",
        )
        yield made


def backends(said):
    """State and open connections of each."""
    found = json.loads(said)["backends"]
    return sorted((each["state"], int(each["counters"].get("open", 0))) for each in found)


def test_connections_through_another_node_outlive_the_tasks_grace_period(play):
    containers = set(play.quietly("h2", "docker ps -q -f name=web").split())
    argv = play.lab.command("client", [sys.executable, "-c", HOLD])
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            play.on("h1", "docker service scale -d web=1")
            words = '"draining, 1 connection left"'
            play.until("h1", STATES, lambda said: words in said)
            (stops,) = [line for line in play.quietly("h1", STATES).splitlines() if words in line]
            assert stops.startswith("Remove Running")
            shown = "meshnet lb show web --all --format json"
            play.until("h1", shown, lambda said: backends(said) == [("draining", 1), ("ready", 1)])
            play.quietly("client", "sleep 3")  # longer than the grace period
            curl = "for n in 1 2 3 4; do curl -sS -m 5 http://h1:8080/ || exit; done"
            answered = {line.split()[1] for line in play.quietly("client", curl).splitlines()}
            assert len(answered) == 1, "it is chosen no more"
            assert set(play.quietly("h2", "docker ps -q -f name=web").split()) == containers
            said, _ = holder.communicate("now\n", timeout=30)
            assert len({line.split()[1] for line in said.splitlines()}) == 2, said
        finally:
            holder.kill()
    play.until("h1", STATES, lambda said: words not in said and "Remove" not in said)
    play.until("h2", "docker ps -q -f name=web", lambda said: len(said.split()) == 1)


def test_a_label_that_means_nothing_is_refused(play):
    code, said = play.attempt("h1", "docker service update -d --label-add meshnet.drain=10s web")
    assert code != 0
    assert "invalid meshnet.drain '10s': must be seconds, 1 to 86400, or 0: not to wait" in said
