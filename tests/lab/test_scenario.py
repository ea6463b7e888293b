"""The whole scenario on real hosts, step by step, each with what only a test looks at."""

from __future__ import annotations

import itertools
import json
import re
import threading

import pytest

from meshnet_control.lab import adapter, scenario
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play, answers, in_container, requests

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
NAME = "mntest"
COUNTER = """table bridge count {
  chain forward {
    type filter hook forward priority 0;
    ip protocol udp udp dport 4789 counter
  }
}
"""


@pytest.fixture(scope="module")
def play():
    """
    Name: play; Scope: module; Depends: nothing.

    One lab of its own name for all steps, removed also when a step fails.
    """
    lab = Lab(Layout(NAME))
    lab.down(lambda *_: None)
    yield Play(lab, show=print)
    lab.down(lambda *_: None)


@pytest.fixture(autouse=True)
def _in_order(play, request):
    """A step builds on those before it: after the first failure the others say so."""
    if "failed" in play.notes:
        pytest.fail(f"needs {play.notes['failed']}, which failed")
    before = request.session.testsfailed
    play.notes["failed"] = request.node.name
    yield
    if request.session.testsfailed == before:
        del play.notes["failed"]


def test_01_lab_up(play):
    scenario.make_lab(play)


def test_02_form_cluster(play):
    scenario.form_cluster(play)
    assert re.fullmatch(r"SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}", play.notes["token"])


def test_02_joining_twice_is_refused(play):
    code, said = play.attempt("h2", f"docker swarm join --token {play.notes['token']} h1:2377")
    assert code != 0
    assert "This node is already part of a swarm" in said


def test_03_list_nodes(play):
    scenario.list_nodes(play)


def test_03_a_worker_refuses_service_commands(play):
    code, said = play.attempt("h2", "docker service ls")
    assert code != 0
    assert "This node is not a swarm manager" in said


def test_04_make_network(play):
    scenario.make_network(play)


def test_05_make_service(play):
    scenario.make_service(play)


def test_06_reach_by_name_across_hosts(play):
    lan = ["ip", "netns", "exec", play.lab.layout.netns("lan"), "nft"]
    adapter.run([*lan, "-f", "-"], stdin=COUNTER)
    try:
        scenario.reach_by_name(play)
        listed = adapter.run([*lan, "-j", "list", "table", "bridge", "count"])
    finally:
        adapter.run([*lan, "delete", "table", "bridge", "count"])
    counters = [
        part["counter"]["packets"]
        for entry in json.loads(listed)["nftables"]
        for part in entry.get("rule", {}).get("expr", [])
        if "counter" in part
    ]
    assert counters[0] > 0, "no VXLAN packet crossed the LAN"


def test_07_reach_from_outside(play):
    scenario.reach_from_outside(play)


def test_07_localhost_of_a_node_reaches_the_mesh(play):
    said = answers(play.quietly("h1", requests("http://127.0.0.1:8080/", 8)))
    assert len({answer.hostname for answer in said}) == 4


def test_08_scale_and_update(play):
    failed: list[str] = []
    stop = threading.Event()
    # Ports of its own, below those that the client's system gives out: one that a task remembers
    # from h1 has its SYN sent again when it comes through h3, which takes a second turn there.
    ports = itertools.cycle(range(10_000, 30_000))

    def ask():
        while not stop.is_set():
            curl = f"curl -sS -m 5 --local-port {next(ports)} http://h1:8080/"
            code, said = play.attempt("client", curl)
            if code != 0:
                failed.append(said)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        scenario.scale_and_update(play)
    finally:
        stop.set()
        asking.join()
    assert failed == []


def test_09_lose_a_task(play):
    scenario.lose_a_task(play)


def test_09_lose_a_host(play):
    scenario.lose_a_host(play)


def test_09_the_host_comes_back(play):
    dead = play.lab.layout.hosts[-1].name
    play.lab.start(dead, lambda *_: None)
    play.until(
        "h1",
        "docker node ls",
        lambda said: any(dead in row and "Ready" in row for row in said.splitlines()),
    )
    node, container = scenario.container_of(play, "client")
    said = answers(play.quietly(node, in_container(container, requests("http://server/", 12))))
    assert len({answer.hostname for answer in said}) == 6


def test_10_remove_services(play):
    scenario.remove_services(play)
    assert play.quietly("h1", "docker service ls -q") == ""


def test_10_remove_lab(play):
    scenario.remove_lab(play)
