"""How a service is balanced, as a user says it: labels by the docker CLI, answers counted."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest
from lab_swarm import swarm_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
NAME = "mnpol"
REPLICAS = 4
WITHIN_S = 30.0


@pytest.fixture(scope="module")
def play():
    """
    Name: play; Scope: module; Depends: nothing.

    A cluster of two with two tasks of a published service on each host, gone afterwards.
    """
    with swarm_of(NAME) as made:
        made.on("h1", "docker network create -d overlay app")
        made.on(
            "h1",
            f"docker service create -q --name web --replicas {REPLICAS} --network app -p 8080:80"
            " --placement-pref spread=node.hostname meshnet/web:1",
        )
        made.on(
            "h1",
            "docker service create -q --name caller --network app --constraint node.hostname==h1"
            " meshnet/tools:1 sleep 100000",
        )
        made.notes["caller"] = made.quietly("h1", "docker ps -qf name=caller")
        yield made


def shown(play, host):
    return json.loads(play.quietly(host, "meshnet lb show web --format json"))


def choose_by(play, label, words):
    """Give the service the label; until both hosts go by it."""
    play.on("h1", f"docker service update -q {label} web")
    ends = time.monotonic() + WITHIN_S
    while {shown(play, host)["policy"] for host in ("h1", "h2")} != {words}:
        assert time.monotonic() < ends, words
        time.sleep(0.2)


def hosts(play):
    """Container -> the host that it is on."""
    found = {}
    for host in ("h1", "h2"):
        for container in play.quietly(host, "docker ps -qf name=web").split():
            found[container] = host
    return found


def answers(play, url, times, source="client"):
    """Which containers answered."""
    curl = f"for n in $(seq {times}); do curl -sS -m 5 http://{url}/ || exit; done"
    if source == "caller":
        curl = f"docker exec {play.notes['caller']} sh -c '{curl}'"
    said = play.quietly("client" if source == "client" else "h1", curl)
    return Counter(line.split()[1] for line in said.splitlines())


def test_labels_choose_and_no_task_restarts(play):
    containers = hosts(play)
    assert Counter(containers.values()) == {"h1": 2, "h2": 2}

    choose_by(play, "--label-add meshnet.lb=source-hash", "source-hash")
    (own,) = answers(play, "h1:8080", 6)
    assert answers(play, "h2:8080", 6) == {own: 6}, "all nodes agree"
    assert len(answers(play, "web", 6, "caller")) == 1
    code, said = play.attempt("h1", "meshnet trace caller web:80")
    assert code == 0, said
    assert "by the address of" in " ".join(said.split())

    choose_by(play, "--label-add meshnet.lb=sticky:600", "sticky, 600 s")
    assert answers(play, "h1:8080", 6) == {own: 6}

    weights = "--label-add meshnet.lb.weights=h1=3"
    choose_by(play, f"--label-add meshnet.lb=weighted {weights}", "weighted: h1 3")
    got = answers(play, "h2:8080", 16)
    assert got == {each: 6 if on == "h1" else 2 for each, on in containers.items()}
    got = answers(play, "web", 16, "caller")
    assert got == {each: 6 if on == "h1" else 2 for each, on in containers.items()}

    choose_by(play, "--label-rm meshnet.lb.weights --label-add meshnet.lb=nearest", "nearest")
    for host in ("h1", "h2"):
        got = answers(play, f"{host}:8080", 8)
        assert got == {each: 4 for each, on in containers.items() if on == host}

    choose_by(play, "--label-rm meshnet.lb", "rr")
    assert answers(play, "h1:8080", 8) == dict.fromkeys(containers, 2)
    assert hosts(play) == containers


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("meshnet.lb=stickey", "did you mean sticky?"),
        ("meshnet.lbs=rr", "unknown label meshnet.lbs; did you mean meshnet.lb?"),
        ("meshnet.proxy-protocol=v2", "the task sees the client's own address anyway"),
    ],
)
def test_what_means_nothing_is_refused_at_create_and_update(play, label, words):
    for command in (
        f"docker service create -d --name no --label {label} meshnet/web:1",
        f"docker service update -d --label-add {label} web",
    ):
        code, said = play.attempt("h1", command)
        assert code != 0
        assert words in said
