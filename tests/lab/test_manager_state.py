"""What a manager keeps, as its user types it: sealed, locked, renewed, by each docker CLI."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from docker_clis import distinct_clis
from lab_swarm import swarm_of

from meshnet_control.lab.play import Play, requests

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
NAME = "mnstate"
LOCKED = "Swarm is encrypted and needs to be unlocked before it can be used. Please use"
READY = "docker node ls --format '{{.Hostname}} {{.Status}} {{.TLSStatus}}'"
STARTED = "docker -H unix:///run/docker.sock ps -q | xargs docker inspect -f '{{.State.StartedAt}}'"
KEY = r"SWMKEY-1-[A-Za-z0-9+/]{43}"
WORDS = ("thesecretvalue", "theconfigvalue")


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """
    Name: play; Scope: module; Depends: nothing.

    Two hosts in a cluster and a service on both, seen from outside.
    """
    with swarm_of(NAME) as made:
        for kind, word in zip(("secret", "config"), WORDS, strict=True):
            made.on("h1", f"printf {word} | docker {kind} create {kind}1 -")
        made.on(
            "h1",
            "docker service create -q --name web --mode global -p 8080:80 --secret secret1 "
            "--config config1 meshnet/web:1",
        )
        made.until("client", "curl -sS -m 2 http://h1:8080/", lambda said: "sees" in said)
        yield made


def serves(play: Play) -> None:
    """Both hosts answer from outside."""
    for host in ("h1", "h2"):
        said = play.quietly("client", requests(f"http://{host}:8080/", 4))
        assert said.count("sees") == 4, said


def restart(play: Play) -> None:
    """The manager's process dies; who keeps it starts it again."""
    before = play.quietly("h1", "cat /run/meshnet/meshnet-manager.pid")
    play.quietly("h1", f"kill -9 {before}")
    play.until(
        "h1",
        "cat /run/meshnet/meshnet-manager.pid; docker info --format '{{.Swarm.LocalNodeState}}'",
        lambda said: said.split()[:1] != [before] and len(said.split()) == 2,
    )


def readable(play: Play) -> list[str]:
    """Files of the manager's state directory, but its key, in which a value can be read."""
    pattern = " ".join(f"-e {word}" for word in WORDS)
    _, said = play.attempt(
        "h1",
        "find $MESHNET_STATE_DIR -name docker -prune -o -name engine -prune -o "
        "-type f ! -name store.key -print0"
        f" | xargs -0 grep -al {pattern}",
    )
    return said.split()


def test_no_value_is_to_be_read_in_the_state_directory(play: Play) -> None:
    assert "store.db-wal" in play.quietly("h1", "ls $MESHNET_STATE_DIR")
    assert readable(play) == []
    play.on("h1", "printf theconfigvalue2 | docker config create gone - && docker config rm gone")
    assert readable(play) == []
    restart(play)
    assert readable(play) == []
    serves(play)


@pytest.fixture
def unlocked_after(play: Play) -> Iterator[None]:
    """
    Name: unlocked_after; Scope: function; Depends: play.

    Whatever a test locked is open for the next one, also when it failed.
    """
    yield
    code, said = play.attempt("h1", "docker swarm unlock-key -q")
    if code != 0 and LOCKED in said:
        key = play.notes["key"]
        play.quietly("h1", f"echo {key} | docker swarm unlock")
    play.until("h1", "docker swarm update --autolock=false", lambda said: "updated" in said)


@pytest.mark.usefixtures("unlocked_after")
@pytest.mark.parametrize("docker", distinct_clis())
def test_a_locked_manager_waits_for_its_key_and_its_node_serves_on(play: Play, docker: str) -> None:
    started = play.quietly("h1", STARTED)
    said = play.on("h1", f"{docker} swarm update --autolock=true")
    first = re.findall(KEY, said)
    assert len(first) == 1
    assert "docker swarm unlock" in said
    said = play.on("h1", f"{docker} swarm unlock-key --rotate")
    (key,) = re.findall(KEY, said)
    play.notes["key"] = key
    assert key != first[0]
    assert play.quietly("h1", f"{docker} swarm unlock-key -q") == key
    assert "Autolock Managers: true" in play.quietly("h1", f"{docker} info")
    restart(play)
    assert "Swarm: locked" in play.on("h1", f"{docker} info")
    code, said = play.attempt("h1", f"{docker} node ls")
    assert (code, LOCKED in said) == (1, True), said
    code, said = play.attempt("h1", f"{docker} swarm leave")
    assert (code, "Please unlock it first or use `--force`" in said) == (1, True), said
    serves(play)
    assert readable(play) == []
    for wrong, why in ((first[0], "invalid key provided"), ("nonsense", "invalid key string")):
        code, said = play.attempt("h1", f"echo {wrong} | {docker} swarm unlock")
        assert (code, why in said) == (1, True), said
    play.on("h1", f"echo {key} | {docker} swarm unlock")
    play.until("h1", READY, lambda said: said.count(" Ready Ready") == 2)
    serves(play)
    code, said = play.attempt("h1", f"echo {key} | {docker} swarm unlock")
    assert (code, "swarm is not locked" in said) == (1, True), said
    play.on("h1", f"{docker} swarm update --autolock=false")
    assert "no unlock key is set" in play.attempt("h1", f"{docker} swarm unlock-key")[1]
    restart(play)
    play.until("h1", READY, lambda said: said.count(" Ready Ready") == 2)
    assert play.quietly("h1", STARTED) == started


