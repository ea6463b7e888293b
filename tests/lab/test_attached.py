"""``docker run`` and ``docker compose`` on overlay networks, as typed, on two hosts.

h1 is the manager, h2 a worker; on each a CLI of its own where this machine has two. Every
container is removed after its test, and nothing of it is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_hosts import WEB, Hosts
from lab_swarm import swarm_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
NAME = "mnattach"
TRACES = """
ip -o link | awk '{ print "link", $2 }' | grep -E ' (v|g)[0-9a-z]{12}@' || true
ls $MESHNET_STATE_DIR/attached 2>/dev/null || true
ip netns list | grep '^mn-' | tail -n +2
"""
REMOVE = """
export DOCKER_HOST=unix:///run/docker.sock
docker ps -aq | xargs -r docker rm -f >/dev/null 2>&1  # of a service's task somebody else does
docker ps -aq
"""
COMPOSE = """
version: "3.8"
services:
  front:
    image: meshnet/web:1
    networks: [shared, default]
    ports: ["8097:80"]
  back:
    image: meshnet/web:1
  only:
    image: meshnet/web:1
    networks: {shared: {aliases: [another]}}
networks: {shared: {external: true, name: open}}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Hosts]:
    """
    Name: cluster; Scope: module; Depends: nothing.

    A manager, a worker, an attachable network and one that is not, removed whatever happens.
    """
    with swarm_of(NAME) as swarm:
        hosts = Hosts(swarm.lab)
        hosts.docker("h1", "network create -d overlay --attachable open")
        hosts.docker("h1", "network create -d overlay --attachable second")
        hosts.docker("h1", "network create -d overlay closed")
        yield hosts


@pytest.fixture
def hosts(cluster: Hosts) -> Iterator[Hosts]:
    """
    Name: hosts; Scope: function; Depends: cluster.

    The cluster without a container, before and after the test; then nothing of one is left.
    """
    try:
        yield cluster
    finally:
        for host in ("h1", "h2"):
            cluster.soon(f"no container on {host}", lambda: cluster.sh(host, REMOVE) == "")  # noqa: B023
    for host in ("h1", "h2"):
        cluster.soon(f"nothing left on {host}", lambda: cluster.sh(host, TRACES) == "")  # noqa: B023


def test_containers_and_services_find_each_other_on_both_hosts(hosts: Hosts) -> None:
    hosts.docker("h1", f"run -d --name one --network open --network-alias uno -p 8096:80 {WEB}")
    hosts.docker("h2", f"run -d --name two --network open --ip 10.0.1.77 --hostname h {WEB}")
    try:
        hosts.docker("h1", f"service create -d --no-resolve-image --name web --network open {WEB}")
        short = hosts.docker("h1", "ps -q --filter name=one")
        assert all(hosts.pings("h2", "two", name) for name in ("one", "uno", short))
        assert all(hosts.pings("h1", "one", name) for name in ("two", "h", "10.0.1.77"))
        assert hosts.docker("h2", "exec two hostname") == "h"
        hosts.soon("the service", lambda: hosts.pings("h2", "two", "tasks.web"))
        assert hosts.pings("h1", "one", "web")
        said = hosts.refused("h1", "network rm open")
        assert "is in use by" in said
    finally:
        hosts.docker("h1", "service rm web")
    said = hosts.refused("h1", "network rm open")
    assert "is in use by task" in said
    assert "sees 192.168.50.100" in hosts.sh("client", "curl -sS -m 5 http://h1:8096/")


def test_it_is_shown_with_its_networks_wherever_it_is_asked_for(hosts: Hosts) -> None:
    hosts.docker("h2", f"run -d --name two --network open --network-alias dos -p 8098:80 {WEB}")
    address = hosts.address("h2", "two")
    shown = hosts.sh("h2", "docker inspect -f '{{json .NetworkSettings.Networks}}' two")
    assert address in shown
    assert '"dos"' in shown
    assert hosts.sh("h2", "docker inspect -f '{{.HostConfig.NetworkMode}}' two") == "open"
    assert "meshnet" not in hosts.sh(
        "h2", "docker ps --no-trunc --format '{{.Command}} {{.Labels}}'"
    )
    assert "0.0.0.0:8098->80/tcp" in hosts.sh("h2", "docker ps --format '{{.Ports}}'")
    assert hosts.docker("h2", "ps -q --filter network=open") != ""
    assert f"{address}/24" in hosts.docker("h2", "network inspect open")
    # A task of the test before takes its time to stop.
    status = "meshnet status --format json"
    hosts.soon("no task", lambda: '"tasks": 0' in hosts.sh("h2", status))
    hosts.soon("no task of it", lambda: hosts.docker("h1", "node ps h2 -q") == "")
    assert hosts.docker("h1", "service ls -q") == ""


