"""A lab of a file: the six lessons on one lab, and what the lab's other words make of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from meshnet_control.lab import adapter
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
NAME = "mnlessons"
ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "docs/lessons").glob("[1-6]-*.md"))
OTHER = """
lans: {lan: 192.168.50.0/24, back: 192.168.61.0/24}
hosts:
  h1: {manager: true}
  h3: {lan: back}
  web: {lan: back, address: 192.168.61.7}
links:
  - between: [lan, back]
    loss: 1%
probes:
  - {name: three nodes, on: h1, run: docker node ls -q | wc -l, expect: "3"}
  - {name: by name, on: h3, run: getent hosts web, expect: 192.168.61.7}
  - {name: nobody, run: curl -m 2 http://h1:9/, fails: true, within: 1s}
  - {name: this fails, on: h1, run: "false", within: 0s}
"""


def meshnet(*words: str, good: bool = True) -> str:
    """What a command of this lab says; both outputs."""
    argv = [str(Path(sys.executable).with_name("meshnet")), "lab", *words]
    done = subprocess.run(
        argv, capture_output=True, text=True, cwd=ROOT, check=False,
        env={**os.environ, "MESHNET_LAB": NAME},
    )  # fmt: skip
    assert (done.returncode == 0) is good, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def lab():
    """
    Name: lab; Scope: module; Depends: nothing.

    The lessons' lab for all tests, removed also when one fails.
    """
    Lab(Layout(NAME)).down(lambda *_: None)
    meshnet("apply", "docs/lessons/lab.yaml")
    meshnet("check")
    yield Lab.known(Layout(NAME))
    Lab.known(Layout(NAME)).down(lambda *_: None)
    assert meshnet("status") == "the lab is not up\n"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_holds(lab, path):
    meshnet("play", str(path))


def test_the_same_file_changes_nothing(lab):
    before = adapter.inits(lab.layout)
    assert json.loads(meshnet("apply", "--format", "json", "docs/lessons/lab.yaml"))["steps"] == []
    assert adapter.inits(lab.layout) == before


def test_another_file_changes_what_differs(lab, tmp_path):
    file = tmp_path / "lab.yaml"
    file.write_text(OTHER)
    before = adapter.inits(lab.layout)
    told = json.loads(meshnet("apply", "--dry-run", "--format", "json", str(file)))["steps"]
    assert "h1: power off and unplug" not in told
    for line in (
        "LAN back: make",
        "web: join as a worker",
        "h2: leave the cluster",
        "h3: power off and unplug",
        "h3: join as a worker",
        "link lan back: loss 1%",
    ):
        assert line in told
    assert adapter.inits(lab.layout) == before
    meshnet("apply", str(file))
    after = adapter.inits(lab.layout)
    assert {name: after[name] for name in ("h1", "client")} == {
        name: before[name] for name in ("h1", "client")
    }
    assert after.keys() == {"h1", "h3", "web", "client"}
    said = json.loads(meshnet("check", "--format", "json", good=False))
    assert {each["name"]: each["holds"] for each in said} == {
        "three nodes": True, "by name": True, "nobody": True, "this fails": False,
    }  # fmt: skip
    listed = json.loads(meshnet("status", "--format", "json"))
    assert {each["machine"]: each["lan"] for each in listed if each["up"]} == {
        "h1": "lan", "h3": "back", "web": "back", "client": "lan",
    }  # fmt: skip
    assert meshnet("exec", "--all", "hostname") == "h1: h1\nh3: h3\nweb: web\n"
    drawn = json.loads(meshnet("graph", "--format", "json"))
    assert drawn["impaired"] == [{"ends": ["lan", "back"], "what": "loss 1%"}]
    assert [box["role"] for box in drawn["boxes"]] == ["manager", "worker", "worker", ""]


def test_the_last_manager_stays(lab, tmp_path):
    file = tmp_path / "lab.yaml"
    file.write_text(OTHER.replace("h1: {manager: true}", "h1: {lan: back, manager: true}"))
    assert "would end" in meshnet("apply", str(file), good=False)


def test_a_saved_lab_comes_back(lab, tmp_path):
    file = tmp_path / "lab.tar"
    made = (
        "docker network create -d overlay kept && echo x | docker secret create word - &&"
        " docker node update --label-add room=blue h3 && docker service create -d"
        " --no-resolve-image --name stays --network kept meshnet/web:1"
    )
    meshnet("exec", "h1", "--", "sh", "-c", made)
    meshnet("save", str(file))
    assert "is there already" in meshnet("save", str(file), good=False)
    assert "a lab is up" in meshnet("restore", str(file), good=False)
    meshnet("down")
    meshnet("restore", str(file))
    play = Play(Lab.known(Layout(NAME)))
    nodes = play.quietly("h1", "docker node ls --format '{{.Hostname}} {{.Status}}'").splitlines()
    assert sorted(nodes) == sorted(f"{host.name} Ready" for host in play.lab.layout.hosts)
    labels = play.quietly("h1", "docker node inspect -f '{{.Spec.Labels}}' h3")
    assert labels == "map[room:blue]"
    assert "word" in play.quietly("h1", "docker secret ls")
    replicas = "docker service ls -f name=stays --format '{{.Replicas}}'"
    play.until("h1", replicas, lambda said: said.strip() == "1/1", timeout_s=60)
