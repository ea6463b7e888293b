"""A rolling update while neighbours keep every core busy: slower, and nothing is lost.

The neighbours are niced, as a build or a backup beside a cluster would be.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from meshnet_control.lab import scenario
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]
NAME = "mnbusy"


@pytest.fixture
def play() -> Iterator[Play]:
    """
    Name: play; Scope: function; Depends: nothing.

    A cluster of three with the scenario's service and its client, gone afterwards.
    """
    lab = Lab(Layout(NAME))
    lab.down(lambda *_: None)
    try:
        made = Play(lab, show=print)
        for step in scenario.STEPS[:6]:
            step.play(made)
        yield made
    finally:
        lab.down(lambda *_: None)


@pytest.fixture
def _neighbours() -> Iterator[None]:
    """Name: _neighbours; Scope: function; Depends: nothing. Two busy loops for each core."""
    loop = [sys.executable, "-c", "while True: pass"]
    running = [
        subprocess.Popen(["nice", "-n", "5", *loop]) for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


@pytest.mark.usefixtures("_neighbours")
def test_a_rolling_update_loses_no_request_on_a_busy_machine(play: Play) -> None:
    failed: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            code, said = play.attempt("client", "curl -sS -m 10 http://h1:8080/")
            if code != 0:
                failed.append(said)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        play.on("h1", "docker service update --image meshnet/web:2 server", timeout_s=300)
        play.on("h1", "docker service scale server=2", timeout_s=120)
    finally:
        stop.set()
        asking.join()
    assert failed == []
    nodes = play.quietly("h1", "docker node ls --format '{{.Status}}'").split()
    assert nodes == ["Ready"] * 3
