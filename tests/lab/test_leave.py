"""Joining and leaving at any moment, again and again: nothing is left, and the next one works."""

from __future__ import annotations

import os
import random
import subprocess
import time

import pytest

from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play

ROUNDS = int(os.environ.get("MESHNET_LEAVES", "12"))
"""Of each kind."""
pytestmark = [pytest.mark.lab, pytest.mark.timeout(60 + 20 * ROUNDS)]
NAME = "mnleave"
BOTH = "$(cat /run/meshnet/meshnet-supervisor.pid /run/meshnet/meshnetd.pid)"
"""A daemon, and who would start it again."""
TRACES = """
ip -o link | awk '{ print "link", $2 }' | grep -Ev 'lo:|eth0|docker0|docker_gwbridge|veth' || true
ip netns list | grep '^mn-' || true
nft list tables | grep meshnet || true
docker -H unix:///run/docker.sock ps -aq
"""


@pytest.fixture(scope="module")
def play():
    """
    Name: play; Scope: module; Depends: nothing.

    A lab of two hosts in no cluster, removed whatever happens.
    """
    lab = Lab(Layout(NAME, 2))
    lab.down(lambda *_: None)
    try:
        lab.up(lambda *_: None)
        yield Play(lab, show=print)
    finally:
        lab.down(lambda *_: None)


def ask(play, host, command):
    """Exit status and everything said."""
    done = subprocess.run(
        play.lab.command(host, ["sh", "-c", command]),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.strip()


def does(play, host, command):
    code, said = ask(play, host, command)
    assert code == 0, f"{host}: {command}: {said}"
    return said


def traces(play, host):
    return does(play, host, TRACES)


def service(rng):
    """A service that is being made while its host leaves, or none."""
    return rng.choice(("true", "true", "docker service create -qd -p 8080:80 meshnet/web:1"))


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_init_and_leave(play, seed):
    rng = random.Random(seed)
    does(play, "h1", "docker swarm init >/dev/null")
    does(play, "h1", service(rng))
    time.sleep(rng.choice((0, 0, 0.05, 0.3, 1.0)))
    does(play, "h1", "docker swarm leave --force")
    assert traces(play, "h1") == ""


def test_a_leftover_of_an_earlier_life_is_removed(play):
    does(play, "h1", "docker swarm init >/dev/null")
    does(play, "h1", "docker service create -qd --replicas 2 -p 8080:80 meshnet/web:1")
    time.sleep(1)
    forgotten = "rm $MESHNET_STATE_DIR/state.json"  # and the store is of nobody now
    does(play, "h1", f"{forgotten}; kill -9 {BOTH}")
    assert "mn-ingress" in traces(play, "h1")
    does(play, "h1", "meshnet up --no-context")
    does(play, "h1", "docker swarm init >/dev/null")
    assert does(play, "h1", "docker service ls -q") == ""
    does(play, "h1", "docker swarm leave --force")
    assert traces(play, "h1") == ""


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_join_and_leave(play, seed):
    rng = random.Random(seed)
    if ask(play, "h1", "docker swarm init >/dev/null")[0] == 0:
        does(play, "h1", "docker service create -qd --mode global -p 8080:80 meshnet/web:1")
    token = does(play, "h1", "docker swarm join-token -q worker")
    does(play, "h2", f"docker swarm join --token {token} h1:2377")
    time.sleep(rng.choice((0, 0, 0.05, 0.3, 1.0)))
    update = "docker service update -qd --force $(docker service ls -q)"
    does(play, "h1", rng.choice(("true", update)))
    does(play, "h2", "docker swarm leave")
    assert traces(play, "h2") == ""
