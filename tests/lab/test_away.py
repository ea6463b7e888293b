"""A daemon that is away, and a host that is off: what the managers make of each."""

from __future__ import annotations

import time

import pytest
from lab_swarm import swarm_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
NAME = "mnaway"
TASKS = "docker service ps web --filter desired-state=running --format '{{.ID}} {{.Node}}'"
STARTED = "docker -H unix:///run/docker.sock ps -q | xargs docker inspect -f '{{.State.StartedAt}}'"


@pytest.fixture(scope="module")
def play():
    """
    Name: play; Scope: module; Depends: nothing.

    A lab of two hosts in a cluster with short heartbeats and a service with two tasks, one on each.
    """
    with swarm_of(NAME) as made:
        made.on("h1", "docker swarm update --dispatcher-heartbeat 1s")
        made.until("h1", nodes("h2"), lambda said: said.strip() == "Ready")
        made.on("h1", "docker service create -q --name web --replicas 2 meshnet/web:1")
        yield made


def nodes(name: str) -> str:
    return f"docker node ls --filter name={name} --format '{{{{.Status}}}}'"


def test_a_daemon_that_hangs_costs_its_node_no_task(play):
    before = play.quietly("h1", TASKS), play.quietly("h2", STARTED)
    assert sorted(line.split()[1] for line in before[0].splitlines()) == ["h1", "h2"]
    play.on("h2", "kill -STOP $(cat /run/meshnet/meshnetd.pid)")
    play.until("h1", nodes("h2"), lambda said: said.strip() == "Unknown", timeout_s=15)
    time.sleep(1)
    assert play.quietly("h1", TASKS) == before[0]
    play.on("h2", "kill -CONT $(cat /run/meshnet/meshnetd.pid)")
    play.until("h1", nodes("h2"), lambda said: said.strip() == "Ready", timeout_s=15)
    assert (play.quietly("h1", TASKS), play.quietly("h2", STARTED)) == before


def test_a_host_that_is_off_is_down_within_seconds_and_its_tasks_run_elsewhere(play):
    play.lab.kill("h2")
    play.until("h1", nodes("h2"), lambda said: said.strip() == "Down", timeout_s=8)
    on_h1 = f"{TASKS} | grep -c h1"
    play.until("h1", on_h1, lambda said: said.strip() == "2", timeout_s=10)