@pytest.mark.parametrize("docker", distinct_clis())
def test_a_root_is_rotated_and_every_node_follows(play: Play, docker: str) -> None:
    before = play.quietly("h1", f"{docker} swarm ca")
    token = play.quietly("h1", f"{docker} swarm join-token -q worker")
    rotate = f"{docker} swarm ca --rotate --cert-expiry 48h"
    said = play.on("h1", f"script -qec '{rotate}' /dev/null", timeout_s=60)  # on a terminal
    assert "desired root digest: sha256:" in said
    assert re.search(r"rotated TLS certificates:[^\n]*2/2 nodes", said), said
    assert re.search(r"rotated CA certificates:[^\n]*2/2 nodes", said), said
    after = play.quietly("h1", f"{docker} swarm ca")
    assert after != before
    assert after in said.replace("\r", "")
    assert sorted(play.quietly("h1", READY).splitlines()) == ["h1 Ready Ready", "h2 Ready Ready"]
    assert "Expiry Duration: 2 days" in play.quietly("h1", f"{docker} info")
    fresh = play.quietly("h1", f"{docker} swarm join-token -q worker")
    assert fresh.split("-")[2] != token.split("-")[2]
    for host in ("h1", "h2"):
        kept = play.quietly(host, "cat $MESHNET_STATE_DIR/ca.crt")
        assert kept == after
    serves(play)


def test_a_root_of_ones_own_and_a_node_that_was_away(play: Play) -> None:
    play.on(
        "h1",
        "openssl req -x509 -newkey rsa:2048 -nodes -days 730 -subj /CN=corporate "
        "-keyout /tmp/own.key -out /tmp/own.crt 2>/dev/null",
    )
    play.quietly("h2", "kill -STOP $(cat /run/meshnet/meshnetd.pid)")
    play.on("h1", "docker swarm ca --rotate -d --ca-cert /tmp/own.crt --ca-key /tmp/own.key")
    tls = "docker node ls --format '{{.Hostname}} {{.TLSStatus}}'"
    play.until("h1", tls, lambda said: "h2 Needs Rotation" in said)
    assert "Root Rotation In Progress: true" in play.on("h1", "docker info")
    play.quietly("h2", "kill -CONT $(cat /run/meshnet/meshnetd.pid)")
    play.until("h1", READY, lambda said: said.count(" Ready Ready") == 2)
    assert play.quietly("h1", "docker swarm ca") == play.quietly("h1", "cat /tmp/own.crt")
    assert "Root Rotation In Progress: false" in play.on("h1", "docker info")
    play.quietly("h1", "rm /tmp/own.key /tmp/own.crt")
    serves(play)


def test_a_manager_is_backed_up_lost_and_restored_and_its_workers_find_it_again(play: Play) -> None:
    file = "$MESHNET_STATE_DIR.backup"
    said = play.on("h1", f"meshnet backup {file}")
    assert "whoever reads it has every secret, the CA's key and the join tokens" in said
    assert play.quietly("h1", f"stat -c %a {file}") == "600"
    assert not any(word in play.quietly("h1", f"strings {file}") for word in WORDS)
    code, said = play.attempt("h1", f"meshnet backup {file}")
    assert (code, "is there already" in said) == (1, True), said
    code, said = play.attempt("h1", f"meshnet restore {file}")
    assert (code, "meshnet runs on this host: meshnet down, then" in said) == (1, True), said
    play.until("h1", "meshnet status", lambda said: ", the newest" in said)
    assert "not a manager" in play.attempt("h2", f"meshnet backup {file}")[1]
    before = {
        line: play.quietly("h1", line)
        for line in ("docker secret ls -q", "docker config ls -q", "docker service ls -q")
    }
    started = play.quietly("h2", STARTED)
    root = play.quietly("h1", "docker swarm ca")
    play.on("h1", "meshnet down")
    code, said = play.attempt("h1", f"meshnet restore {file}")
    assert (code, "docker swarm leave --force gives that up" in said) == (1, True), said
    play.quietly("h1", "rm -rf $MESHNET_STATE_DIR")  # the disk is another one
    assert "meshnet up goes on with it" in play.on("h1", f"meshnet restore {file}")
    play.on("h1", "meshnet up --no-context", timeout_s=60)
    play.until("h1", READY, lambda said: said.count(" Ready Ready") == 2)
    assert {line: play.quietly("h1", line) for line in before} == before
    assert play.quietly("h1", "docker swarm ca") == root
    running = "docker service ls --format '{{.Replicas}}'"
    play.until("h1", running, lambda said: said.strip() == "2/2")
    assert play.quietly("h2", STARTED) == started
    # What the store says of h1's task is as old as the copy: it is made anew.
    play.until("client", requests("http://h1:8080/", 4), lambda said: said.count("sees") == 4)
    serves(play)
    play.quietly("h1", f"rm {file}")
