"""A container as its user gave it, with the real CLI: what is shown of it, docker.sock in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from lab_swarm import swarm_of

from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]
NAME = "mncont"
IMAGE = "meshnet/tools:1"
SOCK = "/var/run/docker.sock"
ASKS = f"curl -s -m 20 --unix-socket {SOCK} http://docker"
STACK = f"""
version: "3.8"
services:
  eye:
    image: meshnet/tools:1
    command: sleep 1000
    volumes: ["{SOCK}:{SOCK}:ro"]
"""


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """
    Name: play; Scope: module; Depends: nothing.

    One host, a swarm and an overlay network; removed also when a test fails.
    """
    with swarm_of(NAME, 1) as made:
        made.on("h1", "docker network create -d overlay --attachable net")
        yield made


def container_of(play: Play, service: str) -> str:
    """ID of the container of a service with one task, once it runs."""
    listed = f"docker service ps --filter desired-state=running {service}"
    play.until("h1", listed, lambda said: "Running   " in said or " Running " in said)
    asked = f"docker ps -q --filter label=com.docker.swarm.service.name={service}"
    return play.until("h1", asked, lambda said: said.count("\n") == 1).strip()


def inspected(play: Play, container: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(play.on("h1", f"docker inspect {container}"))
    return found[0]


def test_docker_shows_what_was_typed(play: Play) -> None:
    try:
        play.on(
            "h1",
            "docker service create -d --name own --network net --init --entrypoint '/bin/sh -c' "
            "-e a.b=1 --host host.docker.internal:host-gateway --mount type=tmpfs,target=/t "
            "--user 1000 --read-only -w /tmp meshnet/tools:1 'sleep 1000; true' x",
        )
        task = container_of(play, "own")
        said = play.on("h1", f"docker ps --no-trunc --filter id={task} --format '{{{{.Command}}}}'")
        assert said == "\"/bin/sh -c 'sleep 1000; true' x\"\n"
        found = inspected(play, task)
        assert [found["Path"], *found["Args"]] == ["/bin/sh", "-c", "sleep 1000; true", "x"]
        assert found["Config"]["Entrypoint"] == ["/bin/sh", "-c"]
        assert found["Config"]["Cmd"] == ["sleep 1000; true", "x"]
        assert ".meshnet" not in json.dumps(found)
        assert [mount["Target"] for mount in found["HostConfig"]["Mounts"]] == ["/t"]
        assert ".meshnet" not in play.on("h1", f"docker diff {task}")
        inside = f"docker exec {task} "
        assert "docker-init" in play.on("h1", inside + "cat /proc/1/cmdline")
        gateway = play.on("h1", "ip -4 -o addr show docker_gwbridge").split()[3].partition("/")[0]
        assert f"{gateway}\thost.docker.internal\n" in play.on("h1", inside + "cat /etc/hosts")
        child = play.on("h1", inside + "cat /proc/1/task/1/children").split()[0]
        program = play.on("h1", inside + f'sh -c \'tr "\\0" " " < /proc/{child}/cmdline\'')
        assert program.startswith("/bin/sh -c sleep 1000; true x")
        given = play.on("h1", inside + f'sh -c \'tr "\\0" "\\n" < /proc/{child}/environ\'')
        assert "a.b=1" in given
    finally:
        play.on("h1", "docker service rm own")


def test_an_image_of_a_task_runs_without_meshnet(play: Play) -> None:
    try:
        play.on(
            "h1", "docker service create -d --name model --network net meshnet/tools:1 sleep 99"
        )
        task = container_of(play, "model")
        play.on("h1", f"docker commit {task} mine:1")
        play.on("h1", "docker run -d --name copy mine:1")
        assert "sleep 99" in play.on("h1", "docker top copy")
        assert "sleep" in play.on("h1", "docker ps --filter name=copy")
    finally:
        play.on("h1", "docker rm -f copy; docker rmi mine:1; docker service rm model")


def test_a_command_that_does_not_exist_is_refused_as_by_swarm(play: Play) -> None:
    try:
        play.on(
            "h1",
            "docker service create -d --name lost --network net --restart-condition none "
            "meshnet/tools:1 nope",
        )
        play.on("h1", "docker service update -d --entrypoint nope lost")
        asked = "docker service ps --no-trunc lost"
        said = play.until("h1", asked, lambda said: "Failed" in said)
        assert "starting container failed: failed to create shim task: OCI runtime create" in said
        assert 'exec: "nope": executable file not found in $PATH' in said
        listed = play.on(
            "h1", "docker ps -a --filter name=lost --format '{{.Status}} {{.Command}}'"
        )
        assert 'Created "nope' in listed
    finally:
        play.on("h1", "docker service rm lost")


def test_docker_sock_in_a_container_is_the_swarms_whatever_dies(play: Play) -> None:
    bind = f"--mount type=bind,src={SOCK},dst={SOCK}"
    sleeps = "meshnet/tools:1 sleep 1000"
    try:
        play.on("h1", f"docker service create -d --name wired --network net {bind} {sleeps}")
        play.on("h1", f"docker service create -d --name plain --network bridge {bind} {sleeps}")
        play.on(
            "h1",
            f"docker service create -d --name engine -l meshnet.engine-socket=true {bind} {sleeps}",
        )
        play.on("h1", f"docker run -d --name run1 -v {SOCK}:{SOCK}:ro {sleeps}")
        play.on("h1", f"docker run -d --name run2 {bind} {sleeps}")
        play.on("h1", f"cat > /tmp/eye.yml <<'E'{STACK}E\ndocker stack deploy -c /tmp/eye.yml s")
        tasks = [container_of(play, name) for name in ("wired", "plain", "s_eye")]
        all_of_them = [*tasks, "run1", "run2"]
        nodes = [f"docker exec {one} {ASKS}/nodes" for one in all_of_them]
        for asked in nodes:
            assert json.loads(play.on("h1", asked))[0]["Description"]["Hostname"] == "h1", asked
        engines = f"docker exec {container_of(play, 'engine')} {ASKS}/nodes"
        assert "This node is not a swarm manager" in play.on("h1", engines)
        for one in all_of_them:
            [point] = inspected(play, one)["Mounts"]
            assert (point["Source"], point["Destination"]) == (SOCK, SOCK)
            assert point["Propagation"] == "rprivate"
        assert inspected(play, "run1")["HostConfig"]["Binds"] == [f"{SOCK}:{SOCK}:ro"]
        direct = "docker -H unix:///run/docker.sock exec"
        for asked in nodes:  # it waits in the socket
            killed = "kill -9 $(cat /run/meshnet/meshnetd.pid); "
            said = play.on("h1", killed + asked.replace("docker exec", direct))
            assert json.loads(said)[0]["Description"]["Hostname"] == "h1", asked
        # Nobody is left who holds it.
        play.on(
            "h1", "kill -9 $(cat /run/meshnet/meshnet-supervisor.pid /run/meshnet/meshnetd.pid)"
        )
        for asked in nodes:
            again = asked.replace("docker exec", direct)
            play.until("h1", again, lambda said: '"Hostname":"h1"' in said)
    finally:
        play.on(
            "h1",
            "docker rm -f run1 run2; docker service rm wired plain engine; docker stack rm s",
        )
