"""Joining and leaving at any moment, again and again: nothing is left, and the next one works."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest

from meshnet_control.lab.adapter import wait_for
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
    made = time.monotonic()
    while "mn-ingress" not in traces(play, "h1"):
        assert time.monotonic() - made < 20
        time.sleep(0.1)
    forgotten = "rm $MESHNET_STATE_DIR/state.json"  # and the store is of nobody now
    does(play, "h1", f"{forgotten}; kill -9 {BOTH}")
    does(play, "h1", "meshnet up --no-context")
    does(play, "h1", "docker swarm init >/dev/null")
    assert does(play, "h1", "docker service ls -q") == ""
    does(play, "h1", "docker swarm leave --force")
    assert traces(play, "h1") == ""


@pytest.mark.parametrize("told", ["127.0.0.1", "203.0.113.7"])
def test_an_address_that_leads_to_this_host_from_nowhere_or_a_router_may_be_told(play, told):
    does(play, "h1", f"docker swarm init --advertise-addr {told} --listen-addr eth0 >/dev/null")
    try:
        assert does(play, "h1", "docker info -f '{{.Swarm.NodeAddr}}'") == told
        assert f"{told}:2377" in does(play, "h1", "docker swarm join-token worker")
        does(play, "h1", "docker service create -q -p 8080:80 meshnet/web:1")
        assert "sees" in does(play, "h1", "curl -sS -m 5 http://$(hostname -s):8080/")
    finally:
        does(play, "h1", "docker swarm leave --force")
    assert traces(play, "h1") == ""


TAKEN = """
import socket, sys
taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
taken.bind(("0.0.0.0", 4789))
sys.stdin.read()
"""


@contextmanager
def other_vxlan(play, *hosts):
    """Something else has VXLAN's usual port on these hosts."""
    with ExitStack() as stack:
        for host in hosts:
            argv = play.lab.command(host, [sys.executable, "-c", TAKEN])
            other = subprocess.Popen(argv, stdin=subprocess.PIPE)
            stack.callback(other.communicate)  # which ends it
            wait_for(
                "the port is taken",
                lambda host=host: ":4789" in ask(play, host, "ss -Hlun")[1],
                timeout_s=20,
            )
        yield


def test_a_cluster_beside_another_vxlan_has_its_own_port_on_every_node(play):
    with other_vxlan(play, "h1", "h2"):
        try:
            code, said = ask(play, "h1", "docker swarm init --advertise-addr eth0")
            assert code
            assert "listen udp 0.0.0.0:4789: bind: address already in use (VXLAN needs" in said
            where = "--advertise-addr eth0 --listen-addr 0.0.0.0:12345 --data-path-port 7777"
            does(play, "h1", f"docker swarm init {where} >/dev/null")
            token = does(play, "h1", "docker swarm join-token -q worker")
            does(play, "h2", f"docker swarm join --token {token} h1:12345")
            assert "Data Path Port: 7777" in does(play, "h1", "docker info")
            does(play, "h1", "docker network create -d overlay inner")
            create = "docker service create -q --mode global --network inner"
            does(play, "h1", f"{create} --name web -p 8080:80 meshnet/web:1")
            does(play, "h1", f"{create} --name ask meshnet/tools:1 sleep 1000")
            asked = "for n in 1 2 3 4; do curl -sS -m 5 http://web/ || exit; done"
            task = "$(docker ps -qf label=com.docker.swarm.service.name=ask)"
            for host in ("h1", "h2"):
                answers = does(play, host, f"docker exec {task} sh -c '{asked}'").split()
                assert len(set(answers[1::4])) == 2, "both tasks answer, from either host"
                does(play, host, "for n in 1 2 3 4; do curl -sS -m 5 http://h1:8080/ || exit; done")
                assert ":7777" in does(play, host, "ss -Hlun")
            assert "is not" not in does(play, "h1", "meshnet doctor")
            code, said = ask(play, "h1", "docker service create -p 7777:53/udp meshnet/web:1")
            assert code
            assert "7777/udp is the cluster's own" in said
        finally:
            for host in ("h2", "h1"):
                ask(play, host, "docker swarm leave --force")
    assert [traces(play, host) for host in ("h1", "h2")] == ["", ""]


def test_a_joiner_on_which_vxlan_s_port_is_taken_is_refused_and_leaves_again(play):
    does(play, "h1", "docker swarm init >/dev/null")
    try:
        token = does(play, "h1", "docker swarm join-token -q worker")
        with other_vxlan(play, "h2"):
            code, said = ask(play, "h2", f"docker swarm join --token {token} h1:2377")
        assert code
        assert "listen udp 0.0.0.0:4789: bind: address already in use (VXLAN needs" in said
        assert does(play, "h2", "docker info -f '{{.Swarm.LocalNodeState}}'") == "inactive"
        assert does(play, "h1", "docker node ls --format '{{.Hostname}}'") == "h1"
    finally:
        does(play, "h1", "docker swarm leave --force")


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


def test_a_host_in_no_cluster_has_a_manager_stand_by_and_a_worker_has_none(play):
    stands = "test -S /run/meshnet/manager.standby && cat /run/meshnet/meshnet-manager.pid"
    ended = "kill -0 $(cat /run/meshnet/meshnet-manager.pid) || echo none"
    first = play.until("h2", stands, bool)
    play.quietly("h2", f"kill -9 {first.strip()}")
    play.until("h2", stands, lambda said: said.strip() != first.strip())
    ask(play, "h1", "docker swarm init")
    token = does(play, "h1", "docker swarm join-token -q worker")
    does(play, "h2", f"docker swarm join --token {token} h1:2377")
    play.until("h2", ended, lambda said: "none" in said)
    assert "manages" not in does(play, "h2", "ls $MESHNET_STATE_DIR")
    does(play, "h2", "docker swarm leave")
    play.until("h2", stands, bool)
