"""The docker CLI in a container that has a manager's docker.sock, and docker-compose beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from program_image import program

from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]
COMPOSE = """
version: "2.4"
services:
  front:
    image: meshnet/web:1
    ports: ["8096:80"]
    networks: [inner]
    stop_grace_period: 1s
  back:
    image: meshnet/tools:1
    networks: [inner]
    depends_on: [front]
    stop_grace_period: 1s
networks: {inner: {}}
"""
MOUNT = "/var/run/docker.sock:/var/run/docker.sock"


def test_the_cli_in_a_container(play: Play, tmp_path: Path) -> None:
    found = shutil.which("docker", path="/usr/bin:/usr/local/bin")
    assert found is not None
    (tmp_path / "cli.tar").write_bytes(program(os.path.realpath(found)))
    play.on("h1", f"docker import {tmp_path}/cli.tar programs/docker:1")
    run = f"docker run --rm -v {MOUNT} programs/docker:1 docker"
    assert play.on("h1", f"{run} node ls").count(" Ready ") == 2
    play.on("h1", f"{run} service create -d --name web --replicas 2 meshnet/web:1")
    play.until("h1", f"{run} service ls", lambda said: "2/2" in said)
    play.on(
        "h1",
        "docker service create -d --name asks --constraint node.role==manager --mount "
        "type=bind,source=/var/run/docker.sock,target=/var/run/docker.sock "
        "--no-resolve-image programs/docker:1 sh -c 'docker service ls; exec sleep 1000'",
    )
    play.until("h1", "docker service logs --raw asks", lambda said: "2/2" in said)
    play.on("h1", f"{run} service rm web asks")


@pytest.mark.clients("docker-compose")
def test_docker_compose(play: Play, tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(COMPOSE)
    compose = f"docker-compose --ansi never -p composed --project-directory {tmp_path}"
    try:
        play.on("h1", f"{compose} up -d")
        play.until("client", "curl -sS -m 3 h1:8096", lambda said: "web:1" in said)
        assert play.on("h1", f"{compose} ps").count(" Up ") == 2
        inside = play.on("h1", f"{compose} exec -T back curl -sS -m 3 http://front/")
        assert "web:1" in inside
        play.on("h1", f"{compose} up -d --scale back=2")
        assert play.on("h1", f"{compose} ps -q back").count("\n") == 2
        assert play.attempt("h1", f"{compose} logs --tail 5 front")[0] == 0
    finally:
        play.on("h1", f"{compose} down -t 1")
    assert "composed" not in play.on("h1", "docker network ls")