def test_its_first_name_and_its_first_packet_arrive(hosts: Hosts) -> None:
    hosts.docker("h1", f"run -d --name one --network open {WEB}")
    for _ in range(3):
        hosts.docker("h2", f"run --rm --network open {WEB} ping -c1 -w1 one")


def test_what_swarm_refuses_is_refused_in_its_words_and_leaves_nothing(hosts: Hosts) -> None:
    words = (
        "Could not attach to network closed: rpc error: code = PermissionDenied desc = "
        "network closed not manually attachable"
    )
    hosts.docker("h1", f"run -d --name one --network open --ip 10.0.1.99 {WEB}")
    for host in ("h1", "h2"):
        assert words in hosts.refused(host, f"run --network closed {WEB}")
        assert words in hosts.refused(host, "network connect closed one")
        assert "not found" in hosts.refused(host, f"run --rm --network nowhere {WEB}")
        said = hosts.refused(host, f"run --network open --ip 10.0.1.99 {WEB}")
        assert "Could not attach to network open: Address already in use" in said
    assert hosts.docker("h2", "ps -aq") == ""


def test_a_container_is_connected_and_disconnected_while_it_runs(hosts: Hosts) -> None:
    hosts.docker("h1", f"run -d --name one --network open {WEB}")
    hosts.docker("h2", f"run -d --name two {WEB}")
    hosts.docker("h2", "network connect --alias dos open two")
    assert hosts.pings("h1", "one", "dos")
    assert hosts.pings("h2", "two", "one")
    assert "already exists in network open" in hosts.refused("h2", "network connect open two")
    hosts.docker("h1", "network connect second one")
    hosts.docker("h2", "network connect second two")
    hosts.docker("h1", "network disconnect open one")
    assert hosts.pings("h2", "two", "one")
    hosts.docker("h2", "network disconnect second two")
    assert not hosts.pings("h1", "one", "two")
    hosts.docker("h2", "network disconnect open two")
    assert "10.0." not in hosts.docker("h2", "exec two ip route")
    assert "default via 172.17.0.1" in hosts.docker("h2", "exec two ip route")


def test_restarts_of_it_of_meshnetd_and_of_the_engine_give_it_its_networks_back(
    hosts: Hosts,
) -> None:
    hosts.docker("h1", f"run -d --name one --network open --restart always {WEB}")
    hosts.docker("h2", f"run -d --name two --network open {WEB}")
    address = hosts.address("h1", "one")
    hosts.docker("h1", "restart -t 1 one")
    assert hosts.address("h1", "one") == address
    assert hosts.pings("h2", "two", "one")
    hosts.docker("h1", "rename one uno")
    hosts.soon("its new name", lambda: hosts.pings("h2", "two", "uno"))
    assert not hosts.pings("h2", "two", "one")
    # It is started again while meshnetd is away: its program waits until that is back.
    pids = "$(cat /run/meshnet/meshnet-supervisor.pid) $(cat /run/meshnet/meshnetd.pid)"
    hosts.sh("h1", f"kill -9 {pids}")
    hosts.sh("h1", "docker -H unix:///run/docker.sock restart -t 1 uno")
    hosts.sh("h1", "meshnet up --no-context")
    hosts.soon("its name again", lambda: hosts.pings("h2", "two", "uno"))
    assert hosts.address("h1", "uno") == address
    hosts.docker("h2", "stop -t 1 two")
    hosts.soon("no name", lambda: not hosts.pings("h1", "uno", "two"))
    hosts.docker("h2", "start two")
    assert hosts.pings("h1", "uno", "two")


def test_a_host_that_was_off_has_its_containers_on_their_networks_again(hosts: Hosts) -> None:
    hosts.docker("h1", f"run -d --name one --network open {WEB}")
    hosts.docker("h2", f"run -d --name two --network open --restart always {WEB}")
    hosts.lab.kill("h2")
    hosts.lab.start("h2", lambda *_: None)
    hosts.soon("its name again", lambda: hosts.pings("h1", "one", "two"))
    assert hosts.pings("h2", "two", "one")


def test_compose_and_networks_of_the_engine_beside_one_of_the_cluster(
    hosts: Hosts, tmp_path: Path
) -> None:
    file = tmp_path / "docker-compose.yml"
    file.write_text(COMPOSE)
    compose = f"docker-compose -f {file} -p proj"
    hosts.docker("h2", f"run -d --name two --network open {WEB}")
    try:
        hosts.sh("h1", f"{compose} up -d 2>&1")
        assert hosts.pings("h2", "two", "front")
        assert hosts.pings("h2", "two", "another")
        assert hosts.pings("h1", "proj_front_1", "two")
        assert hosts.pings("h1", "proj_front_1", "back")
        assert "sees 192.168.50.100" in hosts.sh("client", "curl -sS -m 5 http://h1:8097/")
        assert "is up-to-date" in hosts.sh("h1", f"{compose} up -d 2>&1")
    finally:
        hosts.sh("h1", f"{compose} down -t 1 2>&1")
