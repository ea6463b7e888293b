"""What meshnet has beyond Swarm, as a user types it: new data of secrets, Compose files, images.

Two hosts; a service with a task on each reads a secret, and says so when it is signalled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from lab_swarm import swarm_of

from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]
NAME = "mnbeyond"
PROGRAM = (
    "trap 'echo heard $(cat /run/secrets/word)' HUP; echo began $(cat /run/secrets/word); "
    "while :; do sleep 0.1; done"
)
STACK = """
name: shop
services:
  web:
    image: meshnet/web:1
    ports: ["8096:80"]
    depends_on:
      db: {condition: service_healthy}
      fill: {condition: service_completed_successfully}
    configs: [page]
  db:
    image: meshnet/tools:1
    command: sh -c 'sleep 2; touch /ready; sleep 1000'
    healthcheck: {test: "test -e /ready", interval: 500ms, retries: 30}
  fill:
    image: meshnet/tools:1
    command: "true"
    deploy: {mode: replicated-job}
configs: {page: {content: "${PAGE:-one}"}}
"""


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """
    Name: play; Scope: module; Depends: nothing.

    A swarm of two; removed also when a test fails.
    """
    with swarm_of(NAME) as made:
        made.until("h1", "docker node ls", lambda said: said.count(" Ready ") == 2)
        yield made


@pytest.fixture
def reader(play: Play) -> Iterator[Play]:
    """Name: reader; Scope: function; Depends: play. A secret, and a service with a task on both."""
    play.on("h1", "printf first | docker secret create word -")
    play.on(
        "h1",
        "docker service create -d --no-resolve-image --name reader --mode global --secret "
        "source=word,uid=7,gid=8,mode=0440 --stop-grace-period 1s --update-monitor 500ms "
        f'meshnet/tools:1 sh -c "{PROGRAM.replace("$", chr(92) + "$")}"',
    )
    play.until("h1", "docker service logs reader", lambda said: said.count("began first") == 2)
    yield play
    play.on("h1", "docker service rm reader")
    play.until("h1", "docker secret rm word 2>&1", lambda said: said.strip() == "word")


def containers(play: Play, host: str) -> str:
    return play.quietly(host, "docker ps -q --filter label=com.docker.swarm.service.name=reader")


def test_a_hot_secret_is_in_the_same_containers_and_they_are_told(reader: Play) -> None:
    before = [containers(reader, host) for host in ("h1", "h2")]
    at = json.loads(reader.on("h1", "docker secret inspect word"))[0]
    said = reader.on("h1", "printf second | meshnet secret update --hot --signal HUP word -")
    assert said.strip() == "secret word: rewritten in running containers of reader"
    heard = "heard second"
    reader.until("h1", "docker service logs reader", lambda said: said.count(heard) == 2)
    assert [containers(reader, host) for host in ("h1", "h2")] == before
    for host, container in zip(("h1", "h2"), before, strict=True):
        listed = reader.on(host, f"docker exec {container.strip()} ls -ln /run/secrets/word")
        assert re.match(r"-r--r----- +1 7 +8 ", listed)
    now = json.loads(reader.on("h1", "docker secret inspect word"))[0]
    assert now["ID"] == at["ID"]
    assert now["Version"]["Index"] > at["Version"]["Index"]
    assert now["UpdatedAt"] > at["UpdatedAt"]
    for host in ("h1", "h2"):
        found = "grep -rls second /run/meshnet /var/lib/meshnet /var/log 2>/dev/null || true"
        kept = [path for path in reader.on(host, found).split() if "/files/" not in path]
        assert kept == []


def test_another_update_rolls_the_service(reader: Play) -> None:
    said = reader.on("h1", "printf second | meshnet secret update word -")
    assert said.strip() == "secret word: rolled out by reader"
    began = "began second"
    reader.until("h1", "docker service logs reader", lambda said: said.count(began) == 2)
    state = "docker service inspect --format '{{.UpdateStatus.State}}' reader"
    reader.until("h1", state, lambda said: said.strip() == "completed")


def test_a_compose_file_is_deployed_in_order_and_docker_knows_it(play: Play) -> None:
    written = f"cat > /tmp/shop.yaml <<'EOF'\n{STACK}\nEOF"
    play.on("h1", written)
    deploy = "meshnet stack deploy -c /tmp/shop.yaml"
    try:
        plan = play.on("h1", f"{deploy} --dry-run")
        assert plan.count("+ create") == 5
        said = play.on("h1", deploy)
        lines = said.splitlines()
        assert lines[-1] == "Creating service shop_web"
        assert "Waiting for shop_db to be healthy" in lines
        assert "shop" in play.on("h1", "docker stack ls")
        play.until("h1", "docker stack ps shop", lambda said: said.count(" Running ") >= 2)
        assert play.on("h1", f"{deploy} --dry-run").count("unchanged") == 5
        assert play.on("h1", f"PAGE=two {deploy}").strip().endswith("(rolled out by shop_web)")
        completed = "docker service inspect --format '{{.UpdateStatus.State}}' shop_web"
        play.until("h1", completed, lambda said: said.strip() == "completed")
    finally:
        play.on("h1", "docker stack rm shop; rm -f /tmp/shop.yaml")
        play.until("h1", "docker stack ls --format '{{.Name}}'", lambda said: "shop" not in said)


def test_events_of_tasks_are_told_when_they_are_asked_for(play: Play) -> None:
    listen = "timeout 20 docker events --filter type=task --format '{{json .}}' > /tmp/told &"
    make = "docker service create -d --name brief --no-resolve-image meshnet/tools:1 sleep 1000"
    states = 'grep -o \'"state.new":"running"\' /tmp/told || true'
    try:
        play.on("h1", f"{listen} sleep 1; {make}")
        play.until("h1", states, lambda said: "running" in said)
        told = [json.loads(line) for line in play.on("h1", "cat /tmp/told").splitlines()]
        assert {each["Type"] for each in told} == {"task"}
        assert {each["Actor"]["Attributes"]["service"] for each in told} == {"brief"}
    finally:
        play.on("h1", "docker service rm brief; rm -f /tmp/told")


def test_an_image_goes_to_all_nodes_without_a_registry(play: Play) -> None:
    made = "docker commit -c 'LABEL fresh=1' $(docker create meshnet/tools:1 true) fresh:1"
    try:
        play.on("h1", made)
        said = play.on("h1", "meshnet image push fresh:1")
        assert re.search(r"^h1: has it already\nh2: loaded, [0-9.]+ MB$", said, re.MULTILINE)
        again = play.on("h1", "meshnet image push --node h2 fresh:1")
        assert again.strip() == "h2: has it already"
        play.on(
            "h1",
            "docker service create -d --no-resolve-image --name fresh --constraint "
            "node.hostname==h2 fresh:1 sleep 1000",
        )
        play.until("h1", "docker service ls", lambda said: "1/1" in said)
        assert "No such image" in play.attempt("h1", "meshnet image push nosuch:1 2>&1")[1]
        code, said = play.attempt("h1", "meshnet image push --node h9 fresh:1")
        assert code == 1
        assert said.startswith("meshnet: no such node: h9 (there is h1,")
    finally:
        play.on("h1", "docker service rm fresh; docker container prune -f; docker rmi fresh:1")
        play.attempt("h2", "sleep 2; docker rmi -f fresh:1")
