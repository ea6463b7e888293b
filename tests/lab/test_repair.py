"""What somebody breaks on a host comes back by itself, and a restart breaks nothing.

Two real hosts, a published service on both and a client's container on the second. After each
damage the question is where packets go: by the name, by the VIP and by the published port.
"""

from __future__ import annotations

import socket
import time

import pytest
from lab_swarm import swarm_of

from meshnet.kernel import netns
from meshnet_control.lab import adapter
from meshnet_control.lab.play import StepError, answers, in_container

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]
NAME = "mnfix"
REPLICAS = 4
BACK_S = 12.0
"""Most seconds until packets go their way again, on a machine that does other things too."""


@pytest.fixture(scope="module")
def play():
    """
    Name: play; Scope: module; Depends: nothing.

    A cluster of two with a service of four replicas and a client, gone after the tests.
    """
    with swarm_of(NAME) as made:
        yield cluster(made)


def cluster(play):
    play.on("h1", "docker network create -d overlay app")
    play.on(
        "h1",
        f"docker service create --detach --name web --replicas {REPLICAS} --network app"
        " -p 8080:80 meshnet/web:1",
    )
    play.on(
        "h1",
        "docker service create --detach --name client --network app"
        " --constraint node.hostname==h2 meshnet/tools:1 sleep 100000",
    )
    for name, count in (("web", REPLICAS), ("client", 1)):
        play.until(
            "h1",
            f"docker service ls --filter name={name} --format '{{{{.Replicas}}}}'",
            lambda said, count=count: said.strip() == f"{count}/{count}",
        )
    play.notes["client"] = play.quietly("h2", "docker ps -qf name=client")
    play.notes["app"] = play.quietly("h1", "docker network inspect -f '{{.Id}}' app")[:12]
    play.notes["ingress"] = play.quietly("h1", "docker network inspect -f '{{.Id}}' ingress")[:12]
    everything_answers(play)
    return play


def asked(play, machine, command):
    """Different hostnames that answered; fewer when one did not within a second."""
    _, output = play.attempt(machine, command)
    try:
        return {answer.hostname for answer in answers(output)}
    except StepError:
        return set()


def everything_answers(play):
    """Each of the service's tasks answers by name (and so by VIP) and at each host's port."""
    curl = f"for i in $(seq {REPLICAS}); do curl -sS -m 1"
    ways = [
        ("client", f"{curl} http://192.168.50.11:8080/; done"),
        ("client", f"{curl} http://192.168.50.12:8080/; done"),
        ("h2", in_container(play.notes.get("client", ""), f"{curl} http://web/; done")),
    ]
    deadline = time.monotonic() + BACK_S
    while ways:
        ways = [way for way in ways if len(asked(play, *way)) != REPLICAS]
        assert not ways or time.monotonic() < deadline, f"no way after {BACK_S:.0f} s: {ways}"


def sandbox(play, host):
    """Where the namespace of one of the service's tasks on ``host`` is."""
    first = play.quietly(host, "docker ps -qf name=web. | head -1")
    return play.quietly(host, f"docker inspect -f '{{{{.NetworkSettings.SandboxKey}}}}' {first}")


def containers(play):
    return {
        host: play.quietly(host, "docker ps -q --no-trunc | sort").split() for host in ("h1", "h2")
    }


def pid_of(play, host, name):
    return play.quietly(host, f"cat /run/meshnet/{name}.pid")


@pytest.mark.parametrize(
    "damage",
    [
        "docker network prune -f --filter label!=x",
        "docker -H unix:///run/docker.sock network rm docker_gwbridge",
        "ip link del docker_gwbridge",
        "ip addr flush dev docker_gwbridge",
        "nft flush ruleset",  # from here on the engine, its chains gone, makes no network
        "iptables -F; iptables -P FORWARD DROP",
        "ip link del mn-ingress",
        "ip netns exec mn-{ingress} ip link del vx0",
        "ip netns exec mn-{app} ip link del br0",
        "umount /run/netns/mn-{ingress}; rm /run/netns/mn-{ingress}",
        "umount /run/netns/mn-{app}; rm /run/netns/mn-{app}",
        "nsenter --net={sandbox} nft flush ruleset",
        "nsenter --net={sandbox} ip link del eth0",
        "nsenter --net={sandbox} ip route flush table 100",
    ],
)
def test_damage_is_repaired(play, damage):
    before = containers(play)
    inside = sandbox(play, "h1")
    play.on("h1", damage.format(sandbox=inside, **play.notes))
    for network in ("app", "ingress"):  # one without a name works on until its end is noticed
        there = f"ip -n mn-{play.notes[network]} link show vx0"
        play.until("h1", there, lambda _: True, timeout_s=BACK_S)
    everything_answers(play)
    out = f"nsenter --net={inside} curl -sS -m 1 http://192.168.50.12:8080/"
    play.until("h1", out, lambda said: "sees" in said, timeout_s=BACK_S)
    assert containers(play) == before


def test_a_killed_resolver_is_started_again(play):
    before = pid_of(play, "h2", "meshnet-resolver")
    play.on("h2", f"kill -9 {before}")
    play.until("h2", "cat /run/meshnet/meshnet-resolver.pid", lambda said: said.strip() != before)
    everything_answers(play)


def test_a_killed_meshnetd_restarts_no_task_and_ends_no_flow(play):
    before = containers(play)
    client = f"/proc/{adapter.inits(play.lab.layout)['client']}/ns/net"
    flows = [begun(client, address) for address in ("192.168.50.11", "192.168.50.12") * REPLICAS]
    for _ in range(3):
        for host in ("h1", "h2"):
            play.on(host, f"kill -9 {pid_of(play, host, 'meshnetd')}")
        for host in ("h1", "h2"):
            play.on(host, "meshnet up --no-context")
        everything_answers(play)
        assert containers(play) == before
    for flow in flows:
        with flow:
            flow.sendall(b"TP/1.0\r\n\r\n")
            assert b"sees" in flow.makefile("rb").read()


def begun(client, address):
    """A connection of the outside client that has sent half of its request."""
    with netns.inside(client):
        made = socket.create_connection((address, 8080), timeout=5)
    made.sendall(b"GET / HT")
    return made


def test_a_container_restarted_by_hand_is_wired_again_or_replaced(play):
    victim = play.quietly("h1", "docker ps -qf name=web. | head -1")
    play.on("h1", f"docker restart -t 0 {victim}")
    everything_answers(play)
