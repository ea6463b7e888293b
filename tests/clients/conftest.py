"""One lab of two hosts that all programs share; each removes what it made."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from lab_words import pytest_runtest_makereport

from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play

NAME = "mnprg"
__all__ = ["pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def play() -> Iterator[Play]:
    """
    Name: play; Scope: session; Depends: nothing.

    A manager, h1, and a worker, h2; removed also when a test fails, unless MESHNET_KEEP asks for
    them to be left for another run.
    """
    kept = bool(os.environ.get("MESHNET_KEEP"))
    lab = Lab(Layout(NAME, size=2))
    if not kept:
        lab.down(lambda *_: None)
    try:
        lab.up(lambda *_: None)
        made = Play(lab, show=print)
        if "Swarm: inactive" in made.quietly("h1", "docker info"):
            made.on("h1", "docker swarm init --advertise-addr 192.168.50.11")
            token = made.quietly("h1", "docker swarm join-token -q worker")
            made.on("h2", f"docker swarm join --token {token} h1:2377")
        made.until("h1", "docker node ls", lambda said: said.count(" Ready ") == 2)
        yield made
    finally:
        if not kept:
            lab.down(lambda *_: None)


@pytest.fixture(scope="session")
def url(play: Play) -> str:
    """
    Name: url; Scope: session; Depends: play.

    The manager's socket, for a program of this machine.
    """
    return play.lab.socket("h1")


@pytest.fixture(autouse=True)
def nothing_left(play: Play) -> Iterator[None]:
    """
    Name: nothing_left; Scope: function; Depends: play.

    What a program made is removed when its test is over, whatever came of it.
    """
    yield
    for kind in ("service", "secret", "config"):
        play.attempt("h1", f"docker {kind} rm $(docker {kind} ls -q)")
    play.attempt("h1", "docker node update --label-rm rack h2")
    play.attempt("h1", "docker rm -f $(docker ps -aq)")
    for host in ("h1", "h2"):
        play.until(host, "docker ps -q", lambda said: not said.strip())
    play.attempt("h1", "docker network prune -f")
    left = play.quietly("h1", "docker network ls --filter type=custom --format '{{json .Name}}'")
    names = {json.loads(line) for line in left.splitlines()}
    assert names <= {"docker_gwbridge", "ingress"}
