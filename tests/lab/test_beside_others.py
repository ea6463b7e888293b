"""What a host has beside us stays its own: ports of its processes, subnets of its networks."""

from __future__ import annotations

import pytest
from lab_swarm import swarm_of

from meshnet_control.lab.play import answers

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]
NAME = "mnbeside"
SERVER = "python3 -m http.server --directory /etc 8080"
STATES = "docker service ps one --no-trunc --format '{{.CurrentState}} {{.Error}}'"


@pytest.fixture(scope="module")
def play():
    """
    Name: play; Scope: module; Depends: nothing.

    A cluster of two hosts, gone after the tests.
    """
    with swarm_of(NAME) as made:
        made.on("h1", "docker network create -d overlay app")
        yield made


@pytest.fixture
def process(play):
    """
    Name: process; Scope: function; Depends: play.

    The number of a process of h1 itself that is a web server at 8080.
    """
    number = play.quietly("h1", f"{SERVER} >/dev/null 2>&1 & echo $!")
    play.until("h1", "curl -sS -m 1 http://127.0.0.1:8080/hostname", bool)
    yield number
    play.attempt("h1", f"kill {number}; docker service rm web one")


def test_a_process_keeps_its_port_on_its_host_which_says_so(play, process):
    play.on("h1", "docker service create --detach --name web --replicas 2 -p 8080:80 meshnet/web:1")
    play.until("client", "curl -sS -m 1 http://h2:8080/", lambda said: bool(answers(said)))
    listed = play.on("client", "curl -sS -m 1 http://h1:8080/")
    assert "Directory listing" in listed, "the process answers, not the service"
    words = "published port 8080/tcp does not lead to its service on this node: python3 (process"
    play.until("h1", "docker info 2>&1", lambda said: words in said)
    assert words in play.on("h1", "meshnet status")
    play.on("h1", f"kill {process}")
    play.until("client", "curl -sS -m 1 http://h1:8080/", lambda said: "sees" in said)
    code, said = play.attempt("h1", SERVER)
    assert code
    assert "Address already in use" in said


@pytest.mark.usefixtures("process")
def test_a_port_of_one_host_that_a_process_has_fails_its_task_in_the_engine_s_words(play):
    play.on(
        "h1",
        "docker service create --detach --name one --network app --constraint node.hostname==h1"
        " --restart-condition none -p mode=host,published=8080,target=80 meshnet/web:1",
    )
    said = play.until("h1", STATES, lambda said: "Failed" in said)
    assert "driver failed programming external connectivity on endpoint one.1." in said
    assert "listen tcp4 0.0.0.0:8080: bind: address already in use" in said


def test_no_overlay_is_put_over_a_network_of_a_host_or_of_a_worker_alone(play):
    form = "{{range .IPAM.Config}}{{.Subnet}}{{end}}"
    bridge = play.quietly("h1", f"docker network inspect -f '{form}' docker_gwbridge")
    code, said = play.attempt("h1", f"docker network create -d overlay --subnet {bridge} over")
    assert code
    assert f"overlaps with the route {bridge} dev docker_gwbridge of this host" in said
    play.on("h2", "ip link add own0 type bridge && ip link set own0 up")
    try:
        play.on("h2", "ip addr add 10.0.9.1/24 dev own0")
        create = "docker network create -d overlay --subnet 10.0.9.0/25 over"
        play.until(
            "h1",
            f"{create} 2>&1 && docker network rm over; true",
            lambda said: "overlaps with the route 10.0.9.0/24 (own0) of node h2" in said,
        )
    finally:
        play.attempt("h2", "ip link del own0")
