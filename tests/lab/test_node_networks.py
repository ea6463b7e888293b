"""Networks of the whole swarm that each node makes for itself, as typed, on two hosts.

Their containers are on the LAN of the hosts, each host's with addresses of its own part of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docker_hosts import WEB, Hosts
from lab_swarm import swarm_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
NAME = "mnmacvlan"
SUBNET = "192.168.50.0/24"
RANGES = {"h1": "192.168.50.128/27", "h2": "192.168.50.160/27"}


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """
    Name: hosts; Scope: module; Depends: nothing.

    A manager and a worker, each with a configuration ``lan``, removed whatever happens.
    """
    with swarm_of(NAME) as swarm:
        made = Hosts(swarm.lab)
        for host, addresses in RANGES.items():
            of = f"--subnet {SUBNET} --ip-range {addresses} -o parent=eth0"
            made.docker(host, f"network create --config-only {of} lan")
        yield made


@pytest.fixture
def macvlan(hosts: Hosts) -> Iterator[str]:
    """Name: macvlan; Scope: function; Depends: hosts. A network of both, gone after the test."""
    create = "network create -d macvlan --scope swarm --config-from lan --attachable mv"
    hosts.docker("h1", create)
    try:
        yield "mv"
    finally:
        hosts.soon("mv is gone", lambda: hosts.ask("h1", "docker", "network", "rm", "mv")[0] == 0)
        for host in hosts.cli:
            hosts.soon(f"no mv on {host}", lambda: networks(hosts, host) == "")  # noqa: B023


def networks(hosts: Hosts, host: str) -> str:
    """ID and scope of mv, as the CLI lists it."""
    template = "{{.Name}} {{.Scope}} {{.Driver}}"
    return hosts.sh(host, f"docker network ls --filter name=mv --format '{template}'")


def test_services_and_containers_of_both_hosts_are_on_the_lan(hosts: Hosts, macvlan: str) -> None:
    create = f"service create -d --no-resolve-image --name web --mode global --network {macvlan}"
    try:
        hosts.docker("h1", f"{create} {WEB}")
        hosts.docker("h2", f"run -d --name alone --network {macvlan} {WEB}")
        assert networks(hosts, "h2") == "mv swarm macvlan"
        for host in hosts.cli:
            hosts.soon("a task", lambda: hosts.docker(host, "ps -q --filter name=web") != "")  # noqa: B023
        task = {host: hosts.docker(host, "ps -q --filter name=web") for host in hosts.cli}
        address = {host: hosts.address(host, task[host]) for host in hosts.cli}
        assert address["h2"].startswith("192.168.50.1"), "of its host's range"
        assert hosts.pings("h1", task["h1"], address["h2"])
        assert hosts.pings("h2", "alone", address["h1"])
        assert hosts.pings("h2", "alone", "web"), "its host's task by name"
        assert "is in use by service" in hosts.refused("h1", "network rm mv")
        assert "is in use" in hosts.refused("h1", "network rm lan")
    finally:
        hosts.ask("h1", "docker", "service", "rm", "web")
        hosts.ask("h2", "docker", "rm", "-f", "alone")


def test_a_service_is_on_one_and_on_an_overlay(hosts: Hosts, macvlan: str) -> None:
    on = f"--network {macvlan} --network inner --publish 8095:80 --mode global"
    try:
        hosts.docker("h1", "network create -d overlay inner")
        hosts.docker("h1", f"service create -d --no-resolve-image --name both {on} {WEB}")
        for host in hosts.cli:
            hosts.soon("a task", lambda: hosts.docker(host, "ps -q --filter name=both") != "")  # noqa: B023
        task = hosts.docker("h1", "ps -q --filter name=both")
        hosts.soon("the name", lambda: hosts.pings("h1", task, "both"))
        assert hosts.address("h1", task, "eth0").startswith("192.168.50.1")
        assert hosts.sh("client", "curl -sS -m 5 http://h2:8095/").startswith("web:1")
    finally:
        hosts.ask("h1", "docker", "service", "rm", "both")
        hosts.soon("no inner", lambda: hosts.ask("h1", "docker", "network", "rm", "inner")[0] == 0)


def test_a_node_without_the_configuration_says_so(hosts: Hosts) -> None:
    try:
        hosts.docker("h1", "network create -d macvlan --scope swarm --config-from nolan bad")
        hosts.docker("h1", f"service create -d --no-resolve-image --name no --network bad {WEB}")
        words = 'configuration network "nolan" does not exist'
        hosts.soon("why", lambda: words in hosts.docker("h1", "service ps --no-trunc no"))
    finally:
        hosts.ask("h1", "docker", "service", "rm", "no")
        hosts.ask("h1", "docker", "network", "rm", "bad")
