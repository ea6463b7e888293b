"""Encrypted overlays between two machines, whose kernel has ESP."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
from vm_cluster import HOSTS, each

from meshnet_control.lab.play import Play, StepError
from meshnet_control.lab.vms import hosts

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]
LIFE = "0x6d6e6c66"
"""SPI under which a machine keeps its life."""
TCPDUMP = "tcpdump -Z root -i eth1 -w /run/seen.pcap -U"


@pytest.fixture(scope="module")
def secret(play: Play) -> Iterator[Play]:
    """
    Name: secret; Scope: module; Depends: play.

    A service on an encrypted network with a task on each machine, gone afterwards.
    """
    formed(play)
    play.on("h1", "docker network create -d overlay --opt encrypted secret")
    create = "docker service create --detach --quiet --network secret --mode global"
    play.on("h1", f"{create} --name asking meshnet/tools:1")
    play.on("h1", f"{create} --name secret meshnet/web:1")
    until_there(play)
    yield play
    play.on("h1", "docker service rm secret asking")
    gone = "docker network rm secret 2>/dev/null; docker network ls --format '{{.Name}}'"
    play.until("h1", gone, lambda said: "secret" not in said.split(), timeout_s=120)


def formed(play: Play) -> None:
    """A cluster of both machines, as the files before this one leave it, or made now."""
    if "h2" in play.attempt("h1", "docker node ls")[1]:
        return
    each(lambda host: play.on(host, "meshnet up --install", timeout_s=300))
    first, second = (host.address.ip for host in play.lab.layout.hosts)
    play.on("h1", f"docker swarm init --advertise-addr {first}")
    token = play.quietly("h1", "docker swarm join-token -q worker")
    play.on("h2", f"docker swarm join --token {token} --advertise-addr {second} {first}:2377")


def until_there(play: Play) -> None:
    listed = "docker service ls --format '{{.Name}} {{.Replicas}}'"
    wanted = {"secret 2/2", "asking 2/2"}
    play.until("h1", listed, lambda said: wanted <= set(said.splitlines()), timeout_s=300)


def container(play: Play, host: str) -> str:
    form = "docker ps -q -f label=com.docker.swarm.service.name=asking"
    return play.quietly(host, form).strip()


def asked(play: Play, host: str, times: int = 8) -> str:
    """Names of those that answer to the name of the service, asked on a host."""
    ask = f"for i in $(seq {times}); do curl -sS -m 60 http://secret/; done"
    return play.on(host, f"docker exec {container(play, host)} sh -c '{ask}'", timeout_s=300)


def answering(said: str) -> int:
    return len({line.split()[1] for line in said.splitlines() if line.startswith("web:")})


@contextlib.contextmanager
def captured(play: Play, host: str) -> Iterator[None]:
    """What passes between the machines meanwhile is in /run/seen.pcap."""
    play.on(host, f"systemd-run --unit=seen -q {TCPDUMP} && sleep 2")
    try:
        yield
    finally:
        play.on(host, "sleep 2; systemctl stop seen")


def test_the_wire_has_esp_and_never_what_is_said(secret):
    with captured(secret, "h1"):
        for host in HOSTS:
            said = asked(secret, host)
            assert answering(said) == 2, said
    count = "tcpdump -r /run/seen.pcap 2>/dev/null '{}' | wc -l"
    assert int(secret.on("h1", count.format("esp"))) > 20
    assert int(secret.on("h1", count.format("udp port 4790"))) == 0
    secret.on("h1", "! grep -aq 'web:1' /run/seen.pcap")


def keys(play: Play) -> set[str]:
    """SPIs of what one machine sends to and hears from the other."""
    listed = "ip xfrm state | awk '/proto esp/ {print $4}'"
    return set(play.on("h1", listed).split()) - {LIFE}


def test_another_key_under_traffic_loses_nothing(secret):
    before = keys(secret)
    assert len(before) == 2
    address = "docker inspect -f '{{(index .NetworkSettings.Networks \"secret\").IPAddress}}'"
    other = secret.on("h2", f"{address} {container(secret, 'h2')}").strip()
    pid = secret.on("h1", f"docker inspect -f '{{{{.State.Pid}}}}' {container(secret, 'h1')}")
    pinged = f"nsenter -t {pid.strip()} -n ping -q -i 0.2 -c 300 -W 10 {other}"
    secret.on("h1", f"systemd-run --unit=pinging -q sh -c '{pinged} > /run/pinged 2>&1'")
    secret.on("h1", "meshnet key rotate")
    deadline = time.monotonic() + 300
    while len(keys(secret)) != len(before) or keys(secret) & before:
        assert time.monotonic() < deadline
    said = secret.until("h1", "cat /run/pinged", lambda said: "received" in said, timeout_s=300)
    assert "300 packets transmitted, 300 received" in str(said)


@pytest.mark.parametrize("what", ["state", "policy"])
def test_a_flush_is_repaired_and_nothing_is_in_clear_meanwhile(secret, what):
    with captured(secret, "h1"):
        secret.on("h1", f"ip xfrm {what} flush")
        for host in HOSTS:
            assert answering(asked(secret, host)) == 2
    count = "tcpdump -r /run/seen.pcap 2>/dev/null 'udp port 4790' | wc -l"
    assert int(secret.on("h1", count)) == 0


def boot(play: Play) -> str:
    """Which boot of h2 it is; empty: it does not answer."""
    with contextlib.suppress(StepError):
        return play.quietly("h2", "cat /proc/sys/kernel/random/boot_id")
    return ""


def test_a_machine_that_booted_takes_part_again(secret):
    before = boot(secret)
    secret.attempt("h2", "systemctl reboot")
    while boot(secret) == before:
        time.sleep(0.5)
    assert isinstance(secret.lab.hosts, hosts.Vms)
    secret.lab.hosts.wait(secret.lab.layout, "h2")
    ready = "docker node ls --format '{{.Status}}'"
    secret.until("h1", ready, lambda said: said.split() == ["Ready", "Ready"], timeout_s=300)
    until_there(secret)
    for host in HOSTS:
        assert answering(asked(secret, host)) == 2
