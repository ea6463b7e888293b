"""What ``meshnet lb``, ``dns``, ``trace``, ``doctor`` and ``events`` say of a cluster of three."""

from __future__ import annotations

import json
import time

import pytest
from lab_swarm import swarm_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]
NAME = "mnexp"
REPLICAS = 4
WITHIN_S = 20.0


@pytest.fixture(scope="module")
def play():
    """
    Name: play; Scope: module; Depends: nothing.

    A cluster of three with a service of four replicas and a caller on the first, gone afterwards.
    """
    with swarm_of(NAME, 3) as made:
        yield cluster(made)


def cluster(play):
    play.on("h1", "docker network create -d overlay app")
    play.on(
        "h1",
        f"docker service create -q --name web --replicas {REPLICAS} --network app -p 8080:80"
        " meshnet/web:1",
    )
    play.on(
        "h1",
        "docker service create -q --name caller --network app --constraint node.hostname==h1"
        " meshnet/tools:1 sleep 100000",
    )
    play.notes["caller"] = play.quietly("h1", "docker ps -qf name=caller")
    return play


def asked(play, words, host="h1"):
    return json.loads(play.quietly(host, f"meshnet {words} --format json"))


def said(play, words, host="h1"):
    """Exit status and what a person reads, on one line."""
    code, shown = play.attempt(host, f"meshnet {words}")
    return code, " ".join(shown.split())


def until(what, condition):
    ends = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < ends, what
        time.sleep(0.2)


def connections(play, words):
    return [each["counters"]["connections"] for each in asked(play, words)["backends"]]


def test_each_connection_is_counted_once_wherever_it_was_made(play):
    before = sum(connections(play, "lb show web --all"))
    curl = "for n in 1 2 3 4 5 6 7 8; do curl -sS -m 5 http://{}/ || exit; done"
    play.quietly("h1", f"docker exec {play.notes['caller']} sh -c '{curl.format('web')}'")
    play.quietly("client", curl.format("h3:8080"))
    counted = connections(play, "lb show web --all")
    assert sum(counted) == before + 16
    assert min(counted) >= 4, "in turn, by the name and by the port"
    (service,) = (each for each in asked(play, "lb ls --all") if each["name"] == "web")
    assert {each["state"] for each in service["backends"]} == {"ready"}
    assert {each["node"] for each in service["backends"]} == {"h1", "h2", "h3"}


def test_a_name_is_heard_and_explained_from_a_manager_for_any_container(play):
    found = asked(play, f"dns query web --from {play.notes['caller']}")
    (vip,) = found["records"]
    assert found["reason"] == "the service web on app has that name"
    assert found["differs"] == []
    task = next(
        each["name"] for each in asked(play, "lb show web")["backends"] if each["node"] == "h2"
    )
    assert asked(play, f"dns query web --from {task}")["records"] == [vip]
    names = {each["name"] for each in asked(play, "dns dump")["networks"][0]["records"]}
    assert {"web", "tasks.web", "caller"} <= names


def test_a_way_is_whole_and_the_probe_comes_where_it_says(play):
    code, words = said(play, "trace caller web:80 --send")
    assert (code, "steps are as they should be" in words) == (0, True), words
    assert "connected" in words
    assert " arrived at web." in words
    code, words = said(play, "trace client h2:8080")
    assert (code, "steps are as they should be" in words) == (0, True), words
    code, words = said(play, "trace caller web:81")
    assert (code, "do: the program in web." in words) == (1, True), words


def errors(play):
    """What doctor finds in the way; a disk of this machine that is nearly full is no error."""
    _, shown = play.attempt("h1", "meshnet doctor --all --format json")
    found = [each for each in json.loads(shown) if each["level"] == "error"]
    return [f"{each['host']}: {each['what']}" for each in found]


def test_what_is_in_the_way_between_hosts_is_found_and_passes(play):
    until("nothing is in the way", lambda: errors(play) == [])
    drop = "INPUT -p udp --dport 4789 -j DROP"
    play.on("h2", f"iptables -I {drop}")
    try:
        assert any(each.startswith("h1: VXLAN (4789/udp) of h2") for each in errors(play))
        assert said(play, "doctor --all")[0] == 2
    finally:
        play.on("h2", f"iptables -D {drop}")
    until("all is well again", lambda: errors(play) == [])


def test_what_others_change_is_told_with_its_repair(play):
    play.on("h3", "nft delete table ip meshnet")

    def told():
        lines = play.quietly("h1", "meshnet events --all --format json").splitlines()
        return [
            event
            for event in map(json.loads, lines)
            if (event["host"], event["part"], event["who"]) == ("h3", "lb", "others")
        ]

    until("told", told)
    assert 0 <= told()[-1]["repaired_s"] < WITHIN_S


def test_a_worker_says_that_only_a_manager_may_ask_the_others(play):
    code, words = said(play, "lb show web --all", host="h2")
    assert (code, "only a manager may ask other nodes: type it on one" in words) == (0, True)
    assert "did you mean web?" in said(play, "lb show wbe")[1]
